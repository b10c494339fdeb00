import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { keyGroupOf } from '../exchange/key-groups.ts';
import type { AcceptedRecord } from './accepted-record.ts';
import { HotKeys } from './hot-keys.ts';
import { SpaceSaving } from './space-saving.ts';

const SEED = 20_261_126;

const STREAM = fc.array(
  fc.record({ key: fc.integer({ min: 0, max: 40 }), weight: fc.integer({ min: 1, max: 9 }) }),
  { maxLength: 400, size: 'max' },
);

test('Space-Saving against exact counts: bounds hold, and no heavy key is missing', () => {
  fc.assert(
    fc.property(STREAM, fc.integer({ min: 1, max: 12 }), (stream, capacity) => {
      const summary = new SpaceSaving(capacity);
      const exact = new Map<string, number>();
      let total = 0;
      for (const { key, weight } of stream) {
        // A few keys are much heavier than the others.
        const name = `u${Math.floor((key * key) / 40)}`;
        summary.add(name, weight);
        exact.set(name, (exact.get(name) ?? 0) + weight);
        total += weight;
      }
      assert.equal(summary.total, total);
      const counters = [...summary.counters()];
      assert.ok(counters.length <= capacity);
      for (const { key, count, error } of counters) {
        const truth = exact.get(key) ?? 0;
        assert.ok(truth <= count && count <= truth + error, `${key}: ${count} +${error}`);
        assert.ok(error <= total / capacity);
      }
      for (const [key, truth] of exact) {
        if (summary.get(key) !== undefined) continue;
        assert.ok(truth <= summary.missingAtMost && truth <= total / capacity, key);
      }
    }),
    { seed: SEED, numRuns: 300 },
  );
});

function batchOf(ids: readonly string[], bytes = 100): AcceptedRecord[] {
  return ids.map((userId) => ({ userId, start: 0, end: bytes }) as AcceptedRecord);
}

/** Time stands still until it is moved. */
function envOf() {
  const clock = { ms: 1_700_000_000_000 };
  return { env: { now: () => clock.ms }, clock };
}

const USERS = { bytesOf: () => 1, keyGroupOf: (id: string) => keyGroupOf(id, 128) };

test('hot keys: small batches are counted one by one, large ones by a sample', () => {
  const { env } = envOf();
  const hot = new HotKeys(env);
  for (let n = 0; n < 10; n++) hot.count(batchOf(['a', 'b', 'a', `x${n}`]), () => null);
  const small = hot.answer('events', 2, USERS);
  assert.equal(small.events, 40);
  assert.deepEqual(
    small.keys.map(({ userId, events, bytes, errorBound }) => [userId, events, bytes, errorBound]),
    [
      ['a', 20, 2_000, 0],
      ['b', 10, 1_000, 0],
    ],
  );
  // Every fourth record is of one user, at the same place of each batch.
  const ids = Array.from({ length: 256 }, (_, i) => (i % 4 === 0 ? 'hot' : `cold${i}`));
  for (let n = 0; n < 400; n++) hot.count(batchOf(ids), () => null);
  const { keys, events } = hot.answer('events', 1, USERS);
  assert.equal(events, 40 + 400 * 256);
  const [hottest] = keys;
  assert.equal(hottest?.userId, 'hot');
  const truth = 400 * 64;
  assert.ok(Math.abs(hottest.events! - truth) <= hottest.errorBound, JSON.stringify(hottest));
  assert.ok(hottest.errorBound < truth / 10, `${hottest.errorBound}`);
});

test('hot keys: what was hot is forgotten, the largest states are found', () => {
  const { env, clock } = envOf();
  const hot = new HotKeys(env);
  const sizes = new Map(Array.from({ length: 100 }, (_, n) => [`u${n}`, 1_000 * (n + 1)]));
  const sizeOf = (id: string) => sizes.get(id) ?? null;
  hot.count(batchOf(['old']), sizeOf);
  clock.ms += 6 * 60_000;
  for (const id of sizes.keys()) hot.count(batchOf([id]), sizeOf);
  assert.equal(hot.answer('events', 100, USERS).events, 101);
  clock.ms += 6 * 60_000;
  hot.count(batchOf(['new']), sizeOf);
  assert.ok(!hot.answer('events', 100, USERS).keys.some(({ userId }) => userId === 'old'));
  for (const id of sizes.keys()) hot.count(batchOf([id]), sizeOf);
  sizes.delete('u99');
  const { keys } = hot.answer('state', 2, { ...USERS, bytesOf: sizeOf });
  assert.deepEqual(
    keys.map(({ userId, stateBytes }) => [userId, stateBytes]),
    [
      ['u98', 99_000],
      ['u97', 98_000],
    ],
  );
  for (const jumpMs of [60 * 60_000, -60 * 60_000]) {
    clock.ms += jumpMs;
    assert.deepEqual(hot.answer('events', 9, USERS).keys, []);
    hot.count(batchOf(['again']), () => null);
  }
});
