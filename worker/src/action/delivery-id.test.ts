import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { test } from 'node:test';
import fc from 'fast-check';
import { deliveryId } from './delivery-id.ts';

test('an id is 32 hex digits of a fixed encoding (P30: it may never change)', () => {
  const id = deliveryId('a1b2', 'topic-id', 'events-3', 42, 'webhook');
  const text = 'a1b2\n8:topic-id\n8:events-3\n42\nwebhook';
  assert.equal(id, createHash('sha256').update(text).digest('hex').slice(0, 32));
  assert.equal(id, '14589aed71831ea54e31f1eaaa8cb1ba');
});

test('records that differ in one part have different ids, however the parts are spelled', () => {
  const text = fc.string({ unit: fc.constantFrom('a', '1', ':', '\n', '-'), maxLength: 6 });
  const record = fc.tuple(text, text, fc.nat(20), fc.constantFrom('webhook', 'debug'));
  fc.assert(
    fc.property(record, record, (one, other) => {
      const same = one.every((part, n) => part === other[n]);
      assert.equal(deliveryId('l', ...one) === deliveryId('l', ...other), same);
    }),
    { seed: 30, numRuns: 2_000 },
  );
});

test('prints what an id costs', (t) => {
  const rounds = 50_000;
  const started = performance.now();
  for (let n = 0; n < rounds; n++)
    deliveryId('0123456789abcdef', 'topic', 'events-1', n, 'webhook');
  const each = ((performance.now() - started) / rounds) * 1000;
  t.diagnostic(`${each.toFixed(2)} us per id`);
});
