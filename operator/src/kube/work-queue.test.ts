/** The queue's five promises, under a clock that the test turns. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualEnv } from '../manual-env.ts';
import { KubeError } from './kube-error.ts';
import { WorkQueue, type WorkQueueOptions } from './work-queue.ts';

/** Work that ends when the test says so. */
class Bench {
  readonly env = new ManualEnv();
  readonly begun: string[] = [];
  readonly results: string[] = [];
  readonly errors: string[] = [];
  readonly #open = new Map<string, (end: () => void) => void>();
  readonly queue: WorkQueue;
  retries = 0;
  mostAtOnce = 0;

  constructor(options: Partial<WorkQueueOptions> = {}) {
    this.queue = new WorkQueue({
      env: this.env,
      concurrency: 2,
      work: (key) => this.#work(key),
      metrics: {
        added: () => {},
        retried: () => {
          this.retries += 1;
        },
        taken: () => {},
        finished: (result) => this.results.push(result),
      },
      onError: (key, _error, failures, retryInMs) =>
        this.errors.push(`${key} ${failures} ${retryInMs}`),
      ...options,
    });
  }

  #work(key: string): Promise<{ requeueAfterMs?: number }> {
    this.begun.push(key);
    assert.ok(!this.#open.has(key), `${key} is worked on twice at a time`);
    return new Promise((resolve, reject) => {
      this.#open.set(key, (end) => {
        this.#open.delete(key);
        try {
          end();
          resolve({});
        } catch (error) {
          if (typeof error === 'number') resolve({ requeueAfterMs: error });
          else reject(error);
        }
      });
      this.mostAtOnce = Math.max(this.mostAtOnce, this.#open.size);
    });
  }

  async end(key: string, outcome?: number | Error): Promise<void> {
    const open = this.#open.get(key);
    assert.ok(open, `${key} is not worked on`);
    open(() => {
      if (outcome !== undefined) throw outcome;
    });
    await this.env.settle();
  }
}

describe('the work queue', () => {
  it('Q5: an urgent key goes first, also one that waits already', async () => {
    const bench = new Bench({ concurrency: 1 });
    for (const key of ['a', 'b', 'c', 'd']) bench.queue.add(key);
    bench.queue.add('c', true);
    bench.queue.start();
    bench.queue.add('c', true);
    bench.queue.add('e', true);
    for (const key of ['c', 'c', 'e', 'a', 'b', 'd']) await bench.end(key);
    assert.deepEqual(bench.begun, ['c', 'c', 'e', 'a', 'b', 'd']);
  });

  it('Q5: an urgent key that is not done yet stays urgent', async () => {
    const conflict = new KubeError('KUBE_CONFLICT', 'somebody else wrote');
    for (const [outcome, delayMs] of [
      [0, 0],
      [conflict, 100],
    ] as const) {
      const bench = new Bench({ concurrency: 1, backoffBaseMs: 100 });
      bench.env.chance = 1;
      bench.queue.start();
      bench.queue.add('asked', true);
      for (const key of ['a', 'b']) bench.queue.add(key);
      await bench.end('asked', outcome);
      await bench.env.advance(delayMs);
      if (delayMs > 0) await bench.end('a');
      assert.equal(bench.begun.at(-1), 'asked');
      // Once it is done, it is as any other.
      bench.queue.add('asked');
      await bench.end('asked');
      assert.notEqual(bench.begun.at(-1), 'asked');
    }
  });

  it('Q5: many urgent keys do not starve the others', async () => {
    const bench = new Bench({ concurrency: 1 });
    bench.queue.add('patient');
    for (let index = 0; index < 20; index += 1) bench.queue.add(`urgent-${index}`, true);
    bench.queue.start();
    while (!bench.begun.includes('patient')) await bench.end(bench.begun.at(-1) ?? '');
    assert.equal(bench.begun.length, 9);
  });

  it('Q1: a key waits once', async () => {
    const bench = new Bench({ concurrency: 1 });
    bench.queue.start();
    for (const key of ['a', 'b', 'b', 'c', 'b']) bench.queue.add(key);
    await bench.end('a');
    await bench.end('b');
    await bench.end('c');
    assert.deepEqual(bench.begun, ['a', 'b', 'c']);
    assert.equal(bench.queue.depth, 0);
  });

  it('Q2: a key added while it is worked on comes again afterwards, once', async () => {
    const bench = new Bench();
    bench.queue.start();
    bench.queue.add('a');
    bench.queue.add('a');
    bench.queue.add('a');
    assert.deepEqual(bench.begun, ['a']);
    await bench.end('a');
    assert.deepEqual(bench.begun, ['a', 'a']);
    await bench.end('a');
    assert.equal(bench.begun.length, 2);
  });

  it('works on as many keys as it is told, in the order they came', async () => {
    const bench = new Bench({ concurrency: 2 });
    for (const key of ['a', 'b', 'c', 'd']) bench.queue.add(key);
    assert.deepEqual(bench.begun, [], 'a standby only gathers');
    assert.equal(bench.queue.depth, 0, 'and nothing of it is overdue');
    bench.queue.start();
    assert.deepEqual(bench.begun, ['a', 'b']);
    assert.equal(bench.queue.depth, 2);
    // One that comes again goes to the end of the line.
    bench.queue.add('a');
    await bench.end('a');
    await bench.end('b');
    assert.deepEqual(bench.begun, ['a', 'b', 'c', 'd']);
    await bench.end('c');
    assert.deepEqual(bench.begun, ['a', 'b', 'c', 'd', 'a']);
    assert.equal(bench.mostAtOnce, 2);
  });

  it('Q3: the earliest of several times holds', async () => {
    const bench = new Bench();
    bench.queue.start();
    bench.queue.addAfter('a', 5_000);
    bench.queue.addAfter('a', 1_000);
    bench.queue.addAfter('a', 3_000);
    await bench.env.advance(999);
    assert.deepEqual(bench.begun, []);
    await bench.env.advance(1);
    assert.deepEqual(bench.begun, ['a']);
    await bench.end('a');
    await bench.env.advance(60_000);
    assert.deepEqual(bench.begun, ['a'], 'the later times are settled');
  });

  it('Q3: work that begins settles what was to come, and says when to come again', async () => {
    const bench = new Bench();
    bench.queue.start();
    bench.queue.addAfter('a', 2_000);
    bench.queue.add('a');
    await bench.end('a', 30_000);
    await bench.env.advance(29_999);
    assert.deepEqual(bench.begun, ['a']);
    await bench.env.advance(1);
    assert.deepEqual(bench.begun, ['a', 'a']);
    assert.deepEqual(bench.results, ['requeue_after']);
  });

  it('Q4: failures are tried again after a growing time, others go on', async () => {
    const bench = new Bench({ backoffBaseMs: 100, backoffCapMs: 1_000 });
    bench.env.chance = 1;
    bench.queue.start();
    for (const wait of [100, 200, 400, 800, 1_000, 1_000]) {
      if (bench.begun.length === 0) bench.queue.add('a');
      await bench.end('a', new Error('no'));
      bench.queue.add('b');
      await bench.end('b');
      await bench.env.advance(wait - 1);
      assert.equal(bench.begun.at(-1), 'b', `a came again before ${wait} ms`);
      await bench.env.advance(1);
      assert.equal(bench.begun.at(-1), 'a');
    }
    assert.equal(bench.retries, 6);
    await bench.end('a');
    bench.queue.add('a');
    await bench.end('a', new Error('no'));
    assert.equal(bench.errors.at(-1), 'a 1 100', 'a success forgets the failures');
  });

  it('jitter: a half to the whole of the time', async () => {
    const bench = new Bench({ backoffBaseMs: 100 });
    bench.env.chance = 0;
    bench.queue.start();
    bench.queue.add('a');
    await bench.end('a', new Error('no'));
    assert.deepEqual(bench.errors, ['a 1 50']);
  });

  it('stop waits for what is under way and begins nothing more', async () => {
    const bench = new Bench({ concurrency: 1 });
    bench.queue.start();
    bench.queue.add('a');
    bench.queue.add('b');
    bench.queue.addAfter('c', 10);
    let stopped = false;
    const stop = bench.queue.stop().then(() => {
      stopped = true;
    });
    await bench.env.advance(1_000);
    assert.equal(stopped, false);
    await bench.end('a', new Error('no'));
    await stop;
    await bench.env.advance(100_000);
    assert.deepEqual(bench.begun, ['a']);
  });

  it('tells how long the work under way has taken', async () => {
    const bench = new Bench();
    bench.queue.start();
    bench.queue.add('a');
    await bench.env.advance(2_000);
    bench.queue.add('b');
    await bench.env.advance(1_000);
    assert.deepEqual(bench.queue.unfinished(), { sumSeconds: 4, longestSeconds: 3 });
  });
});
