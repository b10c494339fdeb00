import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ExpiryIndex } from './expiry-index.ts';

const within = (key: Buffer, { gte, lt }: { gte: Buffer; lt: Buffer }) =>
  gte.compare(key) <= 0 && key.compare(lt) < 0;

test('a mark tells its user again, whatever the id', () => {
  const index = new ExpiryIndex(600_000);
  const id = fc.string({ unit: 'binary', maxLength: 40 });
  fc.assert(
    fc.property(id, fc.nat(32_767), fc.nat(4_000_000_000_000), (userId, keyGroup, lastAccess) => {
      const { key } = index.markRow({ id: userId, keyGroup, lastAccess })!;
      assert.deepEqual(index.parse(key), { key, keyGroup, userId });
    }),
    { seed: 1, numRuns: 300 },
  );
});

test('a marked user in the range has expired; one a grain past its TTL is in it', () => {
  const ttl = fc.constantFrom(1, 50, 999, 10_000, 600_000, 86_400_000);
  const time = fc.nat(4_000_000_000_000);
  let found = 0;
  fc.assert(
    fc.property(ttl, time, fc.integer({ min: -200_000, max: 200_000 }), (ttlMs, now, around) => {
      const index = new ExpiryIndex(ttlMs);
      const lastAccess = Math.max(0, now - ttlMs + around);
      const mark = index.markRow({ id: 'u', keyGroup: 9, lastAccess })!;
      const inRange = within(mark.key, index.expiredRange(now));
      if (inRange) {
        found++;
        assert.ok(now - lastAccess > ttlMs, 'a user of the range is alive');
      }
      if (now - lastAccess > ttlMs + 60_000) assert.ok(inRange, 'an expired user is not found');
    }),
    { seed: 2, numRuns: 800 },
  );
  assert.ok(found > 40);
});

test('no user is marked before its time is known, and none is found before the first TTL', () => {
  const index = new ExpiryIndex(600_000);
  assert.equal(index.markRow({ id: 'u', keyGroup: 0, lastAccess: -1 }), null);
  const { key } = index.markRow({ id: 'u', keyGroup: 0, lastAccess: 0 })!;
  for (const time of [-1, 0, 600_000]) assert.ok(!within(key, index.expiredRange(time)));
});

test('a mark lies above every key group that a base scans', () => {
  const { key } = new ExpiryIndex(1000).markRow({ id: '', keyGroup: 0, lastAccess: 0 })!;
  assert.ok(key.compare(Buffer.from([0x80, 0x00])) > 0, '32768: the end of the last key group');
});
