import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SlotLoad } from './slot-load.ts';

/** Turns of `ms` each `everyMs`, for a second. */
function loadAfter(ms: number, everyMs: number): { load: SlotLoad; at: number } {
  const load = new SlotLoad();
  let at = 5_000;
  for (; at < 6_000; at += everyMs) load.worked(at, at + ms);
  return { load, at };
}

test('from a quarter of its time on a slot is full; below, half the share is a quarter', () => {
  const of = (ms: number, everyMs: number) => {
    const { load, at } = loadAfter(ms, everyMs);
    return load.at(at);
  };
  assert.equal(of(2, 2), 1);
  assert.equal(of(2, 6), 1);
  assert.ok(Math.abs(of(0.125, 1) - 0.25) < 0.02, `${of(0.125, 1)}`);
  assert.ok(Math.abs(of(0.05, 1) - 0.04) < 0.01, `${of(0.05, 1)}`);
});

test('it fades where no event comes, and is none where none has come', () => {
  const { load, at } = loadAfter(2, 2);
  assert.equal(load.at(at + 50), 1);
  assert.ok(load.at(at + 200) < 0.05);
  assert.equal(new SlotLoad().at(0), 0);
});

test('where time stands no turn counts', () => {
  const load = new SlotLoad();
  for (let turn = 0; turn < 100; turn++) load.worked(1_000, 1_000);
  assert.equal(load.at(1_000), 0);
});
