import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BodyPool } from './body-pool.ts';

test('what was given back is taken again, by size', () => {
  const pool = new BodyPool();
  const body = pool.take(10_000);
  assert.equal(body.length, 10_000);
  pool.give(body);
  const small = pool.take(100);
  assert.notEqual(small.buffer, body.buffer, 'of another size');
  const again = pool.take(12_000);
  assert.equal(again.buffer, body.buffer);
  assert.equal(again.length, 12_000);
  assert.notEqual(pool.take(12_000).buffer, body.buffer, 'lent out');
});

test('a body given twice, or from elsewhere, is never lent to two', () => {
  const pool = new BodyPool();
  const body = pool.take(5_000);
  pool.give(body);
  pool.give(body);
  pool.give(Buffer.allocUnsafeSlow(8_192));
  pool.give(Buffer.from('from a shared pool'));
  assert.equal(pool.take(5_000).buffer, body.buffer);
  const others = [pool.take(5_000), pool.take(5_000), pool.take(5_000)];
  assert.equal(new Set([body, ...others].map(({ buffer }) => buffer)).size, 4);
});

test('a body that a checkpoint has captured is never used again, others are', () => {
  const pool = new BodyPool();
  const [captured, other] = [pool.take(5_000), pool.take(5_000)];
  pool.captured(captured);
  pool.give(captured);
  pool.give(other);
  const next = [pool.take(5_000), pool.take(5_000)].map(({ buffer }) => buffer);
  assert.deepEqual([next.includes(captured.buffer), next.includes(other.buffer)], [false, true]);
});

test('large bodies are not kept, and all that is kept has a limit', () => {
  const pool = new BodyPool();
  const large = pool.take(70_000);
  assert.equal(large.length, 70_000);
  pool.give(large);
  assert.notEqual(pool.take(70_000).buffer, large.buffer);
  const bodies = Array.from({ length: 400 }, () => pool.take(64_000));
  for (const body of bodies) pool.give(body);
  const known = new Set(bodies.map(({ buffer }) => buffer));
  const reused = bodies.filter(() => known.has(pool.take(64_000).buffer)).length;
  assert.equal(reused, 256, '16 MiB of 64 KiB');
});
