import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import { SegmentWriter } from '../checkpoint/segment.ts';
import type { SegmentHeader } from '../checkpoint/segment-format.ts';
import type { DeltaRef, KeyGroupRange, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { realEnv } from '../runtime/env.ts';
import type { StateBackend } from './backend.ts';
import { ExpiryIndex } from './expiry-index.ts';
import { HydratingBackend } from './hydrating-backend.ts';
import { MemoryBackend } from './memory-backend.ts';
import { restoreState } from './restore.ts';
import { encodeHead, HEAD, isHeadKey, PROFILE, rowKey, type UserRow, userPrefix } from './rows.ts';

const TTL_MS = 1000;
const CACHE_BYTES = 1024 * 1024;
const WHOLE = { first: 0, last: 7 };

/** Head and tail of a user; `lastAccess` null deletes both. */
function userRows(group: number, id: string, lastAccess: number | null): UserRow[] {
  const prefix = userPrefix(group, id);
  const head = {
    lastAccess: lastAccess ?? 0,
    eventCount: 1,
    lastEventName: null,
    lastEventAt: null,
    firstSeq: 0,
    nextSeq: 0,
    tailSeq: 0,
    truncated: 0,
    fetchedBy: 0,
    fields: null,
    profileBytes: 0,
    chunks: [],
  };
  const gone = lastAccess === null;
  return [
    { key: rowKey(prefix, HEAD), value: gone ? null : encodeHead(head) },
    { key: rowKey(prefix, PROFILE), value: gone ? null : Buffer.from(`${id}@${lastAccess}`) },
  ];
}

class Rig {
  readonly store = new MemoryStore(realEnv);
  #objects = 0;

  async put(header: Omit<SegmentHeader, 'range'>, range: KeyGroupRange, ops: readonly UserRow[]) {
    const writer = new SegmentWriter({ ...header, range });
    const sorted = [...ops].sort((a, b) => a.key.compare(b.key));
    for (let group = range.first; group <= range.last; group++) {
      const own = sorted.filter(({ key }) => key.readUInt16BE(0) === group);
      if (own.length > 0) await writer.addGroup(group, own);
    }
    const { content, bytes, sha256 } = await writer.finish();
    const name = `segments/1/object-${this.#objects++}`;
    await this.store.put(name, content);
    return { name, bytes, sha256 };
  }

  async delta(from: number, to: number, range: KeyGroupRange, ops: readonly UserRow[] | null) {
    const header = { kind: 'delta', from, to, run: 0, epoch: 0 } as const;
    const object = ops === null ? null : await this.put(header, range, ops);
    return { range, from, to, run: 0, object } satisfies DeltaRef;
  }

  async base(epoch: number, range: KeyGroupRange, groups: number[], ops: readonly UserRow[]) {
    const header = { kind: 'base', from: 0, to: 0, run: 0, epoch } as const;
    return { groups, epoch, object: await this.put(header, range, ops) };
  }

  /**
   * With all rows written first; out of memory, with the heads written; with them held, too: all
   * must give the same.
   */
  async restore(snapshots: readonly SubtaskSnapshot[], checkpointId: number, range = WHOLE) {
    const eager = new MemoryBackend();
    const expiry = new ExpiryIndex(TTL_MS);
    const request = { store: this.store, expiry, range, snapshots, checkpointId };
    const written = await restoreState({ ...request, backend: eager });
    const all = await allRows(eager, 0);
    const heads = all.filter(({ key }) => /^ffff/.test(key) || isHeadKey(Buffer.from(key, 'hex')));
    const lazily = async (headBytes: number, atFirst: typeof all) => {
      const inner = new MemoryBackend();
      const backend = new HydratingBackend(inner, CACHE_BYTES, headBytes);
      const result = await restoreState({ ...request, backend, hydration: backend });
      assert.deepEqual(await allRows(inner, 0), atFirst, 'what is written before it is needed');
      assert.equal(result.users, written.users);
      assert.deepEqual(result.chain, written.chain);
      assert.deepEqual(await allRows(backend, 0), all);
      return { ...result, backend, expiry };
    };
    await lazily(0, heads);
    return lazily(CACHE_BYTES, []);
  }
}

function snapshot(
  range: KeyGroupRange,
  deltas: DeltaRef[],
  bases: SubtaskSnapshot['bases'] = [],
): SubtaskSnapshot {
  return { range, deltas, bases } as Partial<SubtaskSnapshot> as SubtaskSnapshot;
}

/** Of these key groups; the last one is that of the marks. */
async function allRows(backend: StateBackend, first: number, end?: number) {
  const rows: { key: string; value: string }[] = [];
  const gte = Buffer.from([first >> 8, first & 0xff]);
  const lt = end === undefined ? Buffer.alloc(3, 0xff) : Buffer.from([end >> 8, end & 0xff]);
  for await (const batch of backend.scan({ gte, lt, maxRows: 100, maxBytes: 1 << 20 })) {
    for (const { key, value } of batch) {
      rows.push({ key: key.toString('hex'), value: value.toString('hex') });
    }
  }
  return rows;
}

const tailOf = (backend: StateBackend, group: number, id: string) =>
  backend.getMany([rowKey(userPrefix(group, id), PROFILE)])[0]?.toString();

async function marksOf(backend: StateBackend, expiry: ExpiryIndex, time: number) {
  const users: string[] = [];
  const range = expiry.expiredRange(time);
  for await (const batch of backend.scan({ ...range, maxRows: 100, maxBytes: 1 << 20 })) {
    users.push(...batch.map(({ key }) => expiry.parse(key).userId));
  }
  return users;
}

test('no snapshot: a fresh start, with an empty chain', async () => {
  const { users, bytes, chain, backend } = await new Rig().restore([], 0);
  assert.deepEqual([users, bytes, chain.bytes], [0, 0, 0]);
  assert.deepEqual(chain.snapshot(99), { bases: [], deltas: [] });
  assert.equal(backend.stats()['rows'], 0);
});

test('base, then deltas in order; later rows win; users and marks are built anew', async () => {
  const rig = new Rig();
  const base = await rig.base(4, WHOLE, [0, 1], [...userRows(0, 'a', 10), ...userRows(1, 'b', 10)]);
  const deltas = [
    await rig.delta(0, 3, WHOLE, [...userRows(0, 'a', 1), ...userRows(2, 'c', 5000)]),
    await rig.delta(3, 6, WHOLE, [...userRows(0, 'a', 8000), ...userRows(1, 'n', 30)]),
    await rig.delta(6, 9, WHOLE, [...userRows(1, 'b', null), ...userRows(1, 'never', null)]),
    await rig.delta(9, 12, WHOLE, null),
  ];
  const restored = await rig.restore([snapshot(WHOLE, deltas, [base])], 12);
  assert.equal(restored.users, 3);
  assert.equal(tailOf(restored.backend, 0, 'a'), 'a@8000');
  assert.equal(tailOf(restored.backend, 1, 'b'), undefined);
  assert.equal(tailOf(restored.backend, 1, 'n'), 'n@30');
  assert.equal(tailOf(restored.backend, 2, 'c'), 'c@5000', 'delta 0..3 serves groups without base');
  const marks = await marksOf(restored.backend, restored.expiry, 100_000);
  assert.deepEqual([...new Set(marks)].sort(), ['a', 'c', 'n'], 'none of a user that is gone');
  assert.ok(restored.bytes > 0);
});

test('the chain goes on where it was: the next checkpoint restores the same', async () => {
  const rig = new Rig();
  const base = await rig.base(4, WHOLE, [0], userRows(0, 'a', 10));
  const deltas = [
    await rig.delta(0, 3, WHOLE, userRows(2, 'c', 20)),
    await rig.delta(3, 6, WHOLE, userRows(0, 'a', 30)),
  ];
  const { chain } = await rig.restore([snapshot(WHOLE, deltas, [base])], 6);
  const next = await rig.delta(6, 10, WHOLE, userRows(5, 'e', 40));
  chain.addDelta(next, new Map([[5, 10]]));
  const parts = chain.snapshot(10);
  assert.deepEqual(parts.deltas, [...deltas, next]);
  const again = await rig.restore([snapshot(WHOLE, parts.deltas, parts.bases)], 10);
  assert.equal(again.users, 3);
  assert.equal(tailOf(again.backend, 0, 'a'), 'a@30');
});

test('rescale: 1 -> 2 -> 1, each task takes its groups, and their chains stay whole', async () => {
  const rig = new Rig();
  const all = [0, 3, 4, 7].flatMap((group) => userRows(group, `u${group}`, group));
  const base = await rig.base(1, WHOLE, [3, 4], all);
  const deltas = [
    await rig.delta(0, 1, WHOLE, all),
    await rig.delta(1, 2, WHOLE, userRows(4, 'x', 9)),
  ];
  const halves: SubtaskSnapshot[] = [];
  for (const range of [
    { first: 0, last: 3 },
    { first: 4, last: 7 },
  ]) {
    const half = await rig.restore([snapshot(WHOLE, deltas, [base])], 2, range);
    assert.equal(half.users, range.first === 0 ? 2 : 3);
    half.chain.addDelta(
      await rig.delta(2, 5, range, userRows(range.first, 'y', 1)),
      new Map([[range.first, 10]]),
    );
    const { deltas: own, bases } = half.chain.snapshot(5);
    for (const ref of own) assert.deepEqual(ref.range, range);
    assert.deepEqual(
      bases.map(({ groups }) => groups),
      [[range.first === 0 ? 3 : 4]],
    );
    halves.push(snapshot(range, own, bases));
  }
  const joined = await rig.restore(halves, 5);
  assert.equal(joined.users, 7);
  const { deltas: own, bases } = joined.chain.snapshot(5);
  const again = await rig.restore([snapshot(WHOLE, own, bases)], 5);
  assert.equal(again.users, 7);
});

test('a group that no snapshot owns is damage, never an empty start', async () => {
  const rig = new Rig();
  const half = { first: 0, last: 3 };
  const deltas = [await rig.delta(0, 2, half, userRows(1, 'a', 1))];
  await assert.rejects(rig.restore([snapshot(half, deltas)], 2), { code: 'RESTORE_INCOMPLETE' });
});

test('a missing delta, a chain that ends early and a lost object are refused', async () => {
  const rig = new Rig();
  const deltas = [
    await rig.delta(0, 2, WHOLE, userRows(1, 'a', 1)),
    await rig.delta(2, 4, WHOLE, userRows(1, 'a', 2)),
    await rig.delta(4, 6, WHOLE, null),
  ];
  const without = (to: number) => [
    snapshot(
      WHOLE,
      deltas.filter((delta) => delta.to !== to),
    ),
  ];
  for (const to of [2, 4, 6]) {
    await assert.rejects(rig.restore(without(to), 6), { code: 'CHAIN_GAP' }, `without ${to}`);
  }
  const lost = deltas[1]!.object!.name;
  await rig.store.delete([lost]);
  await assert.rejects(rig.restore([snapshot(WHOLE, deltas)], 6), { code: 'SEGMENT_MISSING' });
});

test('users without a time come back without a mark', async () => {
  const rig = new Rig();
  const deltas = [await rig.delta(0, 1, WHOLE, userRows(1, 'timeless', -1))];
  const { backend, expiry, users } = await rig.restore([snapshot(WHOLE, deltas)], 1);
  assert.equal(users, 1);
  assert.deepEqual(await marksOf(backend, expiry, 4_000_000_000_000), []);
});

test('a task that is closed hears of it between batches and gives up', async () => {
  const rig = new Rig();
  const deltas: DeltaRef[] = [];
  for (let to = 1; to <= 20; to += 1) {
    const rows = [0, 1, 2, 3].flatMap((group) => userRows(group, `u${to}`, to));
    deltas.push(await rig.delta(to - 1, to, WHOLE, rows));
  }
  const backend = new MemoryBackend();
  let writes = 0;
  let closed = false;
  const write = backend.write.bind(backend);
  backend.write = (ops) => {
    // What tells the task comes with a later turn of the event loop.
    if (writes === 0) setImmediate(() => (closed = true));
    writes += 1;
    write(ops);
  };
  const restoring = restoreState({
    store: rig.store,
    backend,
    expiry: new ExpiryIndex(TTL_MS),
    range: WHOLE,
    snapshots: [snapshot(WHOLE, deltas)],
    checkpointId: 20,
    stopped: () => closed,
  });
  await assert.rejects(restoring, { code: 'RESTORE_STOPPED' });
  assert.ok(writes > 0 && writes < 80, `${writes} of 80 batches were written`);
});
