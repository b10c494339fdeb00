import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DrainPace } from './drain-pace.ts';
import { TestClock } from './test-clock.ts';

class Rig {
  woken = 0;
  readonly clock = new TestClock();
  readonly timers = this.clock.timers;
  readonly pace = new DrainPace(this.clock, this.clock.load, () => this.woken++);

  /** Milliseconds of the turn's slice; 0: none. */
  slice(isLast = false): number {
    let given = 0;
    this.pace.turn((ms) => {
      given = ms;
      return isLast;
    });
    return given;
  }
}

test('where events take all time one short slice per 8 ms, each waited for by one timer', () => {
  const rig = new Rig();
  rig.clock.busy(1);
  const slices = Array.from({ length: 25 }, () => {
    const ms = rig.slice();
    rig.clock.load.worked(rig.clock.at, rig.clock.at + 1);
    rig.clock.at++;
    return ms;
  });
  assert.deepEqual(
    slices.flatMap((ms, at) => (ms > 0 ? [[at, ms]] : [])),
    [0, 8, 16, 24].map((at) => [at, 1]),
  );
  assert.equal(rig.timers.length, 1, 'it has not fired');
  assert.equal(rig.timers[0]!.at, 1_008);
  rig.timers[0]!.fire();
  assert.equal(rig.woken, 1);
  rig.slice();
  assert.equal(rig.timers.length, 2);
});

test('with less to do for events the slices follow sooner, half of the time at most', () => {
  for (const [share, periodMs] of [
    [0.18, 4],
    [0.07, 2],
  ] as const) {
    const rig = new Rig();
    rig.clock.busy(share);
    assert.equal(rig.slice(), 1);
    assert.equal(rig.slice(), 0);
    const waitsMs = rig.timers[0]!.at - rig.clock.at;
    assert.ok(Math.abs(waitsMs - periodMs) < 0.5, `${waitsMs} ms`);
  }
});

test('without events for a while one long slice after the other', () => {
  const rig = new Rig();
  assert.equal(rig.slice(), 4, 'none at all yet');
  rig.clock.busy(1);
  assert.equal(rig.slice(), 1);
  rig.clock.at += 100;
  assert.equal(rig.slice(), 1, 'the last ones were just now');
  rig.clock.at += 100;
  assert.deepEqual([rig.slice(), rig.slice()], [4, 4]);
  rig.clock.busy(1);
  assert.equal(rig.slice(), 1);
  assert.equal(rig.slice(), 0, 'events again');
});

test('the next frozen set begins at once, though no time has passed', () => {
  const rig = new Rig();
  rig.clock.busy(1);
  assert.deepEqual([rig.slice(), rig.slice(true)], [1, 0]);
  rig.clock.at += 8;
  rig.clock.busy(1);
  assert.equal(
    rig.pace.turn(() => false),
    'more',
  );
  assert.equal(
    rig.pace.turn(() => true),
    'waits',
  );
  rig.clock.at += 8;
  rig.clock.busy(1);
  assert.equal(
    rig.pace.turn(() => true),
    'out',
  );
  assert.deepEqual([rig.slice(), rig.slice()], [1, 0]);
});

test('closed, it wakes nobody', () => {
  const rig = new Rig();
  rig.clock.busy(1);
  rig.slice();
  rig.slice();
  rig.pace.close();
  assert.deepEqual(
    rig.timers.map(({ cancelled }) => cancelled),
    [true],
  );
});
