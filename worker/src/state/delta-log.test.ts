import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import type { FinishedSegment } from '../checkpoint/segment.ts';
import { openSegment } from '../checkpoint/segment-reader.ts';
import { DeltaLog } from './delta-log.ts';
import { SlabPool } from './row-slabs.ts';
import type { UserRow } from './rows.ts';

const RANGE = { first: 4, last: 9 };

function rowOf(group: number, name: string, value: Buffer | null): UserRow {
  // Of several kinds.
  const head = Buffer.from([0, group, name.length % 3]);
  const key = Buffer.concat([head, Buffer.from(name), Buffer.alloc(4)]);
  return { key, value };
}

const keyOf = (group: number, name: string) => rowOf(group, name, null).key.toString('latin1');

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

/** What these tests wait for is bound to come; a fault must not hang the run. */
const LIMIT = { timeout: 60_000 };

async function spoolFolder(t: { after(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'delta-log-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function sealed(log: DeltaLog, from: number, to: number): Promise<FinishedSegment[]> {
  const segments: FinishedSegment[] = [];
  for await (const segment of log.seal(from, to)) segments.push(segment);
  return segments;
}

test('nothing changed: no segment, no memory', async () => {
  const log = new DeltaLog({ range: RANGE, limitBytes: 1000, spoolPath: null });
  assert.deepEqual(await sealed(log, 3, 5), []);
  assert.equal(log.bytes, 0);
});

test('the last image of a row wins, a tombstone too; the header says which interval', async () => {
  const log = new DeltaLog({ range: RANGE, limitBytes: 1 << 20, spoolPath: null });
  log.add(7, rowOf(7, 'b', Buffer.from('1')));
  log.add(4, rowOf(4, 'a', Buffer.from('2')));
  log.add(7, rowOf(7, 'b', null));
  log.add(4, rowOf(4, 'a', null));
  log.add(4, rowOf(4, 'a', Buffer.alloc(0)));
  const segments = await sealed(log, 3, 8);
  assert.equal(segments.length, 1);
  const { header } = await openSegment(segments[0]!.content, 'segment');
  assert.deepEqual(header, { kind: 'delta', from: 3, to: 8, run: 0, epoch: 0, range: RANGE });
  assert.deepEqual(await merged(segments), [
    [keyOf(4, 'a'), ''],
    [keyOf(7, 'b'), null],
  ]);
  assert.deepEqual([...segments[0]!.groupBytes.keys()], [4, 7]);
  assert.equal(segments[0]!.rows, 2);
});

test('a row that no segment of the range may hold is refused when it comes', () => {
  const log = new DeltaLog({ range: RANGE, limitBytes: 1000, spoolPath: null });
  assert.throws(() => log.add(5, rowOf(6, 'a', null)), /not of key group 5/);
  assert.throws(() => log.add(10, rowOf(10, 'a', null)), /not in 4\.\.9/);
});

const change = fc.record({
  group: fc.integer({ min: RANGE.first, max: RANGE.last }),
  name: fc.constantFrom('a', 'b', 'ba', 'c', 'dd', 'e'.repeat(50)),
  value: fc.option(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(Buffer.alloc(90_000)))),
  /** Event processing gives way after this row, so that a run may get done meanwhile. */
  turns: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 8 })),
  /** Seal again after that many segments were stored: the store failed in between. */
  failsAfter: fc.integer({ min: 0, max: 2 }),
});

/** Stores run by run, and fails where `changes` say so; what was stored, in order. */
async function storedOf(log: DeltaLog, failures: readonly number[]): Promise<FinishedSegment[]> {
  const stored: FinishedSegment[] = [];
  for (const failsAfter of [...failures, Number.POSITIVE_INFINITY]) {
    let left = failsAfter;
    for await (const segment of log.seal(1, 2)) {
      const { header } = await openSegment(segment.content, 'segment');
      assert.deepEqual([header.from, header.to, header.run], [1, 2, stored.length]);
      if (left-- <= 0) break;
      stored.push(segment);
    }
  }
  return stored;
}

test('runs merged in order are the model: spools, failing stores, overwritten rows', async (t) => {
  const folder = await spoolFolder(t);
  const slabs = new SlabPool(4 << 20);
  let [runs, round, replaced] = [0, 0, 0];
  await fc.assert(
    fc.asyncProperty(
      fc.array(change, { size: 'max', minLength: 1, maxLength: 80 }),
      fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.constant(100_000), fc.constant(null)),
      async (changes, limit) => {
        const spoolPath = limit === null ? null : join(folder, 'slot-0', `${round++}`);
        const log = new DeltaLog({ range: RANGE, limitBytes: limit ?? 0, spoolPath, slabs });
        const model = new Map<string, string | null>();
        for (const { group, name, value, turns } of changes) {
          const row = rowOf(group, name, value === null ? null : Buffer.from(value));
          const key = row.key.toString('latin1');
          if (model.has(key)) replaced++;
          model.set(key, row.value?.toString('latin1') ?? null);
          log.add(group, row);
          row.key.fill(0xff);
          row.value?.fill(0xff);
          for (let n = 0; n < turns; n++) await turn();
        }
        const failures = changes.slice(0, 4).map(({ failsAfter }) => failsAfter);
        const stored = await storedOf(log, failures);
        runs = Math.max(runs, stored.length);
        assert.deepEqual(
          await merged(stored),
          [...model].sort(([a], [b]) => (a < b ? -1 : 1)),
        );
        assert.equal(log.bytes, 0, 'all of it is stored');
      },
    ),
    { seed: 3, numRuns: 150 },
  );
  assert.ok(runs >= 3 && replaced > 1000, `at most ${runs} runs, ${replaced} rows replaced`);
  assert.deepEqual(await readdir(join(folder, 'slot-0')), [], 'spool files are left');
});

test('a value of several megabytes passes through the spool', async (t) => {
  const spoolPath = join(await spoolFolder(t), 'big');
  const log = new DeltaLog({ range: RANGE, limitBytes: 1000, spoolPath });
  const big = Buffer.alloc(3_000_000, 'xyz');
  log.add(5, rowOf(5, 'big', big));
  log.add(5, rowOf(5, 'small', Buffer.from('s')));
  const segments = await sealed(log, 0, 1);
  assert.equal(segments.length, 2);
  assert.deepEqual(await merged(segments), [
    [keyOf(5, 'big'), big.toString('latin1')],
    [keyOf(5, 'small'), 's'],
  ]);
});

test('what is overdue goes to the spool without another row, which may never come', async (t) => {
  const spoolPath = join(await spoolFolder(t), 'overdue');
  const log = new DeltaLog({ range: RANGE, limitBytes: 1000, spoolPath });
  // The second one comes while the first run is packed.
  for (const name of ['first', 'second']) log.add(5, rowOf(5, name, Buffer.alloc(600_000, name)));
  const { bytes } = log;
  for (let n = 0; n < 1000 && log.bytes > 0; n++) await sleep(5);
  assert.ok(bytes > 1_000_000 && log.bytes === 0, `${bytes}, then ${log.bytes}`);
  assert.equal((await sealed(log, 0, 1)).length, 2);
});

test('a run is packed at its pace, by bytes, unless memory presses', async () => {
  const packedAt = async (limitBytes: number) => {
    const paced: number[] = [];
    const pace = () => async (bytes: number) => {
      paced.push(bytes);
    };
    const log = new DeltaLog({ range: RANGE, limitBytes, spoolPath: null, pace });
    // Key groups of small blocks each, and rows larger than a block.
    for (let n = 0; n < 90; n++)
      log.add(4 + (n % 6), rowOf(4 + (n % 6), `${n}`, Buffer.alloc(9_000)));
    log.add(9, rowOf(9, 'large', Buffer.alloc(200_000)));
    const rows = (await merged(await sealed(log, 0, 1))).length;
    assert.equal(rows, 91);
    return paced;
  };
  const paced = await packedAt(2_000_000);
  assert.ok(paced.length === 6 && paced.every((bytes) => bytes < 140_000), `${paced}`);
  assert.deepEqual(await packedAt(500_000), []);
});

test('a spool that cannot be written fails the seal, it never gives a smaller delta', async (t) => {
  const folder = await spoolFolder(t);
  await writeFile(join(folder, 'file'), '');
  const spoolPath = join(folder, 'file', 'below-a-file');
  const log = new DeltaLog({ range: RANGE, limitBytes: 100, spoolPath });
  log.add(5, rowOf(5, 'a', Buffer.alloc(500)));
  await turn();
  await assert.rejects(sealed(log, 0, 1), /ENOTDIR|EEXIST/);
  await assert.rejects(sealed(log, 0, 1), /ENOTDIR|EEXIST/, 'at every try');
});

test('a spool file that was damaged or cut off on disk is no segment', async (t) => {
  for (const damage of ['flip', 'cut'] as const) {
    const spoolPath = join(await spoolFolder(t), 'run');
    const log = new DeltaLog({ range: RANGE, limitBytes: 100, spoolPath });
    log.add(5, rowOf(5, 'a', Buffer.alloc(500, 'x')));
    for await (const _ of log.seal(0, 1)) break;
    const bytes = await readFile(`${spoolPath}-0.run`);
    bytes[30]! ^= 1;
    await writeFile(`${spoolPath}-0.run`, damage === 'flip' ? bytes : bytes.subarray(0, -1));
    await assert.rejects(sealed(log, 0, 1), /spool file .*(crc32|ends at)/);
  }
});

const ROWS = 60_000;
const VALUE = Buffer.alloc(1100, '{"event_id":1,"type":"click"}');

function addMany(log: DeltaLog, from: number, to: number): void {
  for (let n = from; n < to; n++) {
    const group = RANGE.first + (n % 6);
    log.add(group, rowOf(group, `u${String((n * 7919) % ROWS).padStart(9, '0')}`, VALUE));
  }
}

test('rows cost memory outside of the heap, and no more than is told', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  // What earlier tests left is swept beside the thread.
  const settle = async () => {
    for (let n = 0; n < 5; n++) {
      gc();
      await sleep(10);
    }
    return process.memoryUsage();
  };
  const log = new DeltaLog({ range: RANGE, limitBytes: 0, spoolPath: null });
  const before = await settle();
  addMany(log, 0, ROWS);
  const after = await settle();
  assert.ok(after.heapUsed - before.heapUsed < 1e6, `${after.heapUsed - before.heapUsed} on heap`);
  const outside = after.arrayBuffers - before.arrayBuffers;
  assert.ok(log.bytes > ROWS * 1100 && log.bytes < ROWS * 1100 * 1.1, `${log.bytes} bytes`);
  assert.ok(Math.abs(outside - log.bytes) < 1e6, `${outside} held, ${log.bytes} told`);
});

test('an interval of many runs: its memory is bounded, its slabs go round', LIMIT, async (t) => {
  const limitBytes = 8 << 20;
  const slabs = new SlabPool(limitBytes);
  const spoolPath = join(await spoolFolder(t), 'run');
  const log = new DeltaLog({ range: RANGE, limitBytes, spoolPath, slabs });
  let peak = 0;
  for (let n = 0; n < ROWS; n += 100) {
    addMany(log, n, n + 100);
    // A slot that slows its input by `bytes`, as P17 asks.
    while (log.bytes > 1.5 * limitBytes) await turn();
    peak = Math.max(peak, log.bytes);
  }
  assert.ok(peak > limitBytes && peak < 2 * limitBytes, `peak of ${peak} bytes`);
  let runs = 0;
  for await (const segment of log.seal(0, 1)) {
    runs++;
    // The last run may still be packed; of the others one is held, as a segment.
    assert.ok(log.bytes < segment.bytes + 1.5 * limitBytes, `${log.bytes} bytes`);
  }
  assert.ok(runs >= 6, `${runs} runs`);
  assert.equal(log.bytes, 0);
  assert.ok(slabs.bytes > limitBytes / 2 && slabs.bytes <= limitBytes, `${slabs.bytes} kept`);
});

test('rows that come while a run is packed make one run, not many small ones', async (t) => {
  const spoolPath = join(await spoolFolder(t), 'run');
  const log = new DeltaLog({ range: RANGE, limitBytes: 50_000, spoolPath });
  addMany(log, 0, 1000);
  assert.equal((await sealed(log, 0, 1)).length, 2);
});

test('what is left when the interval ends goes to disk, unless it is small', LIMIT, async (t) => {
  for (const [rows, files] of [
    [500, 0],
    [2000, 1],
  ] as const) {
    const folder = await spoolFolder(t);
    const log = new DeltaLog({ range: RANGE, limitBytes: 8 << 20, spoolPath: join(folder, 'run') });
    addMany(log, 0, rows);
    const added = log.bytes;
    log.close();
    while (log.bytes > added / 2) await turn();
    assert.equal((await readdir(folder)).length, files);
    assert.equal(log.bytes === 0, files === 1, `${log.bytes} bytes held`);
    assert.equal((await sealed(log, 0, 1)).length, 1);
  }
});

test('no piece of packing a big run holds the thread long, be it of one key group', async (t) => {
  const rows = 200_000;
  const spoolPath = join(await spoolFolder(t), 'run');
  const log = new DeltaLog({ range: { first: 5, last: 5 }, limitBytes: 1 << 30, spoolPath });
  for (let n = 0; n < rows; n++) {
    log.add(5, rowOf(5, `u${String((n * 7919) % rows).padStart(9, '0')}`, VALUE.subarray(0, 60)));
  }
  // CPU of this thread: the wall clock would tell of the other processes on the machine.
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let longestMs = 0;
  let running = true;
  let last = cpuMs();
  const watch = (): void => {
    const now = cpuMs();
    longestMs = Math.max(longestMs, now - last);
    last = now;
    if (running) setImmediate(watch);
  };
  setImmediate(watch);
  const [segment] = await sealed(log, 0, 1);
  running = false;
  assert.equal(segment!.rows, rows);
  // Room for a collection; the sort alone takes 100 ms.
  assert.ok(longestMs < 40, `a turn of ${longestMs} ms`);
});
