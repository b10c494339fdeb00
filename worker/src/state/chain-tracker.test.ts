import assert from 'node:assert/strict';
import { test } from 'node:test';
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

test('deltas go once every group has a newer base; the one that crosses the epoch stays', () => {
  const chain = new ChainTracker(RANGE);
  for (const to of [5, 10, 15]) chain.addDelta(delta(to - 5, to), bytesOf([0, 1], 5));
  const kept = () => chain.snapshot(99).deltas.map(({ to }) => to);
  chain.addBase(object('a'), 11, bytesOf([0, 1, 2], 9));
  assert.deepEqual(kept(), [5, 10, 15], 'group 3 still needs them all');
  chain.addBase(object('b'), 6, bytesOf([3], 0));
  assert.deepEqual(kept(), [10, 15], 'delta (5, 10] holds the interval of base 6');
  chain.addBase(object('c'), 11, bytesOf([3], 0));
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
 * A group that nobody writes, or hardly, gets no base of its own; while it has none, no delta is ever
 * dropped: manifests, restore time and stored bytes grow with the age of the job (I7, P15).
 */
test('the chain stays bounded while some groups are empty', {
  todo: 'bug: a group without rows keeps every delta alive',
}, () => {
  const chain = new ChainTracker(RANGE);
  for (let to = 1; to <= 500; to++) {
    chain.addDelta(delta(to - 1, to), bytesOf([0, 1], 100));
    const due = chain.due(1 << 30);
    if (due.length > 0) chain.addBase(object(`base-${to}`), to, bytesOf(due, 100));
  }
  const { length } = chain.snapshot(500).deltas;
  assert.ok(length <= 4 * MAX_CHAIN, `${length} deltas after 500 checkpoints`);
});

test('the chain stays bounded while some groups change once and never again', {
  todo: 'bug: a chain of one delta is never due, so nothing behind it is dropped',
}, () => {
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
