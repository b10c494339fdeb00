/**
 * The promise: one user near 16 MB among 10,000 small ones costs its own bytes. Its state is exact,
 * checkpoints go on, and the TaskManager stays within its memory (I1, I7, I10).
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { ServedUser } from '../exactly-once/history.ts';
import { profileModel } from '../exactly-once/profile-model.ts';
import { violationLines } from '../exactly-once/report.ts';
import { runChecked } from '../exactly-once/run.ts';
import { judge } from '../exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import {
  checkpointsGoOn,
  FaultWindows,
  highestRss,
  printRun,
  windowFigures,
} from './fault-windows.ts';

const PROCESS_BYTES = 2 * 1024 ** 3;
const BIG_USER = 'user-big';
/** 100 of them are 15.6 MB: below maxBytesPerUser, so that nothing is cut off. */
const BIG_EVENT_CHARS = 156_000;
const BIG_EVENTS = 40;

function bigEvent(seq: number): string {
  const pad = String(Math.abs(seq % 10)).repeat(BIG_EVENT_CHARS);
  return `{"user_id":"${BIG_USER}","seq":${seq},"triggerable":true,"pad":"${pad}"}`;
}

const BIG_START: ServedUser = {
  profile: '{"country":"US"}',
  visit: '{"event_count":100}',
  history: Array.from({ length: 100 }, (_, n) => bigEvent(n - 100)),
};

describe('one user at 16 MB among 10,000', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('keeps its state exact, checkpoints on time, and memory within the budget', async () => {
    const windows = new FaultWindows();
    const others = profileModel(14);
    const result = await runChecked(broker, {
      name: 'big-user',
      seed: 14,
      users: 10_000,
      eventsPerUser: 4,
      durationMs: 45_000,
      need: null,
      model: (user, fetchNo) => (user === BIG_USER ? BIG_START : others(user, fetchNo)),
      job: () => ({
        profileApi: { timeout: '10s' },
        webhook: { timeout: '20s' },
        taskManager: { resources: { limits: { memory: '2Gi' } } },
      }),
      nemesis: async (stage) => {
        const send = async () => {
          for (let seq = 1; seq <= BIG_EVENTS; seq++) {
            await stage.producer.send([{ user: BIG_USER, seq, partition: 0, raw: bigEvent(seq) }]);
            await wait(1_000);
          }
        };
        await windows.during({
          name: 'big user',
          ms: 2_000,
          on: send,
          off: () => undefined,
          promised: [checkpointsGoOn(stage)],
        });
      },
    });
    const verdict = judge(result.history);
    const figures = windows.all.map((window) => windowFigures(result.history, window));
    printRun(result, verdict, figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.equal(result.history.meta.dump?.length, 10_001);
    assert.ok(highestRss(result.history) <= PROCESS_BYTES, 'over its memory budget');
  });
});
