/** The real slot under virtual time, beyond what config/samples/demo.tests.yaml shows. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadPlanFile } from '../plan/plan-file.ts';
import { realEnv } from '../runtime/env.ts';
import type { Defect } from './rehearsed-job.ts';
import { runTest } from './run-test.ts';
import { parseTestFile } from './test-file.ts';

const SAMPLES = new URL('../../../config/samples/', import.meta.url);

async function run(sample: string, text: string, defect?: Defect) {
  const path = fileURLToPath(new URL(`${sample}.yaml`, SAMPLES));
  const { plan } = await loadPlanFile(path);
  const { file, faults } = parseTestFile(text);
  assert.ok(plan && file, JSON.stringify(faults));
  return Promise.all(file.tests.map((test) => runTest(plan, test, realEnv, defect)));
}

describe('a rehearsed job', () => {
  it('shows what differs, by the line that expected it, and goes on', async () => {
    const [outcome] = await run(
      'demo',
      `profiles: { ann: { profile: { country: US } } }
tests:
  - name: wrong
    steps:
      - event: { user_id: ann, event_name: click, triggerable: true }
      - expect: { deliveries: [] }
      - expect: { state: { ann: { visit: { event_count: 7 } } } }
`,
    );
    assert.equal(outcome?.passed, false);
    assert.deepEqual(
      outcome.failures.map(({ line, differences }) => [line, differences.map(({ path }) => path)]),
      [
        [6, ['deliveries[0]']],
        [7, ['state.ann.visit.event_count']],
      ],
    );
    assert.equal(outcome.deliveries, 1);
  });

  it('repeats a delivery whose answer was lost, in one attempt and after a crash', async () => {
    const [outcome] = await run(
      'demo',
      `profiles: { ann: { profile: { country: US } } }
tests:
  - name: no reply
    steps:
      - webhook: no-reply
      - event: { user_id: ann, event_name: click, triggerable: true }
      - checkpoint
      - crash
      - webhook: 200
      - wait: 2m
      - crash
      - crash
      - expect: { deliveries: [{ userId: ann }], deadLetters: [] }
      - expect: { state: { ann: { visit: { event_count: 1 } } } }
`,
    );
    assert.deepEqual(outcome?.failures, []);
    assert.ok(outcome.repeats >= 3, `${outcome.repeats} repeats`);
  });

  it('is red with a checkpoint that forgets its outbox, or the place of the source', async () => {
    const text = readFileSync(new URL('demo.tests.yaml', SAMPLES), 'utf8');
    const forgotten = await run('demo', text, (snapshot) => ({ ...snapshot, volatile: null }));
    const skipping = await run('demo', text, (snapshot) => ({
      ...snapshot,
      splits: snapshot.splits.map((one) => ({ ...one, offset: one.offset + 1 })),
    }));
    const failedIn = (outcomes: typeof forgotten) =>
      outcomes.filter(({ passed }) => !passed).map(({ name }) => name.split(' ', 4).join(' '));
    assert.deepEqual(failedIn(forgotten), ['what the webhook has']);
    assert.deepEqual(failedIn(skipping), ['a crash after the']);
  });

  it('sends what a receiver refuses for good to the dead letter, after no retry', async () => {
    const [outcome] = await run(
      'demo',
      `profiles: { ann: { profile: { country: US } } }
tests:
  - name: refused
    steps:
      - webhook: 400
      - event: { user_id: ann, event_name: click, triggerable: true }
      - expect:
          deliveries: []
          deadLetters: [{ userId: ann, stage: action, record: { user: { country: US } } }]
`,
    );
    assert.deepEqual(outcome?.failures, []);
  });

  it('runs a job that is sized for a cluster, and waits of a year', async () => {
    const [outcome] = await run(
      'large',
      `tests:
  - name: large
    steps:
      - event: { user_id: ann, event_name: click, triggerable: true }
      - wait: 365d
      - event: { user_id: ann, event_name: click, triggerable: true }
      - checkpoint
      - crash
      - expect: { state: { ann: { history: [{ event_name: click }] } } }
`,
    );
    assert.deepEqual(outcome?.failures, []);
    assert.ok(outcome.virtualMs >= 365 * 86_400_000);
  });
});
