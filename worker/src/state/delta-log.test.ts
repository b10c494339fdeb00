import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { FinishedSegment } from '../checkpoint/segment.ts';
import { openSegment } from '../checkpoint/segment-reader.ts';
import { DeltaLog } from './delta-log.ts';
import type { UserRow } from './user-state.ts';

const RANGE = { first: 4, last: 9 };

function rowOf(group: number, name: string, value: Buffer | null): UserRow {
  const key = Buffer.concat([Buffer.from([0, group]), Buffer.from(name)]);
  return { key, value };
}

/** Rows after applying all runs in order, tombstones kept: what a restore would do. */
async function merged(segments: readonly FinishedSegment[]): Promise<[string, string | null][]> {
  const rows = new Map<string, string | null>();
  for (const segment of segments) {
    const reader = await openSegment(segment.content, 'segment');
    for (const group of reader.groups.keys()) {
      for await (const batch of reader.readGroup(group)) {
        for (const { key, value } of batch) {
          rows.set(key.toString('latin1'), value === null ? null : value.toString('latin1'));
        }
      }
    }
  }
  return [...rows].sort(([a], [b]) => (a < b ? -1 : 1));
}

async function spoolFolder(t: { after(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'delta-log-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test('nothing changed: no segment', async () => {
  const log = new DeltaLog({ range: RANGE, limitBytes: 1000, spoolPath: null });
  assert.deepEqual(await log.seal(3, 5), []);
});

test('the last image of a row wins, a tombstone too; the header says which interval', async () => {
  const log = new DeltaLog({ range: RANGE, limitBytes: 1 << 20, spoolPath: null });
  log.add(7, rowOf(7, 'b', Buffer.from('1')));
  log.add(4, rowOf(4, 'a', Buffer.from('2')));
  log.add(7, rowOf(7, 'b', null));
  log.add(4, rowOf(4, 'a', null));
  log.add(4, rowOf(4, 'a', Buffer.alloc(0)));
  const segments = await log.seal(3, 8);
  assert.equal(segments.length, 1);
  const { header } = await openSegment(segments[0]!.content, 'segment');
  assert.deepEqual(header, { kind: 'delta', from: 3, to: 8, run: 0, epoch: 0, range: RANGE });
  assert.deepEqual(await merged(segments), [
    ['\u0000\u0004a', ''],
    ['\u0000\u0007b', null],
  ]);
  assert.deepEqual([...segments[0]!.groupBytes.keys()], [4, 7]);
});

test('replaced rows are not counted twice', () => {
  const log = new DeltaLog({ range: RANGE, limitBytes: 1 << 20, spoolPath: null });
  log.add(7, rowOf(7, 'b', Buffer.alloc(500)));
  const once = log.bytes;
  for (let n = 0; n < 100; n++) log.add(7, rowOf(7, 'b', Buffer.alloc(500)));
  assert.equal(log.bytes, once);
  log.add(7, rowOf(7, 'b', null));
  assert.equal(log.bytes, once - 500);
});

const change = fc.record({
  group: fc.integer({ min: RANGE.first, max: RANGE.last }),
  name: fc.constantFrom('a', 'b', 'c', 'dd', 'e'.repeat(50)),
  value: fc.option(fc.uint8Array({ maxLength: 300 })),
});

test('spooled runs give the same rows as memory, in run order, and leave no file', async (t) => {
  const folder = await spoolFolder(t);
  let runs = 0;
  let round = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(change, { size: 'max', minLength: 1, maxLength: 80 }),
      async (changes) => {
        const memory = new DeltaLog({ range: RANGE, limitBytes: 2000, spoolPath: null });
        const spoolPath = join(folder, 'slot-0', `${round++}`);
        const spooled = new DeltaLog({ range: RANGE, limitBytes: 2000, spoolPath });
        for (const { group, name, value } of changes) {
          const row = rowOf(group, name, value === null ? null : Buffer.from(value));
          memory.add(group, row);
          spooled.add(group, row);
          assert.ok(spooled.bytes <= 2000, 'above its limit');
        }
        const [whole, parts] = [await memory.seal(1, 2), await spooled.seal(1, 2)];
        assert.equal(whole.length, 1);
        runs = Math.max(runs, parts.length);
        assert.deepEqual(await merged(parts), await merged(whole));
        for (const [run, segment] of parts.entries()) {
          const { header } = await openSegment(segment.content, 'segment');
          assert.deepEqual([header.from, header.to, header.run], [1, 2, run]);
        }
      },
    ),
    { seed: 3, numRuns: 60 },
  );
  assert.ok(runs >= 3, `at most ${runs} runs were tried`);
  assert.deepEqual(await readdir(join(folder, 'slot-0')), []);
});

test('a value of several megabytes passes through the spool', async (t) => {
  const spoolPath = join(await spoolFolder(t), 'big');
  const log = new DeltaLog({ range: RANGE, limitBytes: 1000, spoolPath });
  const big = Buffer.alloc(3_000_000, 'xyz');
  log.add(5, rowOf(5, 'big', big));
  assert.equal(log.bytes, 0, 'it was spooled');
  log.add(5, rowOf(5, 'small', Buffer.from('s')));
  const segments = await log.seal(0, 1);
  assert.equal(segments.length, 2);
  assert.deepEqual(await merged(segments), [
    ['\u0000\u0005big', big.toString('latin1')],
    ['\u0000\u0005small', 's'],
  ]);
});

test('a spool that cannot be written fails the seal, it never gives a smaller delta', async (t) => {
  const folder = await spoolFolder(t);
  await writeFile(join(folder, 'file'), '');
  const spoolPath = join(folder, 'file', 'below-a-file');
  const log = new DeltaLog({ range: RANGE, limitBytes: 100, spoolPath });
  log.add(5, rowOf(5, 'a', Buffer.alloc(500)));
  await new Promise((resolve) => setImmediate(resolve));
  await assert.rejects(log.seal(0, 1), /ENOTDIR|EEXIST/);
});
