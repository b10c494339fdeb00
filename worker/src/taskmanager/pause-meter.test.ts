import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Env } from '../runtime/env.ts';
import { realEnv } from '../runtime/env.ts';
import { PauseMeter } from './pause-meter.ts';

function meterAt() {
  let now = 0;
  const env: Env = { ...realEnv, monotonic: () => now };
  const meter = new PauseMeter(env);
  const at = (ms: number) => {
    now = ms;
  };
  return { meter, at };
}

test('a pause is the time without a frame between the barriers, plus the synchronous part', () => {
  const { meter, at } = meterAt();
  at(100);
  assert.equal(meter.barrier(1, 7), true);
  at(110);
  meter.fed();
  at(130);
  meter.starved();
  at(135);
  meter.starved();
  at(140);
  meter.fed();
  at(150);
  meter.starved();
  at(155);
  assert.equal(meter.barrier(1, 99), false, 'a further barrier of the same checkpoint');
  meter.aligned(1);
  at(158);
  const figures = meter.synced(1);
  assert.deepEqual(figures, { alignmentMs: 55, syncMs: 3, startDelayMs: 7 });
  assert.deepEqual(meter.stats, { count: 1, p99Ms: 18, maxMs: 18 });
});

test('want of frames outside an alignment counts for nothing', () => {
  const { meter, at } = meterAt();
  meter.starved();
  at(50);
  meter.fed();
  meter.barrier(1, 0);
  meter.aligned(1);
  meter.synced(1);
  assert.equal(meter.stats.maxMs, 0);
});

test('a canceled alignment is no pause; a later checkpoint starts anew', () => {
  const { meter, at } = meterAt();
  meter.barrier(1, 0);
  at(500);
  meter.cancel(1);
  meter.aligned(1);
  assert.deepEqual(meter.synced(1), { alignmentMs: 0, syncMs: 0, startDelayMs: 0 });
  assert.equal(meter.stats.count, 0);
  meter.barrier(2, 0);
  at(900);
  assert.equal(meter.barrier(3, 4), true, 'superseded');
  meter.cancel(2);
  at(902);
  meter.aligned(3);
  assert.deepEqual(meter.synced(3), { alignmentMs: 2, syncMs: 0, startDelayMs: 4 });
});

test('the 99th percentile is over the last 2048 pauses, the maximum over all', () => {
  const { meter, at } = meterAt();
  let now = 0;
  const pause = (id: number, ms: number) => {
    meter.barrier(id, 0);
    meter.starved();
    now += ms;
    at(now);
    meter.aligned(id);
    meter.synced(id);
  };
  assert.deepEqual(meter.stats, { count: 0, p99Ms: 0, maxMs: 0 });
  for (let id = 1; id <= 98; id++) pause(id, 1);
  pause(99, 50);
  pause(100, 90);
  assert.deepEqual(meter.stats, { count: 100, p99Ms: 50, maxMs: 90 });
  for (let id = 101; id <= 3000; id++) pause(id, 2);
  assert.deepEqual(meter.stats, { count: 3000, p99Ms: 2, maxMs: 90 });
});
