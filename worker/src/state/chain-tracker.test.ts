import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planChain } from '../checkpoint/chain.ts';
import type { DeltaRef } from '../checkpoint/snapshot.ts';
import { ChainTracker } from './chain-tracker.ts';

const RANGE = { first: 0, last: 3 };
const MAX_CHAIN = 24;

const object = (name: string, bytes = 10) => ({ name, bytes, sha256: '0'.repeat(64) });

function delta(from: number, to: number, empty = false, run = 0): DeltaRef {
  return { range: RANGE, from, to, run, object: empty ? null : object(`delta-${to}-${run}`) };
}

const bytesOf = (groups: readonly number[], bytes: number) =>
  new Map(groups.map((group) => [group, bytes]));

test('a snapshot holds nothing later than its checkpoint', () => {
  const chain = new ChainTracker(RANGE);
  for (const to of [3, 6, 9]) chain.addDelta(delta(to - 3, to), bytesOf([0], 5));
  const at = (id: number) => chain.snapshot(id).deltas.map(({ to }) => to);
  assert.deepEqual(at(2), []);
  assert.deepEqual(at(6), [3, 6]);
  assert.deepEqual(at(8), [3, 6]);
  assert.deepEqual(at(9), [3, 6, 9]);
});

test('a fresh chain has no base due until a chain is at its maximum', () => {
  const chain = new ChainTracker(RANGE);
  for (let to = 1; to < MAX_CHAIN; to++) {
    chain.addDelta(delta(to - 1, to), bytesOf([1], 1_000_000));
    assert.deepEqual(chain.due(1 << 30), []);
  }
  chain.addDelta(delta(MAX_CHAIN - 1, MAX_CHAIN), bytesOf([1], 1));
  assert.deepEqual(chain.due(1 << 30), [1]);
});

test('continuity entries and deltas without rows of a group make no chain longer', () => {
  const chain = new ChainTracker(RANGE);
  for (let to = 1; to <= 100; to++) chain.addDelta(delta(to - 1, to, to > 3), new Map());
  assert.deepEqual(chain.due(1 << 30), []);
});

test('a base is due again when the deltas since outweigh it, not when they equal it', () => {
  const chain = new ChainTracker(RANGE);
  chain.addDelta(delta(0, 1), bytesOf([2], 500));
  chain.addBase(object('base-2'), 2, bytesOf([2], 100));
  chain.addDelta(delta(1, 2), bytesOf([2], 60));
  assert.deepEqual(chain.due(1000), [], 'the delta before the epoch does not count');
  chain.addDelta(delta(2, 3), bytesOf([2], 40));
  assert.deepEqual(chain.due(1000), []);
  chain.addDelta(delta(3, 4), bytesOf([2], 1));
  assert.deepEqual(chain.due(1000), [2]);
});

test('an empty base is outweighed by the first delta', () => {
  const chain = new ChainTracker(RANGE);
  chain.addBase(object('base-1'), 1, bytesOf([2], 0));
  assert.deepEqual(chain.due(1000), []);
  chain.addDelta(delta(0, 1), bytesOf([2], 1));
  assert.deepEqual(chain.due(1000), [2]);
});

test('the budget takes the longest chains first, and always one', () => {
  const chain = new ChainTracker(RANGE);
  chain.addBase(object('base-1'), 1, bytesOf([0, 1, 2, 3], 10));
  chain.addDelta(delta(0, 1), bytesOf([0, 1, 2], 20));
  chain.addDelta(delta(1, 2), bytesOf([1, 2], 20));
  chain.addDelta(delta(2, 3), bytesOf([2], 20));
  assert.deepEqual(chain.due(1), [2], 'bigger than the budget, but there is no smaller step');
  assert.deepEqual(chain.due(120), [1, 2]);
  assert.deepEqual(chain.due(150), [0, 1, 2], 'in rising order, as a segment wants them');
});

test('an object goes once every group with rows in it has a newer base', () => {
  const chain = new ChainTracker(RANGE);
  for (const to of [5, 10, 15]) chain.addDelta(delta(to - 5, to), bytesOf([0, 1], 5));
  const kept = () =>
    chain.snapshot(99).deltas.flatMap(({ to, object: stored }) => (stored === null ? [] : [to]));
  chain.addBase(object('a'), 11, bytesOf([0], 9));
  assert.deepEqual(kept(), [5, 10, 15], 'group 1 still needs them all');
  chain.addBase(object('b'), 6, bytesOf([1], 9));
  assert.deepEqual(kept(), [10, 15], 'delta (5, 10] holds the interval of base 6');
  chain.addBase(object('c'), 11, bytesOf([1], 9));
  assert.deepEqual(kept(), [15]);
});

test('an older base never replaces a newer one, and one object may serve several groups', () => {
  const chain = new ChainTracker(RANGE);
  chain.addBase(object('new', 70), 9, bytesOf([0, 1], 30));
  chain.addBase(object('old', 50), 4, bytesOf([1, 2], 30));
  const { bases } = chain.snapshot(99);
  assert.deepEqual(bases, [
    { groups: [0, 1], epoch: 9, object: object('new', 70) },
    { groups: [2], epoch: 4, object: object('old', 50) },
  ]);
  assert.equal(chain.bytes, 120, 'each object counts once');
});

const interval = fc.record({
  step: fc.integer({ min: 1, max: 3 }),
  /** Groups with rows in each spooled run (P12); none: an idle interval. */
  runs: fc.array(fc.uniqueArray(fc.nat(3), { minLength: 1 }), { maxLength: 3 }),
  /** Groups that get a base of this checkpoint's interval. */
  bases: fc.uniqueArray(fc.nat(3), { maxLength: 2 }),
});

/** I1: what a chain lets go of must be what no restore would read. */
test('any snapshot restores every row of every group, for any runs and bases', () => {
  let dropped = 0;
  fc.assert(
    fc.property(fc.array(interval, { size: 'max', maxLength: 40 }), (intervals) => {
      const chain = new ChainTracker(RANGE);
      const all: { name: string; to: number; groups: readonly number[] }[] = [];
      const epochs = [0, 0, 0, 0];
      let last = 0;
      for (const { step, runs, bases } of intervals) {
        const to = last + step;
        if (runs.length === 0) chain.addDelta(delta(last, to, true), new Map());
        for (const [run, groups] of runs.entries()) {
          chain.addDelta(delta(last, to, false, run), bytesOf(groups, 10));
          all.push({ name: `delta-${to}-${run}`, to, groups });
        }
        if (bases.length > 0) {
          chain.addBase(object(`base-${to}`), last + 1, bytesOf(bases, 10));
          for (const group of bases) epochs[group] = last + 1;
        }
        last = to;
        const parts = { ...chain.snapshot(to), checkpointId: to };
        for (let group = 0; group < 4; group++) {
          const wanted = all.filter(
            (one) => one.to >= epochs[group]! && one.groups.includes(group),
          );
          const read = planChain(parts, group).deltas.map(({ object: stored }) => stored?.name);
          assert.deepEqual(
            read.filter((name) => wanted.some((one) => one.name === name)),
            wanted.map(({ name }) => name),
            `group ${group} at ${to}`,
          );
        }
      }
      dropped += all.length - chain.snapshot(last).deltas.filter((one) => one.object).length;
    }),
    { seed: 20, numRuns: 300 },
  );
  assert.ok(dropped > 100, `${dropped} objects were let go of`);
});

/**
 * P12, P23: restore adopts the chains of several former tasks, sorted by (to, run): the runs of one
 * interval of one task do not stand side by side.
 */
test('after a rescale the chain stays whole where former tasks had several runs', () => {
  const chain = new ChainTracker(RANGE);
  const half = (first: number, from: number, to: number, run = 0) => ({
    ...delta(from, to, false, run),
    range: { first, last: first + 1 },
  });
  // Group 1 never has rows; group 0 has them in both runs.
  chain.addDelta(half(0, 0, 1, 0), bytesOf([0], 5));
  chain.addDelta(half(2, 0, 1, 0), bytesOf([2], 5));
  chain.addDelta(half(0, 0, 1, 1), bytesOf([0], 5));
  chain.addDelta(half(0, 1, 2), bytesOf([0], 5));
  chain.addDelta(half(2, 1, 2), bytesOf([2], 5));
  chain.addBase(object('base'), 2, bytesOf([0], 5));
  const parts = { ...chain.snapshot(2), checkpointId: 2 };
  for (let group = 0; group < 4; group++) planChain(parts, group);
});

test('every group of any snapshot has a chain without gap that ends at its checkpoint', () => {
  const chain = new ChainTracker(RANGE);
  let last = 0;
  for (let n = 0; n < 200; n++) {
    const to = last + 1 + (n % 4);
    const groups = [0, 1, 2, 3].filter((group) => (n * 7 + group * 3) % 5 < 2);
    chain.addDelta(delta(last, to, groups.length === 0), bytesOf(groups, 10 + (n % 7)));
    const due = chain.due(25);
    if (n % 3 === 0 && due.length > 0) chain.addBase(object(`base-${n}`), to, bytesOf(due, 20));
    last = to;
    const parts = { ...chain.snapshot(to), checkpointId: to };
    for (let group = 0; group < 4; group++) planChain(parts, group);
  }
});

/**
 * A group that nobody writes, or hardly, gets no base of its own. If no delta were dropped while it
 * has none, manifests, restore time and stored bytes would grow with the age of the job (I7, P15).
 */
test('the chain stays bounded while some groups are empty', () => {
  const chain = new ChainTracker(RANGE);
  for (let to = 1; to <= 500; to++) {
    chain.addDelta(delta(to - 1, to), bytesOf([0, 1], 100));
    const due = chain.due(1 << 30);
    if (due.length > 0) chain.addBase(object(`base-${to}`), to, bytesOf(due, 100));
  }
  const { length } = chain.snapshot(500).deltas;
  assert.ok(length <= 4 * MAX_CHAIN, `${length} deltas after 500 checkpoints`);
});

test('the chain stays bounded while some groups change once and never again', () => {
  const chain = new ChainTracker(RANGE);
  chain.addDelta(delta(0, 1), bytesOf([0, 1, 2, 3], 100));
  for (let to = 2; to <= 500; to++) {
    chain.addDelta(delta(to - 1, to), bytesOf([0], 100));
    const due = chain.due(1 << 30);
    if (due.length > 0) chain.addBase(object(`base-${to}`), to, bytesOf(due, 100));
  }
  const { length } = chain.snapshot(500).deltas;
  assert.ok(length <= 4 * MAX_CHAIN, `${length} deltas after 500 checkpoints`);
});
