import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseTestFile } from './test-file.ts';

const faultsOf = (text: string) =>
  parseTestFile(text).faults.map(
    ({ line, column, message }) => `${line}:${column}: ${message.split(':')[0]}`,
  );

describe('a file of tests', () => {
  it('becomes one timeline per test, shared profiles first', () => {
    const { file } = parseTestFile(`
job: other.yaml
profiles: { u: 404 }
tests:
  - name: short
    events: [{ user_id: u }]
    expect: { repeats: 0 }
  - name: long
    profiles: { v: { profile: { a: 1 } } }
    steps: [ { wait: 1h }, checkpoint, crash: , { webhook: down }, { raw: x }, { expect: {} } ]
`);
    assert.equal(file?.job, 'other.yaml');
    const steps = file.tests.map(({ steps }) => steps.map((step) => step.do));
    assert.deepEqual(steps, [
      ['profiles', 'event', 'expect'],
      ['profiles', 'profiles', 'wait', 'checkpoint', 'crash', 'webhook', 'event', 'expect'],
    ]);
    const [, , wait] = file.tests[1]!.steps;
    assert.ok(wait?.do === 'wait' && wait.ms === 3_600_000 && wait.line === 10);
  });

  it('reports every fault where it stands, with the name that was meant', () => {
    const faults = faultsOf(`tests:
  - name: one
    steps:
      - evnt: {}
      - wait: 10 minuts
      - webhook: ok
      - { wait: 1s, crash: }
      - expect: { deliveris: [], state: { u: 5 } }
  - expect: { repeats: no }
  - { name: nothing, events: [] }
`);
    assert.deepEqual(faults, [
      '4:15: evnt is not known here',
      '5:15: "10 minuts" is not a duration',
      '6:18: webhook is an HTTP status, down (refused) or no-reply (arrives, no answer)',
      '7:9: a step is one of event, raw, wait, profiles, webhook, checkpoint, crash, expect',
      '8:30: deliveris is not known here',
      '8:46: tests.0.steps.4.expect.state.u must be an object',
      '9:5: a test needs a name',
      '9:24: repeats is a number',
      '10:5: expects nothing',
    ]);
    const first = parseTestFile('tests: [{ name: x, steps: [{ evnt: {} }], expect: {} }]').faults;
    assert.match(first[0]!.message, /did you mean event\?/);
    assert.deepEqual(faultsOf('tests: []'), ['1:8: tests is empty']);
    assert.match(faultsOf('tests: [')[0]!, /^1:\d+: YAML$/);
    assert.deepEqual(faultsOf('5').slice(0, 1), ['1:1: the file must be an object']);
  });
});
