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
import {
  answered,
  checkpointsGoOn,
  FaultWindows,
  highestRss,
  printRun,
  SpareTraffic,
  waiting,
  windowFigures,
} from './fault-windows.ts';

const PROCESS_BYTES = 2 * 1024 ** 3;
const SEED = 12;
const USERS = 200;

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
      seed: SEED,
      users: USERS,
      eventsPerUser: 100,
      durationMs: 80_000,
      arrivalShare: 0.2,
      need: null,
      job: () => ({
        webhook: { timeout: '2s', maxBackoff: '2s' },
        taskManager: { resources: { limits: { memory: '2Gi' } } },
      }),
      nemesis: async (stage) => {
        const { receiver } = stage;
        const traffic = new SpareTraffic(stage, SEED, USERS);
        const promised = [checkpointsGoOn(stage), waiting(stage, 'outbox')];
        await traffic.round();
        await wait(4_000);
        await windows.during({
          name: 'down',
          ms: 60_000,
          on: () => receiver.down(),
          off: () => receiver.up(),
          promised,
          traffic,
        });
        // A good answer is 204: a 200 is one whose body never ended.
        for (const [fault, status] of [
          ['429', 429],
          ['hang', 200],
        ] as const) {
          await wait(2_000);
          const on = () => {
            receiver.fault = fault;
          };
          const off = () => {
            receiver.fault = 'none';
            receiver.releaseHung();
          };
          const all = [...promised, answered(stage, status)];
          await windows.during({ name: fault, ms: 6_000, on, off, promised: all, traffic });
        }
      },
    });
    const verdict = judge(result.history);
    const figures = windows.all.map((window) => windowFigures(result.history, window));
    printRun(result, verdict, figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.equal(figures.length, 3);
    assert.ok(highestRss(result.history) <= PROCESS_BYTES);
  });
});
