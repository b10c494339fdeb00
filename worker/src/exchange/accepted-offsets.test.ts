import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AcceptedOffsets } from './accepted-offsets.ts';

test('P50: a record at or below the position is no news, with holes and many splits', () => {
  const accepted = new AcceptedOffsets();
  assert.equal(accepted.take(0, 0), true);
  assert.equal(accepted.take(0, 0), false);
  // Offsets have holes (P27).
  assert.equal(accepted.take(0, 7), true);
  assert.equal(accepted.take(0, 3), false);
  assert.equal(accepted.take(0, 7), false);
  assert.equal(accepted.take(0, 8), true);
  assert.equal(accepted.take(500, 41), true);
  assert.equal(accepted.take(500, 41), false);
  assert.equal(accepted.take(2, 0), true);
  assert.deepEqual(accepted.positions(), [
    { split: 0, offset: 9 },
    { split: 2, offset: 1 },
    { split: 500, offset: 42 },
  ]);
});
