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
const SEED = 11;
const USERS = 300;

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
      seed: SEED,
      users: USERS,
      eventsPerUser: 60,
      durationMs: 66_000,
      // New users must come while each fault is on: only they need the API.
      arrivalShare: 0.9,
      need: null,
      job: () => ({
        profileApi: { timeout: '1s' },
        taskManager: { resources: { limits: { memory: '2Gi' } } },
      }),
      nemesis: async (stage) => {
        const { profiles } = stage;
        const traffic = new SpareTraffic(stage, SEED, USERS);
        const promised = [checkpointsGoOn(stage), answered(stage, 204), waiting(stage, 'parked')];
        await traffic.round();
        await wait(4_000);
        await windows.during({
          name: 'down',
          ms: 30_000,
          on: () => profiles.down(),
          off: () => profiles.up(),
          promised,
          traffic,
        });
        for (const fault of ['slow', 'wrong-json', 'huge'] as const) {
          await wait(2_000);
          const on = () => {
            profiles.fault = fault;
          };
          const off = () => {
            profiles.fault = 'none';
          };
          await windows.during({ name: fault, ms: 6_000, on, off, promised, traffic });
        }
      },
    });
    const verdict = judge(result.history);
    const figures = windows.all.map((window) => windowFigures(result.history, window));
    printRun(result, verdict, figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.equal(figures.length, 4);
    assert.ok(highestRss(result.history) <= PROCESS_BYTES);
  });
});
