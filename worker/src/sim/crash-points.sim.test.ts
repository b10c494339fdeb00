/**
 * Every point of one checkpoint where a process may die, one run each: from the first trigger to
 * the word that it is published. Nothing else goes wrong, so the points are those of the run
 * without a death, and none is left to chance.
 */
import './quiet-zstd.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hits } from '../rehearsal/seeded.ts';
import type { Role } from './actions.ts';
import { type CrashPoint, FAULTS_END_MS, type Scenario, scenarioOf } from './scenario.ts';
import { runScenario } from './world.ts';

/** What a checkpoint is made of; records and deliveries go on beside it. */
const OF_A_CHECKPOINT = /trigger|barrier|drain|ack|put |create (manifest|log)|notify/;
/** The one that is looked at: there are deltas before it. */
const CHECKPOINT = 3;

for (const selectiveReplay of [false, true]) {
  const how = selectiveReplay ? 'lost tasks alone start again' : 'all start again';
  test(`a crash at every point of a checkpoint, ${how}`, async (t) => {
    const scenario = calm(selectiveReplay);
    const points = await pointsOf(scenario);
    const kinds = new Set(points.map(({ role, point }) => `${role}: ${point}`));
    for (const needed of ['before create log checkpoint', 'after create log checkpoint']) {
      assert.ok(kinds.has(`jobmanager: ${needed}`), needed);
    }
    for (const needed of [
      'told to trigger',
      'some barriers came',
      'after put delta',
      'after ack',
    ]) {
      assert.ok(kinds.has(`taskmanager: ${needed}`), needed);
    }
    for (const crash of points) {
      const hits = new Hits();
      const { role, point, nth } = crash;
      try {
        await runScenario({ ...scenario, crashPoints: [crash] }, hits);
      } catch (cause) {
        throw new Error(`${role} died ${point}, time ${nth}: ${String(cause)}`, { cause });
      }
      assert.equal(hits.counts.get(`crash of ${role}: ${point}`), 1, `${point} ${nth}`);
    }
    t.diagnostic(`${points.length} crashes at ${kinds.size} points: ${[...kinds].join(', ')}`);
  });
}

function calm(selectiveReplay: boolean): Scenario {
  const scenario = scenarioOf(2);
  scenario.plan.checkpointing = {
    ...scenario.plan.checkpointing,
    intervalMs: 1_000,
    minPauseMs: 0,
  };
  scenario.plan.selectiveReplay = selectiveReplay;
  return {
    ...scenario,
    ...{ users: 12, events: 120, productionMs: FAULTS_END_MS / 2, newSplitAtMs: null },
    ...{ parallelism: 2, taskManagers: 2, jobManagers: 2, frameDelayMs: 10 },
    ...{ webhookMayFail: false, profileMayFail: false },
    storeFaults: { slow: 0, throws: 0, lostReply: 0 },
    actions: [],
    crashPoints: [],
  };
}

/** Of the run without a death: where its third checkpoint passed, and how often before. */
async function pointsOf(scenario: Scenario): Promise<CrashPoint[]> {
  const counts = new Map<string, number>();
  const found: CrashPoint[] = [];
  let published = 0;
  const trace = (line: string) => {
    const [, name, point] = /^\S+ ([jt]m)-\d+: (.*)$/.exec(line) ?? [];
    if (name === undefined || point === undefined) return;
    const role: Role = name === 'jm' ? 'jobmanager' : 'taskmanager';
    const nth = (counts.get(`${role} ${point}`) ?? 0) + 1;
    counts.set(`${role} ${point}`, nth);
    const isNext = published === CHECKPOINT - 1 && OF_A_CHECKPOINT.test(point);
    // The word of it comes after its record.
    const isLast = published === CHECKPOINT && point === 'told to notify';
    if (isNext || isLast) found.push({ role, point, nth });
    if (point === 'after create log checkpoint') published++;
  };
  await runScenario(scenario, new Hits(), { trace });
  return found;
}
