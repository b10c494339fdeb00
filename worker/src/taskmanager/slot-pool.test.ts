/** With real threads of a slot, which do nothing without a task. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { SlotPool } from './slot-pool.ts';

const HEAP_MB = 64;
const LIMIT_MS = 20_000;

describe('slot threads that wait', () => {
  let pool: SlotPool;
  let taken: Worker[] = [];

  const take = (heapMb: number): Worker => {
    const thread = pool.take(heapMb);
    taken.push(thread);
    return thread;
  };

  beforeEach(() => {
    pool = new SlotPool(2);
    taken = [];
  });
  afterEach(async () => {
    await pool.close();
    await Promise.all(taken.map((thread) => thread.terminate()));
  });

  it('are as many as there are slots, and each is given away once', async () => {
    pool.fill(HEAP_MB);
    pool.fill(HEAP_MB);
    assert.equal(pool.waiting, 2);
    const threads = [take(HEAP_MB), take(HEAP_MB), take(HEAP_MB)];
    assert.equal(new Set(threads).size, 3);
    assert.equal(pool.waiting, 0);
    for (const thread of threads) assert.equal(thread.listenerCount('exit'), 0);
  });

  it('have the limit of the plan, or are of no use to it', () => {
    pool.fill(HEAP_MB);
    const thread = take(2 * HEAP_MB);
    assert.equal(thread.resourceLimits?.maxOldGenerationSizeMb, 2 * HEAP_MB);
    assert.equal(pool.waiting, 0);
    pool.fill(2 * HEAP_MB);
    assert.equal(take(2 * HEAP_MB).resourceLimits?.maxOldGenerationSizeMb, 2 * HEAP_MB);
  });

  it('have room for young objects, in a small heap a fifth of it', () => {
    const youngMb = (heapMb: number) => take(heapMb).resourceLimits?.maxYoungGenerationSizeMb;
    assert.equal(youngMb(1_000), 64);
    assert.equal(youngMb(200), 40);
  });

  it('count no longer when they die, and harm nobody', async () => {
    for (const end of ['process.exit(1)', 'throw new Error("no code")']) {
      const failing = new SlotPool(2, new URL(`data:text/javascript,${end}`));
      failing.fill(HEAP_MB);
      for (const until = Date.now() + LIMIT_MS; failing.waiting > 0; await wait(20)) {
        assert.ok(Date.now() < until, 'they still wait');
      }
    }
  });

  it('are none once it is closed', async () => {
    pool.fill(HEAP_MB);
    await pool.close();
    pool.fill(HEAP_MB);
    assert.equal(pool.waiting, 0);
  });
});
