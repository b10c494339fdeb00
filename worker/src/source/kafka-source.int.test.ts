/**
 * The Kafka source against a real broker, with kafkajs as the independent producer and checker: one
 * broker for the file, a topic per test. Every count is exact: no record missing, none twice.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { CompressionTypes, Kafka, logLevel, type Message } from 'kafkajs';
import { type KafkaBroker, startKafka } from '../../../e2e/testbed/kafka.ts';
import type { KafkaConnectionPlan, KafkaSourcePlan, StartingOffsets } from '../plan/job-plan.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { newSourceCounters } from './counters.ts';
import { createSplitEnumerator, createSplitReader } from './open.ts';
import type { SourceBatch, Split, SplitPosition, SplitReader } from './source.ts';

const USER = { username: 'alice', password: 'open sesame' };
const TIMEOUT = { timeout: 120_000 };

let broker: KafkaBroker;
let kafka: Kafka;
let admin: ReturnType<Kafka['admin']>;
let folder: string;

before(async () => {
  broker = await startKafka({ secure: USER });
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-source-'));
  kafka = new Kafka({
    brokers: [broker.bootstrap],
    clientId: 'checker',
    logLevel: logLevel.NOTHING,
    retry: { retries: 10, initialRetryTime: 50, maxRetryTime: 500 },
  });
  admin = kafka.admin();
  await admin.connect();
}, TIMEOUT);

after(async () => {
  await admin?.disconnect();
  await broker?.stop();
  await rm(folder, { recursive: true, force: true });
}, TIMEOUT);

/** Ten times faster than the wall: for tests of what is reported only after half a minute. */
const hurried: Env = {
  ...realEnv,
  monotonic: () => realEnv.monotonic() * 10,
  timer: (delayMs, fn) => realEnv.timer(delayMs / 10, fn),
};

function planOf(topic: string, more: Partial<KafkaSourcePlan> = {}): KafkaSourcePlan {
  return {
    kind: 'kafka',
    connection: { bootstrapServers: [broker.bootstrap] },
    topic,
    groupId: `${topic}-group`,
    startingOffsets: { kind: 'earliest' },
    discoveryIntervalMs: 1_000,
    discoveryHoldMs: 1_000,
    maxRecordBytes: 1024 * 1024,
    ...more,
  };
}

/**
 * Idempotent: where one partition of a request is refused (its leader is still starting), kafkajs
 * sends all of them again, and the topic would hold records twice before the reader sees any.
 */
async function produce(topic: string, messages: Message[], compression = CompressionTypes.None) {
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  await producer.send({ topic, messages, compression });
  await producer.disconnect();
}

const numbered = (from: number, to: number, partition = 0): Message[] =>
  Array.from({ length: to - from }, (_, i) => ({ partition, value: `v${from + i}` }));

async function positions(plan: KafkaSourcePlan): Promise<SplitPosition[]> {
  const enumerator = createSplitEnumerator(plan, realEnv);
  try {
    const splits: Split[] = (await enumerator.discover()).map((s, index) => ({ ...s, index }));
    const offsets = await enumerator.startingOffsets(splits);
    return splits.map((split) => ({ split, offset: offsets.get(split.index)!, clock: -1 }));
  } finally {
    await enumerator.close();
  }
}

interface Got {
  values: string[];
  next: Map<number, number>;
  end: Map<number, number>;
}

const nothing = (): Got => ({ values: [], next: new Map(), end: new Map() });

/**
 * Adds to `got` what it polls until `until` is true or the time is over; checks order and positions
 * on the way.
 */
async function read(
  reader: SplitReader,
  until: (got: Got) => boolean,
  maxMs = 30_000,
  got = nothing(),
): Promise<Got> {
  for (const deadline = Date.now() + maxMs; !until(got); ) {
    assert.ok(Date.now() < deadline, `gave up; got ${got.values.length} records`);
    const batch = await reader.poll(200);
    if (batch !== null) take(got, batch);
  }
  return got;
}

function take(got: Got, batch: SourceBatch): void {
  let next = got.next.get(batch.splitIndex) ?? 0;
  for (const { offset, value } of batch.records) {
    assert.ok(offset >= next, `split ${batch.splitIndex}: ${offset} after ${next}`);
    next = offset + 1;
    got.values.push(value === null ? '(null)' : value.toString());
  }
  assert.ok(batch.nextOffset >= next, `position ${batch.nextOffset} is behind ${next}`);
  got.next.set(batch.splitIndex, batch.nextOffset);
  got.end.set(batch.splitIndex, batch.endOffset);
}

const caughtUp = (splits: number) => (got: Got) =>
  got.next.size === splits && [...got.next].every(([split, next]) => next === got.end.get(split));

/** All that is readable from `from` on, in order. */
async function readAll(
  plan: KafkaSourcePlan,
  from?: SplitPosition[],
): Promise<{ values: string[]; next: Map<number, number> }> {
  const reader = await createSplitReader(plan, realEnv);
  try {
    const start = from ?? (await positions(plan));
    reader.assign(start);
    return await read(reader, caughtUp(start.length));
  } finally {
    await reader.close();
  }
}

/** The code that ends a reader. */
async function failureOf(reader: SplitReader, maxMs = 60_000): Promise<TriggerJobError> {
  for (const deadline = Date.now() + maxMs; Date.now() < deadline; ) {
    try {
      await reader.poll(200);
    } catch (error) {
      assert.ok(error instanceof TriggerJobError, String(error));
      return error;
    }
  }
  throw new Error('the reader did not fail');
}

test('starts at earliest, latest and a time', TIMEOUT, async () => {
  await broker.createTopic('starts', 2);
  const old = numbered(0, 10).map((message) => ({ ...message, timestamp: '1000' }));
  await produce('starts', old);
  await produce('starts', [{ partition: 0, value: 'at-2000', timestamp: '2000' }]);
  await produce('starts', [{ partition: 1, value: 'other', timestamp: '1500' }]);
  const offsetsFor = async (startingOffsets: StartingOffsets) =>
    (await positions(planOf('starts', { startingOffsets }))).map(({ offset }) => offset);
  assert.deepEqual(await offsetsFor({ kind: 'earliest' }), [0, 0]);
  assert.deepEqual(await offsetsFor({ kind: 'latest' }), [11, 1]);
  assert.deepEqual(await offsetsFor({ kind: 'timestamp', timestampMs: 1_600 }), [10, 1]);
  const { values } = await readAll(planOf('starts'));
  assert.deepEqual(values.toSorted(), [...old.map((m) => m.value), 'at-2000', 'other'].toSorted());
});

test('resumes at any offset inside a batch; keeps timestamps and tombstones', TIMEOUT, async () => {
  await broker.createTopic('resume', 1);
  await produce('resume', numbered(0, 50));
  await produce('resume', [{ value: null, key: 'k', timestamp: '1234' }, { value: '' }]);
  const plan = planOf('resume');
  const [start] = await positions(plan);
  const { values } = await readAll(plan, [{ ...start!, offset: 17 }]);
  assert.deepEqual(values, [...numbered(17, 50).map((m) => m.value), '(null)', '']);
  const reader = await createSplitReader(plan, realEnv);
  reader.assign([{ ...start!, offset: 50 }]);
  let batch: SourceBatch | null = null;
  while (batch === null || batch.records.count === 0) batch = await reader.poll(1_000);
  const [first] = batch.records;
  assert.deepEqual([first!.timestamp, first!.value], [1234, null]);
  await reader.close();
});

test('read_committed: aborted and open transactions stay out', TIMEOUT, async () => {
  await broker.createTopic('transactions', 1);
  const producer = kafka.producer({
    transactionalId: 'tx',
    idempotent: true,
    maxInFlightRequests: 1,
  });
  const other = kafka.producer({
    transactionalId: 'tx2',
    idempotent: true,
    maxInFlightRequests: 1,
  });
  await producer.connect();
  await other.connect();
  const run = async (prefix: string, commit: boolean) => {
    const transaction = await producer.transaction();
    const interleaved = await other.transaction();
    for (const part of ['a', 'b']) {
      const messages = [{ value: `${prefix}-${part}` }];
      await transaction.send({ topic: 'transactions', messages });
      // Two producers interleave: only the one that is aborted may disappear.
      const others = [{ value: `${prefix}-${part}-other` }];
      await interleaved.send({ topic: 'transactions', messages: others });
    }
    await (commit ? transaction.commit() : transaction.abort());
    await interleaved.commit();
  };
  await run('one', true);
  await run('two', false);
  await run('three', true);
  await run('four', false);
  const expected = ['one', 'two', 'three', 'four'].flatMap((prefix) =>
    ['a', 'b'].flatMap((part) =>
      prefix === 'two' || prefix === 'four'
        ? [`${prefix}-${part}-other`]
        : [`${prefix}-${part}`, `${prefix}-${part}-other`],
    ),
  );
  const plan = planOf('transactions');
  const { values, next } = await readAll(plan);
  assert.deepEqual(values, expected);
  const high = (await admin.fetchTopicOffsets('transactions'))[0]!.high;
  assert.equal(next.get(0), Number(high), 'the position passes the control records at the end');

  // From the middle of an aborted transaction on, its rest stays out too.
  const [start] = await positions(plan);
  for (let offset = 0; offset < Number(high); offset++) {
    const rest = await readAll(plan, [{ ...start!, offset }]);
    assert.deepEqual(rest.values, expected.slice(expected.length - rest.values.length));
  }

  const open = await producer.transaction();
  await open.send({ topic: 'transactions', messages: [{ value: 'open' }] });
  const reader = await createSplitReader(plan, realEnv);
  reader.assign(await positions(plan));
  const before = await read(reader, (got) => got.values.length >= expected.length);
  assert.deepEqual(before.values, expected);
  assert.equal(await reader.poll(800), null, 'nothing of an open transaction');
  await open.commit();
  const later = await read(reader, (got) => got.values.length >= 1);
  assert.deepEqual(later.values, ['open']);
  await reader.close();
  await producer.disconnect();
  await other.disconnect();
});

test('compressed batches: gzip by the producer, every codec by the broker', TIMEOUT, async () => {
  for (const codec of ['producer', 'gzip', 'snappy', 'lz4', 'zstd']) {
    const topic = `codec-${codec}`;
    await broker.createTopic(topic, 1, { 'compression.type': codec });
    const byProducer = codec === 'producer' ? CompressionTypes.GZIP : CompressionTypes.None;
    await produce(topic, numbered(0, 2_500), byProducer);
    await produce(topic, numbered(2_500, 2_600), byProducer);
    const { values } = await readAll(planOf(topic));
    assert.deepEqual(
      values,
      numbered(0, 2_600).map((m) => m.value),
      codec,
    );
  }
});

test('a topic with LogAppendTime gives the time of the broker', TIMEOUT, async () => {
  await broker.createTopic('append-time', 1, { 'message.timestamp.type': 'LogAppendTime' });
  const before = Date.now();
  await produce('append-time', [{ value: 'x', timestamp: '1000' }]);
  const reader = await createSplitReader(planOf('append-time'), realEnv);
  reader.assign(await positions(planOf('append-time')));
  let batch: SourceBatch | null = null;
  while (batch === null || batch.records.count === 0) batch = await reader.poll(1_000);
  const appendedAt = batch.records.timestamps[0]!;
  assert.ok(appendedAt >= before - 1_000, String(appendedAt));
  await reader.close();
});

test('offsets that retention took away end the reader with the lost range', TIMEOUT, async () => {
  await broker.createTopic('lost', 1);
  await produce('lost', numbered(0, 20));
  // kafkajs finds leaders only of topics that it was asked about before.
  await admin.fetchTopicOffsets('lost');
  await admin.deleteTopicRecords({ topic: 'lost', partitions: [{ partition: 0, offset: '12' }] });
  const plan = planOf('lost');
  const [start] = await positions(plan);
  assert.equal(start!.offset, 12, 'earliest is after the deleted records');
  assert.deepEqual(
    (await readAll(plan)).values,
    numbered(12, 20).map((m) => m.value),
  );
  for (const [offset, range] of [
    [5, '[5,12)'],
    [25, '[20,25)'],
  ] as const) {
    const reader = await createSplitReader(plan, realEnv);
    reader.assign([{ ...start!, offset }]);
    const error = await failureOf(reader);
    assert.equal(error.code, 'SOURCE_OFFSET_OUT_OF_RANGE');
    assert.match(error.message, /lost-0/);
    assert.ok(error.message.includes(range), error.message);
    await reader.close();
  }
});

test(
  'a recreated topic ends reader and enumerator, before and while reading',
  TIMEOUT,
  async () => {
    await broker.createTopic('again', 1);
    await produce('again', numbered(0, 5));
    const plan = planOf('again');
    const old = await positions(plan);
    const reading = await createSplitReader(plan, realEnv);
    reading.assign(old);
    await read(reading, caughtUp(1));
    const enumerator = createSplitEnumerator(plan, realEnv, { known: old.map((p) => p.split) });
    await enumerator.discover();
    await broker.deleteTopic('again');
    await broker.createTopic('again', 1);
    await produce('again', numbered(100, 120));
    assert.equal((await failureOf(reading)).code, 'SOURCE_TOPIC_RECREATED');
    await reading.close();
    const resumed = await createSplitReader(plan, realEnv);
    resumed.assign(old.map((position) => ({ ...position, offset: 5 })));
    assert.equal((await failureOf(resumed)).code, 'SOURCE_TOPIC_RECREATED');
    await resumed.close();
    await assert.rejects(enumerator.discover(), { code: 'SOURCE_TOPIC_RECREATED' });
    await enumerator.close();
  },
);

test(
  'P26: new partitions are discovered; a held split waits for its release',
  TIMEOUT,
  async () => {
    await broker.createTopic('grows', 1);
    await produce('grows', numbered(0, 5));
    const plan = planOf('grows');
    const enumerator = createSplitEnumerator(plan, realEnv);
    assert.equal((await enumerator.discover()).length, 1);
    const reader = await createSplitReader(plan, realEnv);
    const [first] = await positions(plan);
    reader.assign([first!]);
    await read(reader, caughtUp(1));
    await admin.createPartitions({ topicPartitions: [{ topic: 'grows', count: 3 }] });
    let found = await enumerator.discover();
    while (found.length < 3) found = await enumerator.discover();
    assert.deepEqual(
      found.map(({ id, partition }) => [id, partition]),
      [0, 1, 2].map((partition) => [`grows-${partition}`, partition]),
    );
    await produce('grows', numbered(5, 9, 2));
    const splits = found.map((split, index) => ({ ...split, index }));
    assert.deepEqual(
      [...(await enumerator.earliestOffsets(splits))],
      [
        [0, 0],
        [1, 0],
        [2, 0],
      ],
    );
    assert.deepEqual(
      [...(await enumerator.endOffsets(splits))],
      [
        [0, 5],
        [1, 0],
        [2, 4],
      ],
    );
    const held = { split: splits[2]!, offset: 0, clock: -1, held: true };
    reader.assign([held]);
    for (let polls = 0; polls < 5; polls++) {
      assert.equal((await reader.poll(200))?.records.count ?? 0, 0, 'a held split is not read');
    }
    reader.assign([{ split: held.split, offset: 0, clock: -1 }]);
    const got = await read(reader, (state) => state.values.length >= 4);
    assert.deepEqual(
      got.values,
      numbered(5, 9).map((m) => m.value),
    );
    await reader.close();
    await enumerator.close();
  },
);

test('committed offsets are visible to lag tools', TIMEOUT, async () => {
  await broker.createTopic('commits', 2);
  const plan = planOf('commits');
  const start = await positions(plan);
  const enumerator = createSplitEnumerator(plan, realEnv);
  await enumerator.commit([
    { ...start[0]!, offset: 7 },
    { ...start[1]!, offset: 9 },
  ]);
  await enumerator.commit([{ ...start[0]!, offset: 8 }]);
  const [answer] = await admin.fetchOffsets({ groupId: plan.groupId, topics: ['commits'] });
  const offsets = answer!.partitions.toSorted((a, b) => a.partition - b.partition);
  assert.deepEqual(
    offsets.map(({ offset }) => offset),
    ['8', '9'],
  );
  await enumerator.close();
});

test(
  'a 2 MB record and a partition with more than fits one fetch arrive whole',
  TIMEOUT,
  async () => {
    await broker.createTopic('large', 3);
    const values = [2, 5, 1].map((mb, partition) => ({
      partition,
      value: `${partition}`.repeat(mb * 1024 * 1024),
    }));
    for (const message of values) await produce('large', [message]);
    await produce('large', values.slice(0, 1));
    const { values: got } = await readAll(planOf('large'));
    assert.deepEqual(
      got.map((v) => v.length).toSorted((a, b) => a - b),
      [1, 2, 2, 5].map((mb) => mb * 1024 * 1024),
    );
  },
);

test(
  'PLAIN and SCRAM over TLS, credentials from files; a wrong one is reported',
  TIMEOUT,
  async () => {
    await broker.createTopic('secret', 1);
    await produce('secret', numbered(0, 3));
    const secure = broker.secure!;
    const username = { path: join(folder, 'user') };
    const password = { path: join(folder, 'password') };
    await writeFile(username.path, `${USER.username}\n`);
    await writeFile(password.path, USER.password);
    const connect = (
      mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512',
    ): KafkaConnectionPlan => ({
      bootstrapServers: [secure.bootstrap],
      tls: { ca: secure.caFile },
      sasl: { mechanism, username, password },
    });
    for (const mechanism of ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const) {
      const plan = planOf('secret', { connection: connect(mechanism) });
      assert.deepEqual((await readAll(plan)).values, ['v0', 'v1', 'v2'], mechanism);
    }
    const plan = planOf('secret', { connection: connect('SCRAM-SHA-256') });
    const start = await positions(plan);
    await writeFile(password.path, 'wrong');
    const refused = await createSplitReader(plan, hurried);
    refused.assign(start);
    const error = await failureOf(refused);
    assert.equal(error.code, 'SOURCE_AUTHENTICATION_FAILED');
    assert.doesNotMatch(error.message, /wrong|open sesame/, 'no secret in a message');
    await refused.close();

    // Rotation: a reader that is refused reads the corrected file by itself.
    const rotated = await createSplitReader(plan, realEnv);
    rotated.assign(start);
    await delay(1_500);
    await writeFile(password.path, USER.password);
    assert.deepEqual((await read(rotated, caughtUp(1))).values, ['v0', 'v1', 'v2']);
    await rotated.close();
    const untrusted: KafkaConnectionPlan = { bootstrapServers: [secure.bootstrap], tls: {} };
    const stranger = await createSplitReader(planOf('secret', { connection: untrusted }), realEnv);
    stranger.assign(start);
    assert.equal(
      await stranger.poll(2_000),
      null,
      'a certificate that nobody vouches for is refused',
    );
    await stranger.close();
  },
);

test('a broker restart is waited for: nothing lost, nothing twice', TIMEOUT, async () => {
  await broker.createTopic('restart', 2);
  await produce('restart', [...numbered(0, 10), ...numbered(10, 20, 1)]);
  const plan = planOf('restart');
  const counters = newSourceCounters();
  const reader = await createSplitReader(plan, realEnv, { counters });
  reader.assign(await positions(plan));
  const got = await read(reader, ({ values }) => values.length >= 20);
  await broker.down();
  assert.equal(await reader.poll(1_500), null);
  assert.ok(counters.fetchErrors > 0, 'the outage is counted');
  await broker.up();
  await produce('restart', [...numbered(20, 30), ...numbered(30, 40, 1)]);
  await read(reader, ({ values }) => values.length >= 40, 60_000, got);
  assert.deepEqual(
    got.values.toSorted(),
    numbered(0, 40)
      .map((m) => m.value as string)
      .toSorted(),
  );
  await reader.close();
});

test('a missing topic is waited for, then reported', TIMEOUT, async () => {
  const split = { index: 0, id: 'nowhere-0', partition: 0, sourceId: crypto.randomUUID() };
  const reader = await createSplitReader(planOf('nowhere'), hurried);
  reader.assign([{ split, offset: 0, clock: -1 }]);
  assert.equal(await reader.poll(2_000), null);
  assert.equal((await failureOf(reader)).code, 'SOURCE_TOPIC_MISSING');
  await reader.close();
  const enumerator = createSplitEnumerator(planOf('nowhere'), realEnv);
  await assert.rejects(enumerator.discover(), { code: 'SOURCE_TOPIC_MISSING' });
  await enumerator.close();
});

test('300,000 records: all arrive; prints the cost per record', TIMEOUT, async (context) => {
  await broker.createTopic('many', 4);
  const producer = kafka.producer();
  await producer.connect();
  const perSend = 5_000;
  for (let sent = 0; sent < 300_000; sent += perSend) {
    const messages = Array.from({ length: perSend }, (_, i) => ({
      partition: (sent / perSend) % 4,
      value:
        `{"event_id":${sent + i},"user_id":"u0000000042","event_name":"page_view",` +
        '"triggerable":true,"timestamp":1700000000000,"page":"/p/7f3a9c21","seq":42}',
    }));
    await producer.send({ topic: 'many', messages });
  }
  await producer.disconnect();
  const plan = planOf('many');
  for (let round = 0; round < 3; round++) {
    const reader = await createSplitReader(plan, realEnv);
    const start = await positions(plan);
    const cpu = process.cpuUsage();
    const began = performance.now();
    reader.assign(start);
    let count = 0;
    while (count < 300_000) count += (await reader.poll(1_000))?.records.count ?? 0;
    const { user, system } = process.cpuUsage(cpu);
    const ms = performance.now() - began;
    assert.equal(count, 300_000);
    await reader.close();
    const rate = Math.round(count / ms);
    const cost = ((user + system) / count).toFixed(2);
    context.diagnostic(`round ${round}: ${rate} K records/s, ${cost} us CPU per record`);
  }
});
