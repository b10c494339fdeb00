/**
 * The promise: an edited script takes over at a barrier, in all tasks at once and without a
 * restart; a broken one is refused by name and the old one stays, also through a crash (P34).
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { Acked, CheckpointFact, History } from '../exactly-once/history.ts';
import { Killer } from '../exactly-once/killer.ts';
import { runChecked } from '../exactly-once/run.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { untilSeen } from './fault-windows.ts';

const EVEN = 'event.seq % 2 == 0';
const ODD = 'event.seq % 2 == 1';
const BROKEN = 'event.seq % 2 == (';

async function editScript(jobFile: string, from: string, to: string): Promise<void> {
  const text = await readFile(jobFile, 'utf8');
  assert.ok(text.includes(from));
  await writeFile(jobFile, text.replace(from, to));
}

/** The first checkpoint with another script than the one before it, and how many such there are. */
function switches(checkpoints: readonly CheckpointFact[]): CheckpointFact[] {
  const withScript = checkpoints.filter((one) => one.ledgers.length > 0);
  return withScript.filter((one, index) => {
    const before = withScript[index - 1];
    return before !== undefined && before.scriptVersion !== one.scriptVersion;
  });
}

/** Every event judged by the script in force at its offset, in each partition. */
function checkVerdicts(history: History, at: CheckpointFact): void {
  const delivered = new Set(history.receipts.map((one) => `${one.user}/${one.seq}`));
  const isOld = (event: Acked) => event.offset < (at.positions[String(event.partition)] ?? 0);
  const wrong = history.acked.filter((event) => {
    const expected = isOld(event) ? event.seq % 2 === 0 : event.seq % 2 === 1;
    return expected !== delivered.has(`${event.user}/${event.seq}`);
  });
  assert.deepEqual(
    wrong.slice(0, 5).map((event) => `${event.user}/${event.seq} at ${event.offset}`),
    [],
    `${wrong.length} events were not judged by the script in force at their offset`,
  );
  assert.ok(history.acked.some(isOld) && !history.acked.every(isOld));
}

describe('a changed filter script', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('takes over at one barrier; a broken one is refused and the old one stays', async () => {
    const seen = { refusal: '', pidAtSwitch: 0, pidBefore: 0, attempts: 0 };
    const result = await runChecked(broker, {
      name: 'script-change',
      seed: 15,
      users: 100,
      eventsPerUser: 100,
      durationMs: 28_000,
      arrivalShare: 0.1,
      need: null,
      job: () => ({ filter: { language: 'aviator', script: EVEN } }),
      nemesis: async ({ pipeline, jobFile, watch, kills }) => {
        await wait(6_000);
        seen.pidBefore = pipeline.last?.pid ?? 0;
        await editScript(jobFile, EVEN, ODD);
        const switched = () => switches(watch.checkpoints).length > 0;
        await untilSeen('edit', [{ what: 'a checkpoint with the new script', seen: switched }]);
        seen.pidAtSwitch = pipeline.last?.pid ?? 0;
        seen.attempts = new Set(pipeline.samples.flatMap(attemptsOf)).size;
        await editScript(jobFile, ODD, BROKEN);
        const log = join(pipeline.stateDir, 'logs', 'jobmanager.log');
        const refused = async () => {
          seen.refusal = (await pipeline.output()) + (await readFile(log, 'utf8'));
          // The caret points at what is wrong, so the script itself is in the message.
          return seen.refusal.includes(BROKEN);
        };
        await untilSeen('broken edit', [{ what: 'a refusal that quotes it', seen: refused }]);
        // Time for it to take over after all.
        await wait(4_000);
        const plan = { seed: 15, randomKills: 1, phases: [], durationMs: 500 };
        await new Killer(pipeline, plan, kills).run();
      },
    });
    for (const line of result.trouble) console.log(`trouble: ${line}`);
    const { history } = result;
    const changed = switches(history.checkpoints);
    console.log(
      `switched at checkpoint ${changed[0]?.checkpointId}, ${history.receipts.length} receipts, ` +
        `killed once after the refusal, restored checkpoint ${history.kills[0]?.restored}`,
    );
    assert.deepEqual(result.trouble, []);
    assert.equal(changed.length, 1, 'one switch, and none by the broken script or the restore');
    checkVerdicts(history, changed[0]!);
    assert.equal(seen.pidAtSwitch, seen.pidBefore, 'the process went on');
    assert.equal(seen.attempts, 1, 'no attempt but the first');
    assert.ok(seen.refusal.includes(BROKEN), 'the refusal quotes the broken script');
  });
});

function attemptsOf(sample: History['samples'][number]): number[] {
  return sample.subtasks.map((one) => one.attempt);
}
