import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HandEnv } from '../action/test-loopback.ts';
import { backoffMs, nextAttempt, retryAfterMs } from './http-retry.ts';

const NOW = Date.UTC(1994, 10, 6, 8, 49, 0);

test('Retry-After: seconds and the three date forms; nonsense is ignored', () => {
  const cases: [string | undefined, number | null][] = [
    ['0', 0],
    ['120', 120_000],
    [' 7 ', 7_000],
    ['Sun, 06 Nov 1994 08:49:37 GMT', 37_000],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 37_000],
    ['Sun Nov  6 08:49:37 1994', 37_000],
    ['Sun, 06 Nov 1994 08:00:00 GMT', 0],
    ['-5', null],
    ['1.5', null],
    ['soon', null],
    ['5 apples', null],
    ['1994-11-06', null],
    ['Sun, 99 Nov 1994 08:49:37 GMT', null],
    ['', null],
    [undefined, null],
  ];
  for (const [header, expected] of cases) {
    assert.equal(retryAfterMs(header, NOW), expected, `Retry-After: ${header}`);
  }
});

test('backoff doubles up to its maximum and never falls below half of it', () => {
  const env = new HandEnv();
  const waits = [1, 2, 3, 4, 5, 6, 1_000].map((failures) => backoffMs(env, failures, 100, 1_600));
  assert.deepEqual(waits, [75, 150, 300, 600, 1_200, 1_200, 1_200]);
  assert.equal(backoffMs({ ...env, random: () => 0 } as HandEnv, 1, 100, 1_600), 50);
});

test('every next attempt fits into the deadline and leaves itself time', () => {
  const ms = fc.integer({ min: 0, max: 100_000 });
  fc.assert(
    fc.property(ms, ms, fc.integer({ min: 1, max: 20_000 }), (wanted, remaining, timeout) => {
      const next = nextAttempt(wanted, remaining, timeout);
      if (remaining === 0) assert.equal(next, null);
      else {
        assert.ok(next !== null && next.waitMs <= wanted);
        assert.ok(remaining - next.waitMs >= Math.min(timeout, remaining / 2) - 1e-6);
        assert.equal(next.last, next.waitMs < wanted);
      }
    }),
    { seed: 3 },
  );
});
