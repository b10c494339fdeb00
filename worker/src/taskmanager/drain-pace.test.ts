import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DrainPace } from './drain-pace.ts';
import { TestClock } from './test-clock.ts';

class Rig {
  woken = 0;
  readonly clock = new TestClock();
  readonly timers = this.clock.timers;
  readonly pace = new DrainPace(this.clock, () => this.woken++);

  /** Milliseconds of the turn's slice; 0: none. */
  slice(worked: boolean, isLast = false): number {
    let given = 0;
    this.pace.turn(worked, (ms) => {
      given = ms;
      return isLast;
    });
    return given;
  }
}

test('among events one short slice per period, each waited for by one timer', () => {
  const rig = new Rig();
  const slices = Array.from({ length: 25 }, () => {
    const ms = rig.slice(true);
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
  rig.slice(true);
  assert.equal(rig.timers.length, 2);
});

test('without events for a while one long slice after the other', () => {
  const rig = new Rig();
  assert.equal(rig.slice(false), 4, 'none at all yet');
  assert.equal(rig.slice(true), 1);
  rig.clock.at += 19;
  assert.equal(rig.slice(false), 1, 'the last one was just now');
  rig.clock.at += 1;
  assert.deepEqual([rig.slice(false), rig.slice(false)], [4, 4]);
  assert.equal(rig.slice(true), 0, 'events again');
});

test('the next frozen set begins at once, though no time has passed', () => {
  const rig = new Rig();
  assert.deepEqual([rig.slice(true), rig.slice(true, true)], [1, 0]);
  rig.clock.at += 8;
  assert.equal(
    rig.pace.turn(true, () => false),
    'more',
  );
  assert.equal(
    rig.pace.turn(true, () => true),
    'waits',
  );
  rig.clock.at += 8;
  assert.equal(
    rig.pace.turn(true, () => true),
    'out',
  );
  assert.deepEqual([rig.slice(true), rig.slice(true)], [1, 0]);
});

test('closed, it wakes nobody', () => {
  const rig = new Rig();
  rig.slice(true);
  rig.slice(true);
  rig.pace.close();
  assert.deepEqual(
    rig.timers.map(({ cancelled }) => cancelled),
    [true],
  );
});
