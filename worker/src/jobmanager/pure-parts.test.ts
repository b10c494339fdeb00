import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import type { RestartStrategyPlan } from '../plan/job-plan.ts';
import type { SplitPosition } from '../source/source.ts';
import { assignSlots, keyGroupRanges, overlapping, splitsBySubtask } from './assign.ts';
import { JobStateMachine } from './job-state.ts';
import { NO_RESTARTS, onFailure } from './restart-strategy.ts';
import {
  addHeld,
  advance,
  firstSplits,
  hasHolds,
  release,
  restoredSplits,
  unknownSplits,
} from './split-tracker.ts';

test("key-group ranges are Flink's: floor(kg * p / max) names the owner", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 32768 }), fc.nat(), (max, seed) => {
      const parallelism = 1 + (seed % Math.min(max, 300));
      const ranges = keyGroupRanges(parallelism, max);
      let next = 0;
      for (const [subtask, range] of ranges.entries()) {
        assert.equal(range.first, next);
        for (const group of [range.first, range.last]) {
          assert.equal(Math.floor((group * parallelism) / max), subtask);
        }
        next = range.last + 1;
      }
      assert.equal(next, max);
    }),
    { seed: 1, numRuns: 300 },
  );
  assert.throws(() => keyGroupRanges(5, 4), { code: 'PARALLELISM' });
});

test('subtasks go over all TaskManagers in turn, whoever registered first', () => {
  const hosts = [
    { id: 'c', slots: 1 },
    { id: 'a', slots: 3 },
    { id: 'b', slots: 2 },
  ];
  const where = (parallelism: number) =>
    assignSlots(parallelism, hosts).map(({ host, slot }) => `${host.id}${slot}`);
  assert.deepEqual(where(6), ['a0', 'b0', 'c0', 'a1', 'b1', 'a2']);
  assert.deepEqual(where(2), ['a0', 'b0']);
  hosts.reverse();
  assert.deepEqual(where(6), ['a0', 'b0', 'c0', 'a1', 'b1', 'a2']);
  assert.equal(where(7).length, 6);
  assert.deepEqual(assignSlots(3, []), []);
});

test('a rescaled task reads every snapshot that holds some of its groups', () => {
  const old = keyGroupRanges(4, 128).map((range) => ({ range }) as SubtaskSnapshot);
  const wanted = keyGroupRanges(3, 128)[1] ?? { first: 0, last: 0 };
  assert.deepEqual(
    overlapping(old, wanted).map((snapshot) => snapshot.range.first),
    [32, 64],
  );
});

function found(count: number) {
  return Array.from({ length: count }, (_, partition) => ({
    id: `t-${partition}`,
    sourceId: 'topic',
    partition,
  }));
}

test('splits spread evenly and stay where they are when more are found', () => {
  const positions = firstSplits(found(7), () => 0).positions;
  const tasks = splitsBySubtask(positions, 3);
  assert.deepEqual(
    tasks.map((list) => list.map((position) => position.split.index)),
    [
      [0, 3, 6],
      [1, 4],
      [2, 5],
    ],
  );
});

const at = (position: SplitPosition | undefined, offset: number): SplitPosition => {
  assert.ok(position);
  return { ...position, offset, clock: 5 };
};

test('P26: a later split is held at earliest until the older ones passed their ends', () => {
  let state = firstSplits(found(2), (split) => split.index * 10);
  const fresh = unknownSplits(state, found(3));
  assert.deepEqual(
    fresh.map((split) => split.index),
    [2],
  );
  state = addHeld(
    state,
    fresh,
    new Map([[2, 4]]),
    new Map([
      [0, 50],
      [1, 60],
    ]),
    1000,
    500,
  );
  assert.equal(state.positions[2]?.held, true);
  assert.equal(state.positions[2]?.offset, 4);
  state = advance(state, [at(state.positions[0], 50), at(state.positions[1], 59)]);
  assert.deepEqual(release(state, 1100).released, []);
  state = advance(state, [at(state.positions[1], 60)]);
  const freed = release(state, 1100);
  assert.deepEqual(
    freed.released.map((p) => [p.split.id, p.offset, p.held]),
    [['t-2', 4, undefined]],
  );
  assert.equal(freed.state.expiredHolds, 0);
  assert.equal(hasHolds(freed.state), false);
  assert.deepEqual(unknownSplits(freed.state, found(3)), []);
});

test('P26: a hold ends by its limit, which is counted, and survives a restore', () => {
  let state = addHeld(
    firstSplits(found(1), () => 0),
    unknownSplits(
      firstSplits(found(1), () => 0),
      found(2),
    ),
    new Map(),
    new Map([[0, 9]]),
    0,
    100,
  );
  state = restoredSplits(state.positions, new Map([[0, 12]]), 5000, 100);
  state = advance(state, [at(state.positions[0], 9)]);
  assert.equal(release(state, 5099).released.length, 0);
  const freed = release(state, 5100);
  assert.equal(freed.released.length, 1);
  assert.equal(freed.state.expiredHolds, 1);
});

test('job states: the listed moves only', () => {
  const job = new JobStateMachine(1);
  job.move('CREATED', 2);
  job.move('RUNNING', 3);
  job.move('RESTARTING', 4);
  assert.equal(job.enteredAt('RUNNING'), 3);
  assert.equal(job.enteredAt('FINISHED'), 0);
  assert.throws(() => job.move('FINISHED', 5), { code: 'INVARIANT' });
  job.move('CANCELLING', 6);
  job.move('CANCELED', 7);
  assert.equal(job.terminal, true);
});

function delays(plan: RestartStrategyPlan, failures: readonly [at: number, random: number][]) {
  let state = NO_RESTARTS;
  return failures.map(([at, random]) => {
    const decision = onFailure(plan, state, at, random);
    state = decision.state;
    return decision.restart ? decision.delayMs : decision.reason.split(':')[0];
  });
}

test('restart strategies', () => {
  assert.deepEqual(delays({ type: 'none' }, [[0, 0.5]]), ['restartStrategy.type is none']);
  const fixed = { type: 'fixed-delay', attempts: 2, delayMs: 7 } as const;
  assert.deepEqual(
    delays(fixed, [
      [0, 0],
      [1, 0],
      [2, 0],
    ]),
    [7, 7, 'restartStrategy.attempts'],
  );
  const rate = { type: 'failure-rate', maxFailures: 2, intervalMs: 100, delayMs: 3 } as const;
  assert.deepEqual(
    delays(rate, [
      [0, 0],
      [90, 0],
      [101, 0],
      [110, 0],
    ]),
    [3, 3, 3, 'restartStrategy.maxFailures'],
  );
});

test('exponential delay grows to its limit, jitters below it, resets after a quiet time', () => {
  const plan = {
    type: 'exponential-delay',
    initialMs: 1000,
    maxMs: 3000,
    multiplier: 2,
    jitter: 0.1,
    resetAfterMs: 10_000,
  } as const;
  assert.deepEqual(
    delays(plan, [
      [0, 0.5],
      [100, 0],
      [200, 1],
      [300, 0.5],
      [13_299, 0.5],
      [29_299, 0.5],
    ]),
    [1000, 1800, 3000, 3000, 3000, 1000],
  );
});
