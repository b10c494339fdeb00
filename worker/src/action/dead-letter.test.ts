import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ProtocolError } from '@platformatic/kafka';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { realEnv } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { DeadLetter } from './action.ts';
import type { DeadLetterMessage, DeadLetterProducer } from './dead-letter-kafka.ts';
import { openDeadLetterWriter } from './open.ts';
import { HandEnv, silentLog, turns } from './test-loopback.ts';

function entry(n: number, over: Partial<DeadLetter> = {}): DeadLetter {
  const at = { topic: 'events', partition: 2, offset: n, userId: `user-${n}` };
  const why = { stage: 'action' as const, error: 'HTTP 410', attempts: 1 };
  return { id: `id-${n}`, ...at, ...why, raw: Buffer.from(`{"n":${n}}`), ...over };
}

function entries(count: number): DeadLetter[] {
  return Array.from({ length: count }, (_, n) => entry(n));
}

/** Only what a dead letter uses; `fail` makes the next puts throw, `lose` those after storing. */
class PutStore implements ObjectStore {
  readonly url = 'memory://test';
  readonly objects = new Map<string, string>();
  puts = 0;
  fail = 0;
  lose = 0;

  async put(name: string, content: Buffer): Promise<void> {
    this.puts += 1;
    if (this.fail > 0) {
      this.fail -= 1;
      throw new TriggerJobError('STORE', 'unreachable');
    }
    assert.ok(!this.objects.has(name) || this.objects.get(name) === content.toString(), name);
    this.objects.set(name, content.toString());
    if (this.lose > 0) {
      this.lose -= 1;
      throw new TriggerJobError('STORE', 'reply lost');
    }
  }

  putPieces(): Promise<void> {
    return Promise.reject(new Error('not used'));
  }
  create(): Promise<'created' | 'exists'> {
    return Promise.reject(new Error('not used'));
  }
  get(): Promise<Buffer | null> {
    return Promise.reject(new Error('not used'));
  }
  getRange(): Promise<Buffer> {
    return Promise.reject(new Error('not used'));
  }
  list(): Promise<[]> {
    return Promise.reject(new Error('not used'));
  }
  delete(): Promise<void> {
    return Promise.reject(new Error('not used'));
  }
}

function lines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

function settled(promise: Promise<unknown>): { done: boolean } {
  const state = { done: false };
  const set = () => {
    state.done = true;
  };
  promise.then(set, set);
  return state;
}

test('store: what arrives within 100 ms is one object, resolved after its put', async () => {
  const env = new HandEnv();
  const store = new PutStore();
  const writer = await openDeadLetterWriter({ kind: 'store' }, env, store, 5, silentLog);
  const first = writer.write(entry(1));
  await env.advance(99);
  const second = writer.write(entry(2, { userId: null, raw: Buffer.from([0xff, 0x00]) }));
  await turns();
  assert.equal(store.puts, 0);
  await env.advance(1);
  await Promise.all([first, second]);
  const [[name, content] = []] = store.objects;
  assert.match(String(name), /^dead-letter\/5-0-[0-9a-f]{32}\.ndjson$/);
  assert.deepEqual(lines(String(content)), [
    {
      id: 'id-1',
      topic: 'events',
      partition: 2,
      offset: 1,
      user: 'user-1',
      stage: 'action',
      error: 'HTTP 410',
      attempts: 1,
      raw: Buffer.from('{"n":1}').toString('base64'),
      text: '{"n":1}',
    },
    {
      id: 'id-2',
      topic: 'events',
      partition: 2,
      offset: 2,
      user: null,
      stage: 'action',
      error: 'HTTP 410',
      attempts: 1,
      raw: '/wA=',
    },
  ]);
  const third = writer.write(entry(3));
  await env.advance(100);
  await third;
  assert.equal(store.objects.size, 2);
});

test('store: a full batch does not wait, and a large entry has an object of its own', async () => {
  const env = new HandEnv();
  const store = new PutStore();
  const writer = await openDeadLetterWriter({ kind: 'store' }, env, store, 0, silentLog);
  const raw = Buffer.alloc(1024 * 1024, 0x61);
  const all = [1, 2, 3].map((n) => writer.write(entry(n, { raw })));
  await Promise.all(all);
  assert.equal(store.objects.size, 3);
  const slow = writer.write(entry(4));
  await turns();
  const woken = writer.write(entry(5, { raw }));
  await Promise.all([slow, woken]);
  assert.equal(store.objects.size, 4);
  assert.equal(env.timers, 0);
});

test('store: tried again under the same name until it is acknowledged', async () => {
  const env = new HandEnv();
  const store = new PutStore();
  store.fail = 6;
  store.lose = 2;
  const writer = await openDeadLetterWriter({ kind: 'store' }, env, store, 0, silentLog);
  const written = writer.write(entry(1));
  const state = settled(written);
  await env.advance(1_000);
  assert.equal(state.done, false);
  await env.advance(120_000);
  await written;
  assert.equal(store.puts, 9);
  assert.equal(store.objects.size, 1);
});

test('store: close rejects what is queued and what is being tried', async () => {
  const env = new HandEnv();
  const store = new PutStore();
  store.fail = Number.POSITIVE_INFINITY;
  const writer = await openDeadLetterWriter({ kind: 'store' }, env, store, 0, silentLog);
  const trying = writer.write(entry(1));
  await env.advance(150);
  const queued = writer.write(entry(2));
  const results = Promise.allSettled([trying, queued]);
  await writer.close();
  for (const result of await results) {
    assert.equal(result.status === 'rejected' && result.reason.code, 'DEAD_LETTER_CLOSED');
  }
  await turns();
  assert.equal(env.timers, 0);
  await assert.rejects(writer.write(entry(3)), { code: 'DEAD_LETTER_CLOSED' });
});

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'dead-letter-'));
  t.after(() => rm(path, { recursive: true }));
  // The real clock's timers keep no process alive.
  const alive = setInterval(() => {}, 1_000);
  t.after(() => clearInterval(alive));
  return path;
}

test('file: every writer appends whole lines; a torn last line costs only itself', async (t) => {
  const path = join(await folder(t), 'new', 'folder', 'dlq.ndjson');
  const store = new PutStore();
  const make = (subtask: number) =>
    openDeadLetterWriter({ kind: 'file', path }, realEnv, store, subtask, silentLog);
  const [one, two] = [await make(0), await make(1)];
  const all = entries(200).map((each, n) => (n % 2 === 0 ? one : two).write(each));
  await Promise.all(all);
  await Promise.all([one.close(), two.close()]);
  const ids = lines(await readFile(path, 'utf8')).map((line) => line['id']);
  assert.deepEqual(new Set(ids), new Set(entries(200).map(({ id }) => id)));
  assert.equal(ids.length, 200);

  await appendFile(path, '{"id":"torn by a cra');
  const after = await make(2);
  await after.write(entry(777));
  await after.close();
  const all3 = (await readFile(path, 'utf8')).trimEnd().split('\n');
  assert.equal(all3.at(-2), '{"id":"torn by a cra');
  assert.equal(JSON.parse(all3.at(-1)!)['id'], 'id-777');
});

test('file: an unusable path holds the entry until it can be written', async (t) => {
  const path = join(await folder(t), 'dlq.ndjson');
  await mkdir(path);
  const limits = { initialBackoffMs: 5, maxBackoffMs: 5 };
  const plan = { kind: 'file' as const, path };
  const writer = await openDeadLetterWriter(plan, realEnv, new PutStore(), 0, silentLog, {
    limits,
  });
  const written = writer.write(entry(1));
  const state = settled(written);
  await turns(50);
  assert.equal(state.done, false);
  await rm(path, { recursive: true });
  await written;
  assert.equal(lines(await readFile(path, 'utf8')).length, 1);
  await writer.close();
});

class FakeProducer implements DeadLetterProducer {
  readonly broker: FakeBroker;
  closed = false;

  constructor(broker: FakeBroker) {
    this.broker = broker;
  }

  async send(messages: readonly DeadLetterMessage[]): Promise<void> {
    assert.equal(this.closed, false, 'a closed producer is not used');
    this.broker.sends += 1;
    if (this.broker.hang) await new Promise(() => {});
    const error = this.broker.errors.shift();
    if (error !== undefined) throw error;
    const size = messages.reduce((sum, { value }) => sum + value.length, 0);
    if (size > this.broker.maxBytes) throw new ProtocolError('MESSAGE_TOO_LARGE');
    this.broker.messages.push(...messages);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

class FakeBroker {
  readonly messages: DeadLetterMessage[] = [];
  readonly producers: FakeProducer[] = [];
  readonly idempotent: boolean[] = [];
  readonly errors: Error[] = [];
  sends = 0;
  hang = false;
  maxBytes = Number.POSITIVE_INFINITY;

  open = async (idempotent: boolean): Promise<DeadLetterProducer> => {
    const producer = new FakeProducer(this);
    this.producers.push(producer);
    this.idempotent.push(idempotent);
    return producer;
  };

  ids(): string[] {
    return this.messages.map((message) => headersOf(message)['dlq.id'] ?? '');
  }
}

function headersOf(message: DeadLetterMessage): Record<string, string> {
  return Object.fromEntries([...message.headers].map(([k, v]) => [String(k), String(v)]));
}

function openKafka(broker: FakeBroker, env: HandEnv, store = new PutStore()) {
  const plan = { kind: 'kafka' as const, connection: { bootstrapServers: [] }, topic: 'dlq' };
  const tuning = { openProducer: broker.open };
  return openDeadLetterWriter(plan, env, store, 1, silentLog, tuning);
}

test('kafka: key, raw value and headers', async () => {
  const env = new HandEnv();
  const broker = new FakeBroker();
  const writer = await openKafka(broker, env);
  const raw = Buffer.from([0xff, 0x00, 0x7b]);
  const both = [
    writer.write(entry(9, { userId: 'Zoë', raw })),
    writer.write(entry(10, { userId: null, error: `\ud800${'x'.repeat(9_000)}` })),
  ];
  await env.advance(5);
  await Promise.all(both);
  assert.equal(broker.sends, 1);
  const [first, second] = broker.messages;
  assert.equal(first!.topic, 'dlq');
  assert.equal(first!.key?.toString(), 'Zoë');
  assert.deepEqual(first!.value, raw);
  assert.deepEqual(headersOf(first!), {
    'dlq.id': 'id-9',
    'dlq.topic': 'events',
    'dlq.partition': '2',
    'dlq.offset': '9',
    'dlq.user': 'Zoë',
    'dlq.stage': 'action',
    'dlq.error': 'HTTP 410',
    'dlq.attempts': '1',
  });
  assert.equal(second!.key, null);
  assert.equal(headersOf(second!)['dlq.error']!.length, 4_096);
  await writer.close();
});

test('kafka: every failure ends the producer; a new one sends the batch again', async () => {
  const env = new HandEnv();
  const broker = new FakeBroker();
  broker.errors.push(
    new Error('connection reset'),
    new ProtocolError('CLUSTER_AUTHORIZATION_FAILED'),
  );
  const writer = await openKafka(broker, env);
  const written = Promise.all(entries(3).map((each) => writer.write(each)));
  await env.advance(10_000);
  await written;
  assert.deepEqual(broker.ids(), ['id-0', 'id-1', 'id-2']);
  assert.deepEqual(broker.idempotent, [true, true, false]);
  assert.deepEqual(
    broker.producers.map(({ closed }) => closed),
    [true, true, false],
  );
  await writer.close();
  assert.equal(broker.producers[2]!.closed, true);
});

test('kafka: a send that never returns is given up and repeated', async () => {
  const env = new HandEnv();
  const broker = new FakeBroker();
  broker.hang = true;
  const writer = await openKafka(broker, env);
  const written = writer.write(entry(1));
  await env.advance(60_100);
  assert.equal(broker.producers[0]!.closed, true);
  broker.hang = false;
  await env.advance(60_000);
  await written;
  assert.deepEqual(broker.ids(), ['id-1']);
});

test('kafka: close ends a hanging send', async () => {
  const env = new HandEnv();
  const broker = new FakeBroker();
  broker.hang = true;
  const writer = await openKafka(broker, env);
  const written = assert.rejects(writer.write(entry(1)), { code: 'DEAD_LETTER_CLOSED' });
  await env.advance(10);
  assert.equal(broker.sends, 1);
  await writer.close();
  await written;
  await turns();
  assert.equal(env.timers, 0);
});

test('kafka: what the topic can never take goes to the store, the rest goes on', async () => {
  const env = new HandEnv();
  const broker = new FakeBroker();
  broker.maxBytes = 1_000;
  const store = new PutStore();
  const writer = await openKafka(broker, env, store);
  const raw = Buffer.alloc(5_000, 0x62);
  const batch = entries(6).map((each) => (each.id === 'id-3' ? { ...each, raw } : each));
  const written = Promise.all(batch.map((each) => writer.write(each)));
  await env.advance(60_000);
  await written;
  assert.deepEqual(broker.ids().sort(), batch.map(({ id }) => id).sort());
  const pointer = broker.messages.find((message) => headersOf(message)['dlq.id'] === 'id-3')!;
  assert.equal(pointer.value.length, 0);
  assert.match(headersOf(pointer)['dlq.raw-stored-in']!, /dead-letter/);
  const [stored] = [...store.objects.values()].flatMap(lines);
  assert.deepEqual(Buffer.from(String(stored!['raw']), 'base64'), raw);
});
