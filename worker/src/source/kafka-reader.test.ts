/**
 * The reader's decisions about faults, against a scripted cluster and a clock that the test turns.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Broker, crc32c, createRecordsBatch } from '@platformatic/kafka';
import { type Env, realEnv, sleep } from '../runtime/env.ts';
import type { TriggerJobError } from '../runtime/errors.ts';
import { newSourceCounters } from './counters.ts';
import { backoffMs, REFUSAL_PATIENCE_MS, STALL_MS } from './kafka-faults.ts';
import { HELD_BYTES } from './kafka-fetcher.ts';
import { KafkaSplitReader } from './kafka-reader.ts';
import type {
  FetchedPartition,
  FetchTarget,
  KafkaTransport,
  OffsetQuery,
  TopicView,
} from './kafka-transport.ts';
import type { SourceBatch, SplitPosition } from './source.ts';

const TOPIC_ID = 'topic-id';

class VirtualEnv implements Env {
  #now = 1_000;
  #timers: { at: number; fn: () => void }[] = [];
  now = () => this.#now;
  monotonic = () => this.#now;
  random = () => 0.5;
  id = realEnv.id;
  timer(delayMs: number, fn: () => void) {
    const entry = { at: this.#now + delayMs, fn };
    this.#timers.push(entry);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== entry);
      },
    };
  }
  /** Runs the timers of the next `ms` in order, and what they lead to. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) break;
      this.#now = next.at;
      this.#timers = this.#timers.filter((other) => other !== next);
      next.fn();
    }
    this.#now = end;
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let round = 0; round < 5; round++) await turn();
}

/** One topic of `logs.length` partitions; each record is a batch, its value the offset. */
class FakeCluster {
  readonly env: VirtualEnv;
  topicId: string | null = TOPIC_ID;
  leaders: number[];
  starts: number[];
  ends: number[];
  valueBytes = 4;
  maxBatches = 10;
  opened = 0;
  open = 0;
  fetches: { broker: Broker; targets: readonly FetchTarget[] }[] = [];
  /** Replaces the answer of a fetch. */
  onFetch: ((broker: Broker, target: FetchTarget) => number | Error | 'empty') | null = null;
  isDown = false;

  constructor(env: VirtualEnv, partitions = 1) {
    this.env = env;
    this.leaders = new Array(partitions).fill(1);
    this.starts = new Array(partitions).fill(0);
    this.ends = new Array(partitions).fill(5);
  }

  connect = async (): Promise<KafkaTransport> => {
    this.opened++;
    this.open++;
    let closed = false;
    const ended = Promise.withResolvers<void>();
    const check = () => {
      if (this.isDown || closed) throw new Error('connection refused');
    };
    return {
      topic: async () => {
        check();
        return this.#view();
      },
      listOffsets: async (query: OffsetQuery) => {
        check();
        const log = query.at === -2 ? this.starts : this.ends;
        return new Map(query.partitions.map((partition) => [partition, log[partition]!]));
      },
      fetch: async (broker, targets) => {
        this.fetches.push({ broker, targets });
        const answers = await Promise.all(targets.map((target) => this.#fetch(broker, target)));
        // The long poll of a broker with nothing to say.
        if (answers.every((answer) => answer.records.length === 0 && answer.errorCode === 0)) {
          await Promise.race([ended.promise, sleep(this.env, 500)]);
        }
        check();
        return answers;
      },
      commit: async () => {},
      close: async () => {
        if (!closed) this.open--;
        closed = true;
        ended.resolve();
      },
    };
  };

  #view(): TopicView | null {
    if (this.topicId === null) return null;
    const brokers = new Map([1, 2].map((id) => [id, { host: 'broker', port: id }]));
    return { topicId: this.topicId, leaders: [...this.leaders], brokers };
  }

  #fetch(broker: Broker, target: FetchTarget): FetchedPartition {
    const { partition } = target;
    const end = this.ends[partition]!;
    const answer = {
      partition,
      errorCode: 0,
      highWatermark: end,
      lastStableOffset: end,
      aborted: [],
      records: Buffer.alloc(0),
    };
    const scripted = this.onFetch?.(broker, target) ?? 0;
    if (scripted instanceof Error) throw scripted;
    if (scripted === 'empty') return answer;
    if (scripted !== 0) return { ...answer, errorCode: scripted };
    if (this.leaders[partition] !== broker.port) return { ...answer, errorCode: 6 };
    if (target.offset < this.starts[partition]! || target.offset > end) {
      return { ...answer, errorCode: 1 };
    }
    const last = Math.min(end, target.offset + this.maxBatches);
    const batches = [];
    for (let offset = target.offset; offset < last; offset++) {
      batches.push(recordBatch(offset, this.valueBytes));
    }
    return { ...answer, records: Buffer.concat(batches) };
  }
}

function recordBatch(offset: number, valueBytes: number): Buffer {
  const value = Buffer.from(String(offset).padStart(valueBytes, '0'));
  const bytes = createRecordsBatch([{ topic: 't', value, timestamp: 1_000n }]).buffer;
  bytes.writeBigInt64BE(BigInt(offset), 0);
  bytes.writeUInt32BE(crc32c(Buffer.from(bytes.subarray(21))) >>> 0, 17);
  return bytes;
}

function setUp(partitions = 1) {
  const env = new VirtualEnv();
  const cluster = new FakeCluster(env, partitions);
  const counters = newSourceCounters();
  const reader = new KafkaSplitReader({ topic: 't', env, counters, open: cluster.connect });
  const got: string[] = [];
  const batches: SourceBatch[] = [];
  /** Lets `ms` pass while it takes all that comes. */
  const run = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 100) {
      await env.advance(100);
      for (let batch = await reader.poll(0); batch; batch = await reader.poll(0)) {
        batches.push(batch);
        for (const { offset } of batch.records) got.push(`${batch.splitIndex}:${offset}`);
        await settle();
      }
    }
  };
  return { env, cluster, counters, reader, got, batches, run };
}

const at = (partition: number, offset = 0, held = false): SplitPosition => ({
  split: { index: partition, id: `t-${partition}`, sourceId: TOPIC_ID, partition },
  offset,
  clock: -1,
  ...(held && { held }),
});

const offsets = (partition: number, from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `${partition}:${from + i}`);

test('a leader change is followed: metadata again, nothing lost or twice', async () => {
  const { cluster, reader, got, run, counters } = setUp();
  reader.assign([at(0)]);
  await run(1_000);
  assert.deepEqual(got, offsets(0, 0, 5));
  cluster.leaders = [2];
  cluster.ends = [9];
  await run(3_000);
  assert.deepEqual(got, offsets(0, 0, 9));
  assert.equal(cluster.fetches.at(-1)!.broker.port, 2);
  assert.ok(counters.metadataRefreshes >= 2);
  await reader.close();
  assert.equal(cluster.open, 0, 'all connections are closed');
});

test('a partition without a leader is asked about until it has one', async () => {
  const { cluster, reader, got, run } = setUp(2);
  cluster.leaders = [1, -1];
  reader.assign([at(0), at(1)]);
  await run(5_000);
  assert.deepEqual(got, offsets(0, 0, 5));
  cluster.leaders = [1, 2];
  await run(5_000);
  assert.deepEqual(got, [...offsets(0, 0, 5), ...offsets(1, 0, 5)]);
  await reader.close();
});

test('a broker that is down is retried for ever, with backoff, and counted', async () => {
  const { cluster, reader, got, run, counters } = setUp();
  cluster.isDown = true;
  reader.assign([at(0)]);
  await run(3_600_000);
  assert.ok(
    counters.fetchErrors > 1_000 && counters.fetchErrors < 5_000,
    `${counters.fetchErrors}`,
  );
  cluster.isDown = false;
  await run(20_000);
  assert.deepEqual(got, offsets(0, 0, 5));
  assert.equal(counters.reconnects, 0, 'an outage is no stall');
  await reader.close();
});

test('one broker down: the splits of the other go on', async () => {
  const { cluster, reader, got, run } = setUp(2);
  cluster.leaders = [1, 2];
  cluster.onFetch = (broker) => (broker.port === 1 ? new Error('reset') : 0);
  reader.assign([at(0), at(1)]);
  await run(60_000);
  assert.deepEqual(got, offsets(1, 0, 5));
  cluster.ends = [5, 8];
  await run(2_000);
  assert.deepEqual(got, offsets(1, 0, 8));
  await reader.close();
});

test('lost offsets are reported with their range; a passing doubt is not', async () => {
  const low = setUp();
  low.cluster.starts = [3];
  low.reader.assign([at(0, 1)]);
  await assert.rejects(low.run(2_000), (error: TriggerJobError) => {
    assert.equal(error.code, 'SOURCE_OFFSET_OUT_OF_RANGE');
    assert.match(error.message, /t-0: offsets \[1,3\)/);
    return true;
  });
  await low.reader.close();

  const passing = setUp();
  let doubts = 3;
  passing.cluster.onFetch = () => (doubts-- > 0 ? 1 : 0);
  passing.reader.assign([at(0)]);
  await passing.run(5_000);
  assert.deepEqual(passing.got, offsets(0, 0, 5));
  await passing.reader.close();
});

test('another topic id ends the reader before a record of it is read', async () => {
  const { cluster, reader, got, run } = setUp();
  cluster.topicId = 'another';
  reader.assign([at(0)]);
  await assert.rejects(run(1_000), { code: 'SOURCE_TOPIC_RECREATED' });
  assert.deepEqual(got, []);
  assert.equal(cluster.fetches.length, 0);
  await assert.rejects(reader.poll(0), { code: 'SOURCE_TOPIC_RECREATED' });
  await reader.close();
});

test('a refusal is reported when it lasts, and forgotten when it passes', async () => {
  const lasting = setUp();
  lasting.cluster.onFetch = () => 29;
  lasting.reader.assign([at(0)]);
  await lasting.run(REFUSAL_PATIENCE_MS - 1_000);
  await assert.rejects(lasting.run(20_000), { code: 'SOURCE_NOT_AUTHORIZED' });
  await lasting.reader.close();

  const passing = setUp();
  passing.cluster.topicId = null;
  passing.reader.assign([at(0)]);
  await passing.run(REFUSAL_PATIENCE_MS - 5_000);
  passing.cluster.topicId = TOPIC_ID;
  await passing.run(20_000);
  assert.deepEqual(passing.got, offsets(0, 0, 5));
  passing.cluster.onFetch = () => 29;
  await passing.run(REFUSAL_PATIENCE_MS - 5_000);
  passing.cluster.onFetch = null;
  passing.cluster.ends = [6];
  await passing.run(20_000);
  assert.deepEqual(passing.got, offsets(0, 0, 6));
  await passing.reader.close();
});

test('the watchdog: data but no progress gets new connections, then an error', async () => {
  const { cluster, reader, run, counters } = setUp();
  cluster.onFetch = () => 'empty';
  reader.assign([at(0)]);
  await run(STALL_MS - 5_000);
  const before = cluster.opened;
  assert.equal(counters.reconnects, 0);
  await run(15_000);
  assert.equal(counters.reconnects, 1);
  assert.ok(cluster.opened > before);
  await assert.rejects(run(STALL_MS + 15_000), { code: 'SOURCE_STALLED' });
  await reader.close();
  assert.equal(cluster.open, 0);
});

test('the watchdog: what helped, a quiet topic and backpressure are no stall', async () => {
  const helped = setUp();
  helped.cluster.onFetch = () => (helped.counters.reconnects === 0 ? 'empty' : 0);
  helped.reader.assign([at(0)]);
  await helped.run(STALL_MS + 20_000);
  assert.deepEqual(helped.got, offsets(0, 0, 5));
  await helped.run(STALL_MS * 4);
  assert.equal(helped.counters.reconnects, 1, 'at the end of the log nothing is missing');
  await helped.reader.close();

  const slow = setUp();
  slow.cluster.ends = [1_000_000];
  slow.cluster.valueBytes = 1024 * 1024;
  slow.reader.assign([at(0)]);
  await slow.env.advance(STALL_MS * 5);
  assert.equal(slow.counters.reconnects, 0, 'nobody polled');
  await slow.reader.close();
});

test('I7: what is fetched ahead is bounded by bytes, and goes on when it is consumed', async () => {
  const { env, cluster, reader, counters, run } = setUp();
  cluster.ends = [1_000];
  cluster.valueBytes = 1024 * 1024;
  cluster.maxBatches = 4;
  reader.assign([at(0)]);
  await env.advance(10_000);
  const ahead = counters.fetchedBytes;
  assert.ok(ahead >= HELD_BYTES && ahead <= HELD_BYTES + 5 * 1024 * 1024, `${ahead} bytes ahead`);
  await run(200);
  assert.ok(counters.fetchedBytes > ahead);
  await reader.close();
});

test('P26: a held split is not fetched until it is assigned again', async () => {
  const { cluster, reader, got, run } = setUp(2);
  reader.assign([at(0), at(1, 0, true)]);
  await run(2_000);
  assert.deepEqual(got, offsets(0, 0, 5));
  assert.ok(cluster.fetches.every(({ targets }) => targets.every((t) => t.partition === 0)));
  reader.assign([at(1)]);
  await run(2_000);
  assert.deepEqual(got, [...offsets(0, 0, 5), ...offsets(1, 0, 5)]);
  assert.throws(() => reader.assign([at(1)]), /assigned a second time/);
  await reader.close();
});

test('the end of a quiet log is told once, then each second that the broker answers', async () => {
  const { cluster, reader, batches, run } = setUp();
  cluster.ends = [0];
  reader.assign([at(0)]);
  await run(900);
  const told = () =>
    batches.map(({ nextOffset, endOffset, records }) => [nextOffset, endOffset, records.count]);
  assert.deepEqual(told(), [[0, 0, 0]]);
  await run(5_000);
  assert.ok(batches.length >= 4 && batches.length <= 7, `${batches.length} in 6 s`);
  await reader.close();
});

test('the served partition goes to the end of the next request', async () => {
  const { cluster, reader, got, run } = setUp(2);
  cluster.maxBatches = 1;
  // A broker whose answer is full after the first partition that has data.
  cluster.onFetch = (_, target) =>
    target.partition === cluster.fetches.at(-1)!.targets[0]!.partition ? 0 : 'empty';
  reader.assign([at(0), at(1)]);
  await run(1_000);
  assert.deepEqual(got.slice(0, 4), ['0:0', '1:0', '0:1', '1:1']);
  await reader.close();
});

test('close ends a poll that waits', async () => {
  const { cluster, reader, env } = setUp();
  cluster.ends = [0];
  reader.assign([at(0)]);
  await env.advance(1_000);
  await reader.poll(0);
  const waiting = reader.poll(1_000_000);
  await settle();
  await reader.close();
  assert.equal(await waiting, null);
});

test('backoff grows to a limit and is spread', () => {
  assert.equal(backoffMs(0, 0), 50);
  assert.equal(backoffMs(0, 1), 100);
  assert.ok(backoffMs(3, 0.5) > backoffMs(2, 0.5));
  assert.equal(backoffMs(1_000, 1), 2_000);
});
