import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Env } from '../runtime/env.ts';
import { JobLog, type LogBody } from './log.ts';
import { decideRestore, decodeRecord, encodeRecord, readState } from './log-record.ts';
import { MemoryStore } from './memory-store.ts';
import { logPath } from './paths.ts';
import type { LogRecord, ObjectRef } from './snapshot.ts';

function virtualEnv(): Env {
  let nowMs = 1;
  let ids = 0;
  return {
    now: () => nowMs,
    monotonic: () => nowMs,
    random: () => 0.5,
    id: () => `id${ids++}`,
    timer: (delayMs, fn) => {
      nowMs += delayMs;
      queueMicrotask(fn);
      return { cancel: () => {} };
    },
  };
}

const manifest = (name: string): ObjectRef => ({ name, bytes: 1, sha256: 'a'.repeat(64) });
const point = (id: number): LogBody => ({
  kind: 'checkpoint',
  checkpointId: id,
  manifest: manifest(`m${id}`),
});
const abort = (id: number): LogBody => ({ kind: 'abort', checkpointId: id, reason: 'r' });
const restore = (id: number, name: string | null, savepoint: string | null = null): LogBody => ({
  kind: 'restore',
  checkpointId: id,
  manifest: name === null ? null : manifest(name),
  reason: 'r',
  savepoint,
});
const GENESIS: LogBody = { kind: 'genesis', lineage: 'l', restoredFrom: null };
const TAKEOVER: LogBody = { kind: 'takeover' };

function records(...bodies: LogBody[]): LogRecord[] {
  return bodies.map((body, logIndex) => ({
    logIndex,
    leaderEpoch: 1,
    at: 0,
    writer: 'w',
    nonce: 'n',
    ...body,
  }));
}

function open(store: MemoryStore, env: Env, writer = 'w', hint?: number): JobLog {
  return new JobLog({ store, env, writer, retained: 2, ...(hint === undefined ? {} : { hint }) });
}

const start = { lineage: 'l', restoredFrom: null };

test('the end is found from any hint, by few reads', async () => {
  let most = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: 400 }), fc.option(fc.nat({ max: 900 })), async (size, hint) => {
      const env = virtualEnv();
      const store = new MemoryStore(env);
      for (let i = 0; i < size; i++) await store.put(logPath(i), Buffer.from('x'));
      let reads = 0;
      store.onCall = () => {
        reads++;
      };
      assert.equal(await open(store, env, 'w', hint ?? undefined).findEnd(), size - 1);
      most = Math.max(most, reads / 2);
    }),
    { seed: 3, numRuns: 200 },
  );
  console.log(`at most ${most} reads`);
  assert.ok(most <= 24);
});

test('what the log says: the newest, unless a restore record cut the line back', () => {
  const chosen = (...bodies: LogBody[]) => {
    const decision = decideRestore(records(GENESIS, TAKEOVER, ...bodies));
    if (decision.kind !== 'restore') return decision.kind;
    const older = decision.older.map((one) => one.checkpointId);
    return [decision.manifest.name, ...older].join(' ');
  };
  assert.equal(chosen(), 'fresh');
  assert.equal(chosen(abort(1)), 'fresh');
  assert.equal(chosen(point(1), point(2), abort(3)), 'm2 1');
  assert.equal(chosen(point(1), point(2), restore(1, 'm1')), 'm1');
  assert.equal(chosen(point(1), point(2), restore(1, 'm1'), TAKEOVER, point(4)), 'm4 1');
  const back = [point(1), point(2), point(3), restore(2, 'm2'), point(5), restore(1, 'm1')];
  assert.equal(chosen(...back), 'm1');
  assert.equal(chosen(point(1), restore(7, 'imported', 's')), 'imported');
  assert.equal(chosen(point(1), restore(0, null)), 'fresh');
  assert.equal(chosen(point(1), restore(0, null), point(3)), 'm3');
});

test('a job that begins with a savepoint is not fresh until that is taken over', () => {
  const genesis: LogBody = { kind: 'genesis', lineage: 'l', restoredFrom: 's1' };
  assert.deepEqual(decideRestore(records(genesis, TAKEOVER)), {
    kind: 'savepoint',
    savepoint: 's1',
  });
  const after = records(genesis, TAKEOVER, restore(7, 'imported', 's1'), TAKEOVER);
  assert.equal(decideRestore(after).kind, 'restore');
  assert.deepEqual([...readState(after).usedSavepoints], ['s1']);
  assert.equal(readState(after).nextCheckpointId, 9);
});

test('a part of the log without a checkpoint never means fresh (I6)', () => {
  const tail = records(GENESIS, TAKEOVER, TAKEOVER, TAKEOVER).slice(1);
  assert.throws(() => decideRestore(tail), { code: 'INVARIANT' });
  assert.throws(() => decideRestore([]), { code: 'INVARIANT' });
});

test('ids go up, past aborted ones and past those that a dead leader may have drawn', () => {
  const next = (...bodies: LogBody[]) => readState(records(GENESIS, ...bodies)).nextCheckpointId;
  assert.equal(next(), 1);
  assert.equal(next(TAKEOVER), 2);
  assert.equal(next(TAKEOVER, point(2)), 3);
  assert.equal(next(TAKEOVER, point(2), abort(3)), 4);
  assert.equal(next(TAKEOVER, point(2), abort(3), restore(2, 'm2')), 4);
  assert.equal(next(TAKEOVER, point(2), TAKEOVER, TAKEOVER), 5);
});

test('a leader that finds a higher takeover is over, for good', async () => {
  const env = virtualEnv();
  const store = new MemoryStore(env);
  const [first, second] = [open(store, env, 'first'), open(store, env, 'second')];
  await first.takeover(start);
  await first.append(point(2));
  await second.takeover({ lineage: 'other', restoredFrom: null });
  assert.equal(second.leaderEpoch, 2);
  assert.equal(second.state.lineage, 'l');
  await assert.rejects(first.append(point(3)), { code: 'LEADERSHIP_LOST', message: /second/ });
  await assert.rejects(first.confirmEnd(), { code: 'LEADERSHIP_LOST' });
  await second.append(point(4));
  assert.deepEqual(
    (await second.readAll()).map((record) => [record.kind, record.leaderEpoch, record.writer]),
    [
      ['genesis', 0, 'first'],
      ['takeover', 1, 'first'],
      ['checkpoint', 1, 'first'],
      ['takeover', 2, 'second'],
      ['checkpoint', 2, 'second'],
    ],
  );
});

test('a record that no reader would take is not created', async () => {
  const env = virtualEnv();
  const store = new MemoryStore(env);
  const claim = open(store, env).takeover({ lineage: '', restoredFrom: null });
  await assert.rejects(claim, { code: 'INVARIANT', message: /genesis record: lineage/ });
  assert.equal(store.objects.size, 0);
});

test('a lost reply is read back: one record, not two', async () => {
  const env = virtualEnv();
  const store = new MemoryStore(env);
  const log = open(store, env);
  await log.takeover(start);
  let lost = 0;
  store.onCall = ({ operation, when }) => {
    if (operation === 'create' && when === 'after' && lost++ === 0) throw new Error('reset');
  };
  const record = await log.append(point(2));
  assert.equal(lost, 2);
  assert.equal(record.logIndex, 2);
  assert.equal((await log.readAll()).length, 3);
});

for (const landed of [false, true]) {
  test(`an append of unknown fate is settled: it ${landed ? 'landed' : 'did not'}`, async () => {
    const env = virtualEnv();
    const store = new MemoryStore(env);
    const log = open(store, env);
    await log.takeover(start);
    store.onCall = ({ operation, when }) => {
      if (operation === 'create' && when === 'before' && landed) return;
      throw new Error('outage');
    };
    await assert.rejects(log.append(point(2)), { code: 'LOG_UNAVAILABLE', retryable: true });
    store.onCall = null;
    await log.settle();
    assert.equal(log.records.at(-1)?.kind, landed ? 'checkpoint' : 'abort');
    const code = landed ? 'CHECKPOINT_PUBLISHED' : 'CHECKPOINT_ABORTED';
    await assert.rejects(log.append(point(2)), { code });
    await log.settle();
    assert.equal((await log.readAll()).length, 3);
  });
}

test('what was aborted, or came before a newer one, is not published', async () => {
  const env = virtualEnv();
  const log = open(new MemoryStore(env), env);
  await log.takeover(start);
  await log.append(abort(2));
  await assert.rejects(log.append(point(2)), { code: 'CHECKPOINT_ABORTED' });
  await log.append(point(5));
  await assert.rejects(log.append(abort(5)), { code: 'CHECKPOINT_PUBLISHED' });
  await assert.rejects(log.append(point(4)), { code: 'CHECKPOINT_ABORTED' });
});

test('of a long log only the genesis and a tail are read, as much as is needed', async () => {
  const env = virtualEnv();
  const store = new MemoryStore(env);
  const log = open(store, env);
  await log.takeover(start);
  for (let id = 2; id < 200; id++) await log.append(point(id));
  for (let id = 200; id < 400; id++) await log.append(abort(id));
  let reads = 0;
  store.onCall = ({ operation, when }) => {
    if (operation === 'get' && when === 'after') reads++;
  };
  const next = open(store, env, 'next', 390);
  await next.takeover(start);
  console.log(`${reads} reads of ${(await log.readAll()).length} records`);
  assert.equal(next.state.line.at(-1)?.checkpointId, 199);
  assert.equal(next.state.nextCheckpointId, 401);
  assert.equal(next.records[0]?.kind, 'genesis');
  assert.equal(next.records.length < 300, true);
});

test('the tail tells what parallelism was last asked for, however long ago', async () => {
  const env = virtualEnv();
  const store = new MemoryStore(env);
  const log = open(store, env);
  await log.takeover(start);
  const asked = { asked: 3, planned: 4 };
  await log.append({ kind: 'rescale', wantedParallelism: { asked: 9, planned: 4 } });
  await log.append({ kind: 'rescale', wantedParallelism: asked });
  for (let id = 2; id < 300; id++) await log.append(point(id));
  const next = open(store, env, 'next');
  await next.takeover(start);
  assert.ok(next.records.length < 200, 'the records of the wish are not read');
  assert.deepEqual(next.state.wantedParallelism, asked);
  await next.append({ kind: 'rescale', wantedParallelism: null });
  await next.append(point(301));
  assert.equal(readState(await next.readAll()).wantedParallelism, null);
});

test('a leader forgets old records, never what it needs to decide', async () => {
  const env = virtualEnv();
  const log = open(new MemoryStore(env), env);
  await log.takeover(start);
  for (let id = 2; id < 4200; id++) await log.append(id < 10 ? point(id) : abort(id));
  assert.ok(log.records.length > 4190, 'only aborts: the checkpoints must stay at hand');
  for (let id = 4200; id < 4210; id++) await log.append(point(id));
  console.log(`${log.records.length} records kept`);
  assert.ok(log.records.length < 2200);
  assert.equal(log.records[0]?.kind, 'genesis');
  assert.equal(log.state.line.at(-2)?.checkpointId, 4208);
  assert.equal(log.state.nextCheckpointId, 4210);
});

test('a hole or an unreadable record starts nothing', async () => {
  const env = virtualEnv();
  const store = new MemoryStore(env);
  const log = open(store, env);
  await log.takeover(start);
  await log.append(point(2));
  store.objects.delete(logPath(1));
  await assert.rejects(open(store, env, 'x', 2).takeover(start), { code: 'LOG_CORRUPT' });
  await store.put(logPath(1), Buffer.from('{"logIndex":1'));
  await assert.rejects(open(store, env).takeover(start), {
    code: 'LOG_CORRUPT',
    message: /record 1/,
  });
});

test('every record survives encoding; a wrong field, index or kind is refused', () => {
  const all = records(
    GENESIS,
    TAKEOVER,
    point(1),
    restore(0, null, 's'),
    restore(1, 'm'),
    abort(2),
  );
  for (const record of all) {
    assert.deepEqual(decodeRecord(encodeRecord(record), record.logIndex), record);
    assert.throws(() => decodeRecord(encodeRecord(record), 99), { code: 'LOG_CORRUPT' });
    for (const name of Object.keys(record)) {
      const broken = Buffer.from(JSON.stringify({ ...record, [name]: [] }));
      const refuse = () => decodeRecord(broken, record.logIndex);
      assert.throws(refuse, { code: 'LOG_CORRUPT', message: new RegExp(name) });
    }
  }
});
