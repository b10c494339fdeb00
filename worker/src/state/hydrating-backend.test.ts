import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SegmentWriter } from '../checkpoint/segment.ts';
import { openSegment } from '../checkpoint/segment-reader.ts';
import { realEnv } from '../runtime/env.ts';
import { GroupImage } from './group-image.ts';
import { HydratingBackend } from './hydrating-backend.ts';
import { RecordingBackend } from './recording-backend.ts';
import { CHUNK, HEAD, PROFILE, rowKey, type UserRow, userPrefix } from './rows.ts';

const RANGE = { first: 0, last: 3 };
const CACHE_BYTES = 1024 * 1024;
const SEGMENT_BYTES = 1000;
/** Enough that a key group has several blocks. */
const PADDING = 'x'.repeat(20_000);

const put = (group: number, id: string, row: number, text: string): UserRow => {
  return { key: rowKey(userPrefix(group, id), row), value: Buffer.from(text) };
};
const gone = ({ key }: UserRow): UserRow => ({ key, value: null });

/** A segment of a chain, in memory. */
async function reader(to: number, ops: readonly UserRow[]) {
  const writer = new SegmentWriter({
    kind: 'delta',
    from: to - 1,
    to,
    run: 0,
    epoch: 0,
    range: RANGE,
  });
  const sorted = [...ops].sort((a, b) => a.key.compare(b.key));
  for (let group = RANGE.first; group <= RANGE.last; group++) {
    const own = sorted.filter(({ key }) => key.readUInt16BE(0) === group);
    if (own.length > 0) await writer.addGroup(group, own);
  }
  return openSegment((await writer.finish()).content, `delta-${to}`);
}

/** `parts`: what each interval wrote, oldest first. `held`: the heads are in memory, too. */
async function restored(held: boolean, parts: readonly UserRow[][]) {
  const readers = await Promise.all(parts.map((ops, i) => reader(i + 1, ops)));
  const images: GroupImage[] = [];
  const heads: string[] = [];
  const inner = new RecordingBackend();
  for (let group = RANGE.first; group <= RANGE.last; group++) {
    const image = new GroupImage(group, [...readers].reverse());
    for (const step of image.heads(held ? undefined : Buffer.alloc(1 << 18))) {
      if (held) image.hold(step.heads);
      else inner.write(step.heads);
      heads.push(...step.heads.map(({ value }) => value!.toString()));
    }
    images.push(image);
  }
  inner.written.length = 0;
  const backend = new HydratingBackend(inner, CACHE_BYTES);
  backend.attach(images, SEGMENT_BYTES, (head) => [markOf(head)]);
  return { backend, inner, heads };
}

const hydrating = (...parts: UserRow[][]) => restored(false, parts);
const markOf = ({ key }: UserRow): UserRow => {
  return { key: Buffer.from([0xff, 0xff, ...key]), value: Buffer.from('mark') };
};

const read = (backend: HydratingBackend, ...rows: UserRow[]) =>
  backend.getMany(rows.map(({ key }) => key)).map((value) => value?.toString().slice(0, 8));

const writtenOf = (inner: RecordingBackend, one: UserRow) =>
  inner.written.filter(({ key }) => key.equals(one.key)).map(({ value }) => value?.toString());

const A = put(0, 'a', HEAD, 'a1');
const A_PROFILE = put(0, 'a', PROFILE, 'of a');
const A_CHUNK = put(0, 'a', CHUNK, 'chunk of a');
const B = put(0, 'b', HEAD, 'b1');
const B_PROFILE = put(0, 'b', PROFILE, 'of b');
const B_CHUNK = put(0, 'b', CHUNK, 'chunk of b');
const C = put(2, 'c', HEAD, 'c1');
const C_PROFILE = put(2, 'c', PROFILE, 'of c');

test('heads are there; a read brings over the rows of its user that are of its kind', async () => {
  const { backend, inner } = await hydrating(
    [A, A_CHUNK, A_PROFILE, B, B_PROFILE, C, C_PROFILE],
    [put(0, 'a', PROFILE, 'new'), put(0, 'b', HEAD, 'b2'), gone(A_CHUNK)],
  );
  assert.deepEqual(read(backend, A, B, C, put(0, 'nobody', HEAD, '')), [
    'a1',
    'b2',
    'c1',
    undefined,
  ]);
  assert.equal(inner.written.length, 0, 'a head brings nothing over');
  assert.deepEqual(read(backend, A_CHUNK), [undefined]);
  assert.equal(inner.written.length, 0, 'it is deleted, and the profile was not asked for');
  assert.deepEqual(read(backend, A_PROFILE, B_PROFILE), ['new', 'of b']);
  assert.equal(inner.written.length, 2, 'as the chain leaves them');
  assert.deepEqual(read(backend, put(0, 'nobody', PROFILE, '')), [undefined]);
  assert.deepEqual(writtenOf(inner, A_PROFILE), ['new'], 'once');
  assert.equal(writtenOf(inner, C_PROFILE).length, 0, 'not asked for');
});

async function changedMeanwhile(held: boolean): Promise<RecordingBackend> {
  const { backend, inner } = await restored(held, [
    [A, A_PROFILE, A_CHUNK, B, B_PROFILE, B_CHUNK, C, C_PROFILE],
  ]);
  read(backend, A_PROFILE);
  backend.write([put(0, 'a', HEAD, 'a2'), gone(A_CHUNK)]);
  // Never asked for: the chunk is gone, the profile is still to come.
  backend.write([gone(B_CHUNK), put(0, 'b', HEAD, 'b2')]);
  assert.deepEqual(read(backend, B_CHUNK, B_PROFILE), [undefined, 'of b']);
  // Dropped, and fetched anew.
  backend.write([gone(C), gone(C_PROFILE)]);
  backend.write([put(2, 'c', HEAD, 'c2'), put(2, 'c', PROFILE, 'of c2')]);
  await backend.hydrate(realEnv);
  assert.equal(backend.groupsLeft, 0);
  const found = read(backend, A, A_PROFILE, A_CHUNK, B, B_CHUNK, C, C_PROFILE);
  assert.deepEqual(found, ['a2', 'of a', undefined, 'b2', undefined, 'c2', 'of c2']);
  assert.deepEqual(writtenOf(inner, C_PROFILE), [undefined, 'of c2']);
  return inner;
}

test('what was changed meanwhile stays: no restored row is written over it', async () => {
  const inner = await changedMeanwhile(false);
  assert.deepEqual(writtenOf(inner, markOf(A)), [], 'the restore has written it');
});

test('held heads are overwritten like other rows, and nobody goes without a mark', async () => {
  const inner = await changedMeanwhile(true);
  for (const head of [A, B, C]) assert.deepEqual(writtenOf(inner, markOf(head)), ['mark']);
  assert.deepEqual(writtenOf(inner, A), ['a2']);
  assert.deepEqual(writtenOf(inner, C), [undefined, 'c2']);
});

test('held heads are read without a write, and all of them are written in the end', async () => {
  const { backend, inner } = await restored(true, [
    [A, A_PROFILE, B, C],
    [put(0, 'b', HEAD, 'b2')],
  ]);
  const asked = [A, put(0, 'nobody', HEAD, ''), B, C];
  assert.deepEqual(read(backend, ...asked), ['a1', undefined, 'b2', 'c1']);
  assert.equal(inner.written.length, 0);
  await backend.hydrate(realEnv);
  assert.deepEqual(read(backend, ...asked), ['a1', undefined, 'b2', 'c1']);
  for (const head of [A, B, C]) assert.deepEqual(writtenOf(inner, markOf(head)), ['mark']);
});

test('a scan finds held heads', async () => {
  const { backend } = await restored(true, [[A, A_PROFILE, B]]);
  const range = { gte: Buffer.from([0, 0]), lt: Buffer.from([0, 1]) };
  const found: string[] = [];
  for await (const rows of backend.scan({ ...range, maxRows: 100, maxBytes: 1000 })) {
    found.push(...rows.map(({ value }) => value.toString()));
  }
  assert.deepEqual(found, ['a1', 'b1', 'of a']);
});

test('users with ids of any length in one block', async () => {
  const long = 'x'.repeat(300);
  const rows = ['u', long, 'user-1000000'].flatMap((id) => [
    put(0, id, HEAD, 'head'),
    put(0, id, PROFILE, id.slice(0, 4)),
  ]);
  const { backend } = await hydrating(rows);
  for (const id of [long, 'user-1000000', 'u', 'nobody at all']) {
    const found = id.startsWith('nobody') ? undefined : id.slice(0, 4);
    assert.deepEqual(read(backend, put(0, id, PROFILE, '')), [found]);
  }
});

test('many new users bring nobody over', async () => {
  const { backend, inner } = await hydrating([A, A_PROFILE, C, C_PROFILE]);
  const newcomers = Array.from({ length: 300 }, (_, n) => put(0, `new ${n}`, PROFILE, 'x'));
  assert.ok(read(backend, ...newcomers).every((row) => row === undefined));
  assert.equal(inner.written.length, 0);
});

test('a change in the midst of a key group: the rest of it leaves that user out', async () => {
  const users = Array.from({ length: 60 }, (_, n) => `u${String(n).padStart(2, '0')}`);
  const rows = users.flatMap((id) => [put(1, id, HEAD, `${id}@1`), put(1, id, PROFILE, PADDING)]);
  const { backend, inner, heads } = await hydrating(rows, [put(1, 'u30', HEAD, 'u30@2')]);
  assert.equal(heads.length, users.length, 'each user is counted once');
  assert.equal(backend.stats()['hydration_bytes'], SEGMENT_BYTES);
  const slices = backend.hydrate(realEnv);
  assert.ok(inner.written.length > 0 && inner.written.length < rows.length, 'one slice is out');
  for (const id of ['u00', 'u30', 'u59']) {
    const before = id === 'u30' ? 'u30@2' : `${id}@1`;
    assert.deepEqual(read(backend, put(1, id, HEAD, ''), put(1, id, PROFILE, '')), [
      before,
      PADDING.slice(0, 8),
    ]);
    backend.write([put(1, id, HEAD, 'later'), gone(put(1, id, PROFILE, ''))]);
  }
  await slices;
  assert.equal(backend.stats()['hydration_bytes'], 0, 'let go of');
  for (const id of users) {
    const changed = ['u00', 'u30', 'u59'].includes(id);
    const expected = changed ? ['later', undefined] : [`${id}@1`, PADDING.slice(0, 8)];
    assert.deepEqual(read(backend, put(1, id, HEAD, ''), put(1, id, PROFILE, '')), expected);
  }
});

test('a scan finds the whole of its key groups, and brings no others over', async () => {
  const { backend } = await hydrating([A, A_PROFILE, B, B_PROFILE, C], [gone(B), gone(B_PROFILE)]);
  const scan = backend.scan({
    gte: Buffer.from([0, 0]),
    lt: Buffer.from([0, 1]),
    maxRows: 100,
    maxBytes: 1000,
  });
  const found: string[] = [];
  for await (const rows of scan) found.push(...rows.map(({ value }) => value.toString()));
  assert.deepEqual(found, ['a1', 'of a']);
  assert.equal(backend.groupsLeft, RANGE.last, 'group 0 is done');
});

test('while the backend wants no writes only what is asked for is brought over', async () => {
  const { backend, inner } = await hydrating([A, A_PROFILE, B, B_PROFILE, C, C_PROFILE]);
  let stalled = true;
  inner.stalled = () => stalled;
  const hydrated = backend.hydrate(realEnv);
  assert.equal(inner.written.length, 0);
  assert.deepEqual(read(backend, B_PROFILE), ['of b']);
  stalled = false;
  await hydrated;
  assert.deepEqual(writtenOf(inner, B_PROFILE), ['of b']);
  assert.deepEqual(read(backend, A_PROFILE, C_PROFILE), ['of a', 'of c']);
});

test('where many are asked for, each takes others along', async () => {
  const users = Array.from({ length: 400 }, (_, n) => `u${String(n).padStart(3, '0')}`);
  const { backend, inner } = await hydrating(users.map((id) => put(1, id, PROFILE, id)));
  const ask = (from: number, to: number) =>
    read(backend, ...users.slice(from, to).map((id) => put(1, id, PROFILE, '')));
  ask(0, 100);
  ask(100, 200);
  assert.equal(inner.written.length, 200, 'few in one read: they alone');
  assert.equal(backend.heldBytes(), SEGMENT_BYTES);
  assert.deepEqual(ask(200, 330), users.slice(200, 330));
  assert.equal(inner.written.length, users.length);
  assert.deepEqual(ask(330, 400), users.slice(330));
  assert.equal(inner.written.length, users.length, 'each once');
  await backend.hydrate(realEnv);
  assert.equal(backend.heldBytes(), 0);
});

test('closed before all is out: nothing more is written', async () => {
  const { backend, inner } = await hydrating([A, A_PROFILE, B, C, C_PROFILE]);
  await backend.close();
  await backend.hydrate(realEnv);
  assert.equal(inner.written.length, 0);
});
