import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeadLetter } from './action.ts';
import { type BatchSink, GroupWriter } from './group-writer.ts';
import { HandEnv, silentLog, turns } from './test-loopback.ts';

const LIMITS = {
  maxDelayMs: 0,
  maxBytes: 10_000,
  maxEntries: 4,
  initialBackoffMs: 10,
  maxBackoffMs: 10,
};

function entry(n: number): DeadLetter {
  const at = { topic: 't', partition: 0, offset: n, userId: null };
  const raw = Buffer.alloc(0);
  return { id: String(n), ...at, stage: 'state', error: 'e', attempts: 0, raw };
}

/** A sink whose writes end when the test says so. */
class HeldSink implements BatchSink {
  readonly target = 'test';
  readonly batches: string[][] = [];
  writing = 0;
  most = 0;
  #end: PromiseWithResolvers<void>[] = [];

  prepare(batch: readonly DeadLetter[]): () => Promise<void> {
    const ids = batch.map(({ id }) => id);
    return async () => {
      this.batches.push(ids);
      this.writing += 1;
      this.most = Math.max(this.most, this.writing);
      const end = Promise.withResolvers<void>();
      this.#end.push(end);
      try {
        await end.promise;
      } finally {
        this.writing -= 1;
      }
    };
  }

  async end(error?: Error): Promise<void> {
    const end = this.#end.shift();
    assert.ok(end !== undefined, 'nothing is being written');
    if (error === undefined) end.resolve();
    else end.reject(error);
    await turns();
  }

  async close(): Promise<void> {}
}

test('many writers share one write; what arrives during it shares the next', async () => {
  const sink = new HeldSink();
  const writer = new GroupWriter(sink, LIMITS, new HandEnv(), silentLog);
  const done: string[] = [];
  const write = (n: number) => {
    void writer.write(entry(n)).then(() => done.push(String(n)));
  };
  for (const n of [1, 2, 3]) write(n);
  await turns();
  for (const n of [4, 5, 6, 7, 8]) write(n);
  await turns();
  assert.deepEqual(sink.batches, [['1', '2', '3']]);
  assert.deepEqual(done, []);
  await sink.end();
  assert.deepEqual(done, ['1', '2', '3']);
  assert.deepEqual(sink.batches[1], ['4', '5', '6', '7']);
  await sink.end();
  await sink.end();
  assert.deepEqual(done, ['1', '2', '3', '4', '5', '6', '7', '8']);
  assert.equal(sink.most, 1);
});

test('a failed batch is written again whole, before any later one', async () => {
  const env = new HandEnv();
  const sink = new HeldSink();
  const writer = new GroupWriter(sink, LIMITS, env, silentLog);
  const done: string[] = [];
  for (const n of [1, 2]) void writer.write(entry(n)).then(() => done.push(String(n)));
  await turns();
  await sink.end(new Error('disk full'));
  void writer.write(entry(3)).then(() => done.push('3'));
  await env.advance(10);
  assert.deepEqual(sink.batches, [
    ['1', '2'],
    ['1', '2'],
  ]);
  assert.deepEqual(done, []);
  await sink.end();
  await sink.end();
  assert.deepEqual(done, ['1', '2', '3']);
});

test('a batch in flight when it closes is reported as not written', async () => {
  const sink = new HeldSink();
  const writer = new GroupWriter(sink, LIMITS, new HandEnv(), silentLog);
  const stuck = assert.rejects(writer.write(entry(1)), { code: 'DEAD_LETTER_CLOSED' });
  await turns();
  await writer.close();
  await stuck;
  await sink.end();
});
