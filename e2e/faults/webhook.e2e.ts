/**
 * The promise: a webhook that is down, throttles or hangs delays deliveries and nothing else. None
 * is lost, each user's order holds, checkpoints complete meanwhile (I2, I4, I10).
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

describe('a broken webhook', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('down for 60 s, 429, hanging: nothing lost, order kept, checkpoints go on', async () => {
    const windows = new FaultWindows();
    const result = await runChecked(broker, {
      name: 'webhook',
      seed: 12,
      users: 200,
      eventsPerUser: 100,
      durationMs: 80_000,
      arrivalShare: 0.2,
      need: null,
      job: () => ({
        webhook: { timeout: '2s', maxBackoff: '2s' },
        taskManager: { resources: { limits: { memory: '2Gi' } } },
      }),
      nemesis: async ({ receiver }) => {
        const off = () => {
          receiver.fault = 'none';
          receiver.releaseHung();
        };
        await wait(4_000);
        await windows.during(
          'down',
          60_000,
          () => receiver.down(),
          () => receiver.up(),
        );
        for (const fault of ['429', 'hang'] as const) {
          await wait(2_000);
          const on = () => {
            receiver.fault = fault;
          };
          await windows.during(fault, 6_000, on, off);
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
      assert.ok(one.maxOutbox > 0, `${one.name}: no delivery waited, so the fault tested nothing`);
    }
    // A good answer is 204: a 200 is one whose body never ended.
    const statuses = new Set(result.history.receipts.map((one) => one.status));
    assert.ok(statuses.has(429) && statuses.has(200), 'both faults must have met a delivery');
    assert.ok(highestRss(result.history) <= PROCESS_BYTES);
  });
});
