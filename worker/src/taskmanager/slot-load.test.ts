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

test('a slot that does nothing else, or half of the time, is full; less is less', () => {
  const of = (ms: number, everyMs: number) => {
    const { load, at } = loadAfter(ms, everyMs);
    return load.at(at);
  };
  assert.equal(of(2, 2), 1);
  assert.ok(of(2, 4) > 0.9, `${of(2, 4)}`);
  assert.ok(Math.abs(of(1, 10) - 0.2) < 0.03, `${of(1, 10)}`);
  assert.ok(of(0.05, 1) < 0.12, `${of(0.05, 1)}`);
});

test('it fades where no event comes, and is none where none has come', () => {
  const { load, at } = loadAfter(2, 2);
  assert.ok(load.at(at + 50) > 0.6);
  assert.ok(load.at(at + 200) < 0.05);
  assert.equal(new SlotLoad().at(0), 0);
});

test('where time stands no turn counts', () => {
  const load = new SlotLoad();
  for (let turn = 0; turn < 100; turn++) load.worked(1_000, 1_000);
  assert.equal(load.at(1_000), 0);
});
