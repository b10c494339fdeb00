/** The generated stream is a pure function of its offsets, paced by a clock that the test turns. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DatagenSourcePlan } from '../plan/job-plan.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import { newSourceCounters } from './counters.ts';
import { DATAGEN_EPOCH_MS, DatagenReader, DatagenSplit, MAX_BURST_MS } from './datagen.ts';
import { routingKey } from './key-scan.ts';
import { createSplitEnumerator } from './open.ts';
import type { SourceBatch, Split } from './source.ts';

const PLAN: DatagenSourcePlan = {
  kind: 'datagen',
  eventsPerSecond: 100,
  users: 50,
  seed: 7,
  splits: 2,
  limit: null,
  maxRecordBytes: 1024,
};

const split = (partition: number): Split => ({
  index: partition + 10,
  id: `datagen-${partition}`,
  sourceId: 'datagen',
  partition,
});

/** A clock that only the test moves; a sleeper is woken at once and finds that time has passed. */
function manualEnv(): Env & { at: number } {
  const env = {
    ...realEnv,
    at: 5_000,
    monotonic: () => env.at,
    timer(delayMs: number, fn: () => void) {
      env.at += delayMs;
      queueMicrotask(fn);
      return { cancel: () => {} };
    },
  };
  return env;
}

function parse(text: string) {
  return JSON.parse(text) as Record<string, unknown>;
}

test('a record is a pure function of seed, split and number', () => {
  fc.assert(
    fc.property(fc.nat(5), fc.integer(), fc.nat({ max: 2 ** 45 }), (partition, seed, n) => {
      const plan = { ...PLAN, seed, splits: 6 };
      const one = new DatagenSplit(plan, partition);
      const other = new DatagenSplit(plan, partition);
      other.text(n + 1);
      assert.equal(other.text(n), one.text(n));
      const event = parse(one.text(n));
      assert.equal(event['event_id'], n * 6 + partition);
      assert.equal(event['timestamp'], one.timestamp(n));
      assert.match(String(event['user_id']), /^u\d{10}$/);
      assert.deepEqual(routingKey(Buffer.from(one.text(n)), 'user_id'), { key: event['user_id'] });
    }),
    { seed: 1 },
  );
});

test('seq is how many events the user had before; users never change the split', () => {
  const plan = { ...PLAN, users: 33, splits: 4 };
  const seen = new Map<unknown, number>();
  const home = new Map<unknown, number>();
  for (let partition = 0; partition < plan.splits; partition++) {
    const records = new DatagenSplit(plan, partition);
    for (let n = 0; n < 100; n++) {
      const event = parse(records.text(n));
      const user = event['user_id'];
      assert.equal(event['seq'], seen.get(user) ?? 0);
      seen.set(user, (seen.get(user) ?? 0) + 1);
      assert.equal(home.get(user) ?? partition, partition);
      home.set(user, partition);
    }
  }
  assert.equal(home.size, plan.users);
});

test('a fifth is triggerable, all event names occur, another seed gives other records', () => {
  const records = new DatagenSplit(PLAN, 0);
  const events = Array.from({ length: 5_000 }, (_, n) => parse(records.text(n)));
  const share = events.filter((event) => event['triggerable'] === true).length / events.length;
  assert.ok(share > 0.17 && share < 0.23, `share ${share}`);
  const names = new Set(events.map((event) => event['event_name']));
  assert.deepEqual([...names].sort(), ['add_cart', 'click', 'page_view', 'purchase', 'search']);
  const other = new DatagenSplit({ ...PLAN, seed: 8 }, 0);
  assert.notEqual(other.text(3), records.text(3));
});

test('record time runs at the rate of the split from a fixed epoch', () => {
  const records = new DatagenSplit(PLAN, 1);
  assert.equal(records.timestamp(0), DATAGEN_EPOCH_MS);
  assert.equal(records.timestamp(50), DATAGEN_EPOCH_MS + 1_000);
});

async function drain(reader: DatagenReader): Promise<SourceBatch[]> {
  const batches: SourceBatch[] = [];
  for (let batch = await reader.poll(0); batch !== null; batch = await reader.poll(0)) {
    batches.push(batch);
  }
  return batches;
}

const count = (batches: SourceBatch[]) => batches.reduce((sum, b) => sum + b.records.count, 0);

test('paces from the position at open; after a pause the catch-up is bounded', async () => {
  const env = manualEnv();
  const counters = newSourceCounters();
  const reader = new DatagenReader(PLAN, env, counters);
  reader.assign([
    { split: split(0), offset: 1_000_000, clock: -1 },
    { split: split(1), offset: 0, clock: -1 },
  ]);
  assert.equal(count(await drain(reader)), 0, 'nothing is due at the start');
  env.at += 1_000;
  const second = await drain(reader);
  assert.equal(count(second), 100);
  assert.deepEqual(
    second.map((batch) => [batch.splitIndex, batch.records.offsets[0], batch.nextOffset]),
    [
      [10, 1_000_000, 1_000_050],
      [11, 0, 50],
    ],
  );
  env.at += 3_600_000;
  const burst = count(await drain(reader));
  assert.ok(burst <= (MAX_BURST_MS / 1_000) * 100 + 2, `${burst} records after an hour of pause`);
  env.at += 1_000;
  assert.ok(Math.abs(count(await drain(reader)) - 100) <= 2, 'then the old pace again');
  assert.equal(counters.records, 100 + burst + 100);
});

test('a batch holds the records of its offsets, whole and with their times', async () => {
  const env = manualEnv();
  const reader = new DatagenReader(PLAN, env, newSourceCounters());
  reader.assign([{ split: split(1), offset: 40, clock: -1 }]);
  env.at += 500;
  const made = (await drain(reader)).flatMap(({ records }) => [...records]);
  const expected = new DatagenSplit(PLAN, 1);
  assert.equal(made.length, 25);
  for (const [i, { offset, timestamp, value }] of made.entries()) {
    assert.equal(offset, 40 + i);
    assert.deepEqual(
      [String(value), timestamp],
      [expected.text(offset), expected.timestamp(offset)],
    );
  }
});

test('poll waits for the next record, and gives up after maxWaitMs', async () => {
  const env = manualEnv();
  const reader = new DatagenReader(
    { ...PLAN, eventsPerSecond: 2, splits: 1 },
    env,
    newSourceCounters(),
  );
  reader.assign([{ split: split(0), offset: 0, clock: -1 }]);
  assert.equal(await reader.poll(100), null);
  const batch = await reader.poll(1_000);
  assert.equal(batch?.records.count, 1);
  await reader.close();
  assert.equal(await reader.poll(10_000), null);
});

test('a limited split ends with finished, also when it is resumed at its end', async () => {
  const env = manualEnv();
  const plan = { ...PLAN, limit: 620, eventsPerSecond: 1_000_000 };
  const reader = new DatagenReader(plan, env, newSourceCounters());
  reader.assign([
    { split: split(0), offset: 0, clock: -1 },
    { split: split(1), offset: 620, clock: -1 },
  ]);
  env.at += 1_000;
  const batches = await drain(reader);
  assert.deepEqual(
    batches.map((b) => [b.splitIndex, b.records.count, b.nextOffset, b.endOffset, b.finished]),
    [
      [10, 500, 500, 620, false],
      [11, 0, 620, 620, true],
      [10, 120, 620, 620, true],
    ],
  );
});

test('the enumerator knows its splits and ends', async () => {
  const enumerator = createSplitEnumerator({ ...PLAN, limit: 9 }, realEnv);
  const found = await enumerator.discover();
  assert.deepEqual(
    found.map(({ id, partition }) => [id, partition]),
    [
      ['datagen-0', 0],
      ['datagen-1', 1],
    ],
  );
  const splits = found.map((s, index) => ({ ...s, index }));
  assert.deepEqual(
    [...(await enumerator.startingOffsets(splits))],
    [
      [0, 0],
      [1, 0],
    ],
  );
  assert.deepEqual(
    [...(await enumerator.endOffsets(splits))],
    [
      [0, 9],
      [1, 9],
    ],
  );
});
