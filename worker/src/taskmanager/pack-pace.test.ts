import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { PackPace } from './pack-pace.ts';

class Rig {
  now = 1_000;
  readonly timers: { at: number; fire: () => void; cancelled: boolean }[] = [];
  readonly pace = new PackPace({
    monotonic: () => this.now,
    timer: (ms, fire) => {
      const timer = { at: this.now + ms, fire, cancelled: false };
      this.timers.push(timer);
      return {
        cancel: () => {
          timer.cancelled = true;
        },
      };
    },
  });

  /** Has it resolved by the next turn? */
  async goesOn(waits: Promise<void>): Promise<boolean> {
    return Promise.race([waits.then(() => true), turn(false)]);
  }
}

const BLOCK = 128 * 1024;

test('among events 128 KiB have 32 ms, and what took longer does not wait', async () => {
  const rig = new Rig();
  const packed = rig.pace.run();
  rig.now += 2;
  rig.pace.worked(rig.now);
  const first = packed(BLOCK);
  assert.equal(await rig.goesOn(first), false);
  assert.deepEqual(
    rig.timers.map(({ at }) => at),
    [1_032],
  );
  rig.now = 1_032;
  rig.timers[0]!.fire();
  await first;
  rig.now += 32;
  rig.pace.worked(rig.now);
  await packed(BLOCK);
  assert.equal(rig.timers.length, 1);
});

test('it waits for nothing without events, and where time stands', async () => {
  const rig = new Rig();
  const packed = rig.pace.run();
  rig.now += 1;
  await packed(BLOCK);
  rig.pace.worked(rig.now);
  await packed(BLOCK);
  rig.now += 20;
  await packed(BLOCK);
  assert.deepEqual(rig.timers, []);
});

test('closed, nobody waits', async () => {
  const rig = new Rig();
  rig.pace.worked(rig.now);
  const packed = rig.pace.run();
  rig.now += 1;
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
