import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { PackPace } from './pack-pace.ts';
import { TestClock } from './test-clock.ts';

class Rig {
  readonly clock = new TestClock();
  readonly timers = this.clock.timers;
  readonly pace = new PackPace(this.clock);

  /** Has it resolved by the next turn? */
  async goesOn(waits: Promise<void>): Promise<boolean> {
    return Promise.race([waits.then(() => true), turn(false)]);
  }
}

const BLOCK = 128 * 1024;

test('among events 128 KiB have 32 ms, and what took longer does not wait', async () => {
  const rig = new Rig();
  const packed = rig.pace.run();
  rig.clock.at += 2;
  rig.pace.worked(rig.clock.at);
  const first = packed(BLOCK);
  assert.equal(await rig.goesOn(first), false);
  assert.deepEqual(
    rig.timers.map(({ at }) => at),
    [1_032],
  );
  rig.clock.at = 1_032;
  rig.timers[0]!.fire();
  await first;
  rig.clock.at += 32;
  rig.pace.worked(rig.clock.at);
  await packed(BLOCK);
  assert.equal(rig.timers.length, 1);
});

test('it waits for nothing without events, and where time stands', async () => {
  const rig = new Rig();
  const packed = rig.pace.run();
  rig.clock.at += 1;
  await packed(BLOCK);
  rig.pace.worked(rig.clock.at);
  await packed(BLOCK);
  rig.clock.at += 20;
  await packed(BLOCK);
  assert.deepEqual(rig.timers, []);
});

test('closed, nobody waits', async () => {
  const rig = new Rig();
  rig.pace.worked(rig.clock.at);
  const packed = rig.pace.run();
  rig.clock.at += 1;
  const waits = packed(BLOCK);
  assert.equal(await rig.goesOn(waits), false);
  rig.pace.close();
  await waits;
  await packed(BLOCK);
  assert.deepEqual(
    rig.timers.map(({ cancelled }) => cancelled),
    [true],
  );
});
