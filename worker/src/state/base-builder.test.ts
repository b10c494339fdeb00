import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSegment } from '../checkpoint/segment-reader.ts';
import { realEnv } from '../runtime/env.ts';
import type { ScanOptions } from './backend.ts';
import { BaseBuilder, type HeadWriter } from './base-builder.ts';
import { MemoryBackend } from './memory-backend.ts';
import { PROFILE, rowKey, userPrefix } from './rows.ts';

const RANGE = { first: 0, last: 9 };
const NONE: HeadWriter = { writeHeads: () => true };

function builderOf(backend: MemoryBackend, heads: HeadWriter = NONE): BaseBuilder {
  return new BaseBuilder(backend, realEnv, RANGE, heads);
}

const rowOf = (group: number, user: string, value: string) => ({
  key: rowKey(userPrefix(group, user), PROFILE),
  value: Buffer.from(value),
});

/** Calls `onScan` after the iterator is made, as what happens beside a base would. */
class WatchedBackend extends MemoryBackend {
  onScan: (scans: number) => void = () => {};
  #scans = 0;
  override scan(options: ScanOptions) {
    const iterator = super.scan(options);
    this.onScan(++this.#scans);
    return iterator;
  }
}

async function valuesOf(content: Buffer): Promise<string[]> {
  const reader = await openSegment(content, 'base');
  const values: string[] = [];
  for (const group of reader.groups.keys()) {
    for await (const batch of reader.readGroup(group)) {
      for (const { key, value } of batch) values.push(`${key.readUInt16BE(0)}:${value}`);
    }
  }
  return values;
}

test('a base holds all rows of its groups, of no others, and names empty groups too', async () => {
  const backend = new MemoryBackend();
  backend.write([0, 1, 2, 3, 255, 256].map((group) => rowOf(group, 'u', `v${group}`)));
  const base = await builderOf(backend).build([1, 3, 7], 12);
  assert.ok(base);
  const { header } = await openSegment(base.segment.content, 'base');
  assert.deepEqual(header, { kind: 'base', from: 0, to: 0, run: 0, epoch: 12, range: RANGE });
  assert.deepEqual(await valuesOf(base.segment.content), ['1:v1', '3:v3']);
  assert.deepEqual([...base.groupBytes.keys()], [1, 3, 7]);
  assert.equal(base.groupBytes.get(7), 0);
  assert.ok(base.groupBytes.get(1)! > 0);
});

test('many rows pass in batches, in order', async () => {
  const backend = new MemoryBackend();
  const users = Array.from({ length: 1000 }, (_, n) => `u${String(n).padStart(4, '0')}`);
  backend.write(users.map((user) => rowOf(4, user, user)));
  const base = await builderOf(backend).build([4], 1);
  assert.equal(base!.segment.rows, 1000);
  assert.deepEqual(
    await valuesOf(base!.segment.content),
    users.map((user) => `4:${user}`),
  );
});

test('stopped before the first group: no base', async () => {
  const builder = builderOf(new MemoryBackend());
  builder.stop();
  assert.equal(await builder.build([1, 2], 3), null);
});

test('a barrier during a group: it ends as of its iterator, the next is not begun', async () => {
  const backend = new WatchedBackend();
  backend.write([1, 2, 3].map((group) => rowOf(group, 'u', 'before')));
  const builder = builderOf(backend);
  backend.onScan = (scans) => {
    if (scans < 2) return;
    builder.stop();
    backend.write([1, 2, 3].map((group) => rowOf(group, 'u', 'after the barrier')));
  };
  const base = await builder.build([1, 2, 3], 5);
  assert.ok(base);
  assert.deepEqual([...base.groupBytes.keys()], [1, 2]);
  assert.deepEqual(await valuesOf(base.segment.content), ['1:before', '2:before']);
});

test('the first iterator is made in the turn of the call', async () => {
  const backend = new WatchedBackend();
  let scans = 0;
  backend.onScan = (count) => {
    scans = count;
  };
  const built = builderOf(backend).build([1], 5);
  assert.equal(scans, 1, 'a barrier of the next turn must find it made (P13)');
  await built;
});

test('heads of live users are in the backend before its scan, a group at a time', async () => {
  const backend = new WatchedBackend();
  const waiting = [1, 1, 2].map((group, n) => rowOf(group, `u${n}`, `head ${n}`));
  const scanned: number[] = [];
  backend.onScan = () => scanned.push(waiting.length);
  const base = await builderOf(backend, {
    writeHeads(group) {
      const at = waiting.findIndex(({ key }) => key.readUInt16BE(0) === group);
      if (at >= 0) backend.write(waiting.splice(at, 1));
      return waiting.every(({ key }) => key.readUInt16BE(0) !== group);
    },
  }).build([1, 2], 5);
  assert.deepEqual(await valuesOf(base!.segment.content), ['1:head 0', '1:head 1', '2:head 2']);
  assert.deepEqual(scanned, [1, 0]);
});

test('a barrier comes while heads are written: the group is not begun', async () => {
  const backend = new WatchedBackend();
  backend.write([rowOf(1, 'u', 'v')]);
  let left = 3;
  const builder = builderOf(backend, { writeHeads: () => --left === 0 });
  const built = builder.build([1], 5);
  builder.stop();
  assert.equal(await built, null);
  assert.equal(left, 2);
});

test('a backend that wants no writes gets no heads until it does', async () => {
  const backend = new WatchedBackend();
  backend.write([rowOf(1, 'u', 'v')]);
  let [looks, wrote] = [0, 0];
  backend.stalled = () => ++looks < 4;
  const base = await builderOf(backend, { writeHeads: () => ++wrote > 0 }).build([1], 5);
  assert.deepEqual([wrote, base?.groupBytes.size], [1, 1]);
});
