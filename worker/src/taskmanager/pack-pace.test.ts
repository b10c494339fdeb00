import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { FREE_BYTES, PackPace } from './pack-pace.ts';
import { TestClock } from './test-clock.ts';

class Rig {
  readonly clock = new TestClock();
  readonly timers = this.clock.timers;
  readonly pace = new PackPace(this.clock, this.clock.load);

  /** A run that is past what goes free. */
  async longRun(): Promise<(bytes: number) => Promise<void>> {
    const packed = this.pace.run();
    await packed(FREE_BYTES);
    return packed;
  }

  /** Has it resolved by the next turn? */
  async goesOn(waits: Promise<void>): Promise<boolean> {
    return Promise.race([waits.then(() => true), turn(false)]);
  }
}

const BLOCK = 128 * 1024;

test('among events 128 KiB have 32 ms, and what took longer does not wait', async () => {
  const rig = new Rig();
  const packed = await rig.longRun();
  rig.clock.at += 2;
  rig.clock.busy(1);
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
  rig.clock.busy(1);
  await packed(BLOCK);
  assert.equal(rig.timers.length, 1);
});

test('a slot that is an eighth of its time with events rests a quarter as long', async () => {
  const rig = new Rig();
  const packed = await rig.longRun();
  rig.clock.at += 2;
  rig.clock.busy(0.125);
  const waits = packed(BLOCK);
  assert.equal(await rig.goesOn(waits), false);
  const restMs = rig.timers[0]!.at - rig.clock.at;
  assert.ok(restMs > 5.5 && restMs < 6.5, `${restMs} ms`);
  rig.pace.close();
  await waits;
});

test('the first 512 KiB of each run go as fast as they can', async () => {
  const rig = new Rig();
  rig.clock.busy(1);
  for (let run = 0; run < 2; run++) {
    const packed = rig.pace.run();
    for (let block = 0; block < 4; block++) {
      rig.clock.at += 1;
      assert.equal(await rig.goesOn(packed(BLOCK)), true, `block ${block}`);
    }
    rig.clock.at += 1;
    assert.equal(await rig.goesOn(packed(BLOCK)), false);
  }
  rig.pace.close();
});

test('it waits for nothing without events, and where time stands', async () => {
  const rig = new Rig();
  const packed = await rig.longRun();
  rig.clock.at += 1;
  await packed(BLOCK);
  rig.clock.busy(1);
  await packed(BLOCK);
  rig.clock.at += 200;
  await packed(BLOCK);
  assert.deepEqual(rig.timers, []);
});

test('closed, nobody waits', async () => {
  const rig = new Rig();
  const packed = await rig.longRun();
  rig.clock.at += 1;
  rig.clock.busy(1);
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
