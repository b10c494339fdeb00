/**
 * The promise: a Profile API that is down, slow, wrong or endless holds up only the users that wait
 * for it. Nothing is lost, known users go on, checkpoints complete meanwhile (I2, I8, I10).
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { violationLines } from '../exactly-once/report.ts';
import { runChecked } from '../exactly-once/run.ts';
import { judge } from '../exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { FaultWindows, highestRss, printRun, windowFigures } from './fault-windows.ts';

const PROCESS_BYTES = 2 * 1024 ** 3;

describe('a broken Profile API', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('down for 30 s, slow, wrong JSON, 100 MB: nothing lost, checkpoints go on', async () => {
    const windows = new FaultWindows();
    const result = await runChecked(broker, {
      name: 'profile-api',
      seed: 11,
      users: 300,
      eventsPerUser: 60,
      durationMs: 66_000,
      // New users must come while each fault is on: only they need the API.
      arrivalShare: 0.9,
      need: null,
      job: () => ({
        profileApi: { timeout: '1s' },
        taskManager: { resources: { limits: { memory: '2Gi' } } },
      }),
      nemesis: async ({ profiles }) => {
        const up = () => {
          profiles.fault = 'none';
        };
        await wait(4_000);
        await windows.during(
          'down',
          30_000,
          () => profiles.down(),
          () => profiles.up(),
        );
        for (const fault of ['slow', 'wrong-json', 'huge'] as const) {
          await wait(2_000);
          const on = () => {
            profiles.fault = fault;
          };
          await windows.during(fault, 6_000, on, up);
        }
      },
    });
    const verdict = judge(result.history);
    const figures = windows.all.map((window) => windowFigures(result.history, window));
    printRun(result, verdict, figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    for (const one of figures) {
      assert.ok(one.checkpoints >= one.due / 2, `${one.name}: checkpoints stopped`);
      assert.ok(one.delivered > 0, `${one.name}: users already known were held up`);
      assert.ok(one.maxParked > 0, `${one.name}: no event waited, so the fault tested nothing`);
    }
    assert.ok(highestRss(result.history) <= PROCESS_BYTES);
  });
});
