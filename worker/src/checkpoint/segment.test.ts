import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { TriggerJobError } from '../runtime/errors.ts';
import { MemoryStore } from './memory-store.ts';
import { type FinishedSegment, finishSegment, MemoryBody, SegmentWriter } from './segment.ts';
import { SegmentBody } from './segment-body.ts';
import {
  BLOCK_RAW_BYTES,
  encodeRowHead,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
  kindOf,
  ownerHash,
  type Row,
  rowBytes,
  type SegmentHeader,
} from './segment-format.ts';
import { openSegment, openStored, type SegmentReader, verifyObject } from './segment-reader.ts';

const DELTA: SegmentHeader = {
  kind: 'delta',
  from: 3,
  to: 7,
  run: 1,
  epoch: 0,
  range: { first: 0, last: 1023 },
};
const env = { now: () => 0 };

/** Of kind 1, number 0. */
function key(keyGroup: number, owner: string | Buffer, kind = 1, number = 0): Buffer {
  const head = Buffer.from([keyGroup >> 8, keyGroup & 0xff, kind]);
  const tail = Buffer.alloc(4);
  tail.writeUInt32BE(number);
  return Buffer.concat([head, Buffer.from(owner as string), tail]);
}

async function write(
  groups: Iterable<[number, Iterable<Row>]>,
  header = DELTA,
): Promise<FinishedSegment> {
  const writer = new SegmentWriter(header);
  for (const [keyGroup, rows] of groups) await writer.addGroup(keyGroup, rows);
  return writer.finish();
}

async function readAll(reader: SegmentReader): Promise<[number, Row[]][]> {
  const all: [number, Row[]][] = [];
  for (const keyGroup of reader.groups.keys()) {
    const rows: Row[] = [];
    for await (const batch of reader.readGroup(keyGroup)) rows.push(...batch);
    all.push([keyGroup, rows]);
  }
  return all;
}

function show(groups: Iterable<[number, Iterable<Row>]>): string[] {
  return [...groups].flatMap(([keyGroup, rows]) =>
    [...rows].map((row) =>
      [keyGroup, row.key.toString('hex'), row.value?.toString('hex') ?? 'tombstone'].join(' '),
    ),
  );
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (fault) {
    return fault instanceof TriggerJobError ? fault.code : String(fault);
  }
  return 'no error';
}

/** Content of testdata/segment-v2.bin: codecs, a tombstone, an empty value, groups and kinds. */
const GOLDEN: [number, Row[]][] = [
  [2, [{ key: key(2, 'ann'), value: Buffer.from('{"visits":1}') }]],
  [
    5,
    [
      { key: key(5, 'bob'), value: null },
      { key: key(5, 'cid'), value: Buffer.alloc(0) },
      { key: key(5, 'dee'), value: Buffer.from('compressible '.repeat(60)) },
      { key: key(5, 'bob', 3, 7), value: Buffer.from('of another kind') },
    ],
  ],
  [1023, [{ key: key(1023, Buffer.from([0, 255])), value: Buffer.from([0, 1, 254, 255]) }]],
];
const GOLDEN_FILE = new URL('./testdata/segment-v2.bin', import.meta.url);

// Write it again (never for a released version) with UPDATE_GOLDEN=1.
test('the golden segment of version 2 stays readable', async () => {
  if (process.env['UPDATE_GOLDEN'] === '1') {
    writeFileSync(GOLDEN_FILE, (await write(GOLDEN)).content);
  }
  const reader = await openSegment(readFileSync(GOLDEN_FILE), 'golden');
  assert.deepEqual(reader.header, DELTA);
  assert.deepEqual(show(await readAll(reader)), show(GOLDEN));
});

test('what is written is read back, in blocks of one key group and kind with hashes', async () => {
  const groups = fc.uniqueArray(
    fc.record({
      keyGroup: fc.integer({ min: 0, max: 1023 }),
      rows: fc.uniqueArray(
        fc.record({
          rest: fc.uint8Array({ maxLength: 6 }),
          kind: fc.constantFrom(0, 3),
          value: fc.option(
            fc.oneof(
              fc.uint8Array({ maxLength: 200 }),
              fc.integer({ min: 0, max: 90_000 }).map((n) => Buffer.alloc(n, n & 0xff)),
              fc.integer({ min: 0, max: 90_000 }).map((n) => randomBytes(n)),
            ),
          ),
        }),
        { selector: ({ rest, kind }) => `${kind} ${rest}`, maxLength: 12 },
      ),
    }),
    { selector: (group) => group.keyGroup, maxLength: 6 },
  );
  let blocks = 0;
  let stored = 0;
  await fc.assert(
    fc.asyncProperty(groups, async (drawn) => {
      const wanted = drawn
        .map(({ keyGroup, rows }): [number, Row[]] => [
          keyGroup,
          rows
            .map(({ rest, kind, value }) => ({
              key: key(keyGroup, Buffer.from(rest), kind),
              value: value === null ? null : Buffer.from(value),
            }))
            .sort((a, b) => a.key.compare(b.key)),
        ])
        .sort(([a], [b]) => a - b);
      const segment = await write(wanted);
      assert.equal(segment.bytes, segment.content.length);
      assert.equal(segment.sha256, createHash('sha256').update(segment.content).digest('hex'));
      const reader = await openSegment(segment.content, 'property');
      assert.deepEqual(show(await readAll(reader)), show(wanted));
      for (const [keyGroup, entries] of reader.groups) {
        const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
        assert.equal(segment.groupBytes.get(keyGroup), bytes);
        for (const entry of entries) {
          assert.ok(entry.rows === 1 || entry.rawBytes <= BLOCK_RAW_BYTES);
          for (const row of reader.blockRows(keyGroup, entry)) {
            assert.equal(kindOf(row.key), entry.kind);
            assert.ok(entry.owners.includes(ownerHash(row.key, 0, row.key.length)));
          }
          blocks++;
          if (entry.bytes === entry.rawBytes + FRAME_HEADER_BYTES) stored++;
        }
      }
    }),
    { seed: 11, numRuns: 150 },
  );
  console.log(`blocks ${blocks}, stored raw ${stored}`);
  assert.ok(stored > 0 && stored < blocks);
});

test('a flip of any bit of any byte is refused as SEGMENT_CORRUPT', async () => {
  const { content } = await write(GOLDEN);
  const parts = new Map<string, number>();
  for (let at = 0; at < content.length; at++) {
    for (const mask of [0x01, 0x80, 0xff]) {
      const damaged = Buffer.from(content);
      damaged[at] = damaged[at]! ^ mask;
      try {
        await readAll(await openSegment(damaged, 'x/damaged'));
        assert.fail(`byte ${at} ^ ${mask} was not noticed`);
      } catch (fault) {
        assert.ok(fault instanceof TriggerJobError, String(fault));
        assert.equal(fault.code, 'SEGMENT_CORRUPT', `byte ${at}: ${fault.message}`);
        assert.match(fault.message, /segment x\/damaged .* (\w+) at offset \d+/);
        const part = /damaged: (\w+) at/.exec(fault.message)?.[1] ?? '';
        parts.set(part, (parts.get(part) ?? 0) + 1);
      }
    }
  }
  console.log(`refused: ${JSON.stringify(Object.fromEntries(parts))}`);
  assert.deepEqual([...parts.keys()].sort(), ['block', 'footer', 'header', 'trailer']);
});

test('a segment cut off anywhere, or with bytes added, is refused', async () => {
  const { content } = await write(GOLDEN);
  for (let length = 0; length < content.length; length++) {
    const cut = openSegment(content.subarray(0, length), 'cut').then(readAll);
    assert.equal(await codeOf(cut), 'SEGMENT_CORRUPT', `${length} bytes`);
  }
  const longer = openSegment(Buffer.concat([content, Buffer.from('x')]), 'longer');
  assert.equal(await codeOf(longer), 'SEGMENT_CORRUPT');
});

test('a newer version is refused by name, not as damage', async () => {
  const { crc32 } = await import('node:zlib');
  const { content } = await write(GOLDEN);
  content.writeUInt16BE(3, 4);
  content.writeUInt32BE(crc32(content.subarray(0, 42)), 42);
  const fault = await openSegment(content, 'newer').catch((thrown: Error) => thrown);
  assert.ok(fault instanceof TriggerJobError);
  assert.equal(fault.code, 'SEGMENT_VERSION');
  assert.match(fault.message, /version 3.*version 2/);
});

test('version 1, whose keys are others, is refused by name', async () => {
  const old = readFileSync(new URL('./testdata/segment-v1.bin', import.meta.url));
  assert.equal(await codeOf(openSegment(old, 'old')), 'SEGMENT_VERSION');
});

test('a block with a row of another kind than its index says is refused', async () => {
  const rows = [1, 2].map((kind) => ({ key: key(4, 'u', kind), value: Buffer.alloc(0) }));
  const body = new MemoryBody();
  const writer = new SegmentBody(DELTA, body);
  await writer.enter(4);
  const said = rows[0]!.key;
  for (const row of rows) {
    encodeRowHead(row, writer.block, writer.reserve(rowBytes(row), said, 0, said.length));
  }
  const segment = await finishSegment(DELTA, await writer.finish(), body);
  const read = openSegment(segment.content, 'mixed').then(readAll);
  await assert.rejects(read, { code: 'SEGMENT_CORRUPT', message: /a row of another kind/ });
});

test('rows out of order, of another group or range, and base tombstones are refused', async () => {
  const a = { key: key(1, 'a'), value: null };
  const b = { key: key(1, 'b'), value: null };
  const cases: [string, [number, Row[]][], SegmentHeader][] = [
    ['descending', [[1, [b, a]]], DELTA],
    ['twice', [[1, [a, a]]], DELTA],
    [
      'twice over two calls',
      [
        [1, [a]],
        [1, [a]],
      ],
      DELTA,
    ],
    ['another group', [[2, [a]]], DELTA],
    [
      'groups descending',
      [
        [2, []],
        [1, [a]],
      ],
      DELTA,
    ],
    ['out of range', [[1024, []]], DELTA],
    ['short key', [[1, [{ key: key(1, '').subarray(0, 6), value: null }]]], DELTA],
    ['tombstone in a base', [[1, [a]]], { ...DELTA, kind: 'base' }],
  ];
  for (const [name, groups, header] of cases) {
    assert.equal(await codeOf(write(groups, header)), 'SEGMENT_ROW', name);
  }
  await write([[40_000, [{ key: key(40_000, 'split'), value: null }]]], {
    ...DELTA,
    kind: 'volatile',
  });
});

test('beyond a small segment: many groups, blocks that shrink and blocks that do not', async () => {
  const rows = (keyGroup: number): Row[] =>
    Array.from({ length: 40 + (keyGroup % 4) * 60 }, (_, n) => ({
      key: key(keyGroup, String(n).padStart(4, '0')),
      value: (n + keyGroup) % 5 < 2 ? randomBytes(3000) : Buffer.alloc(n * 31, `visit ${n},`),
    }));
  const wanted = Array.from({ length: 30 }, (_, n): [number, Row[]] => [n * 3, rows(n * 3)]);
  wanted.push([900, [{ key: key(900, 'random'), value: randomBytes(120_000) }]]);
  const segment = await write(wanted);
  assert.ok(segment.bytes > 3_000_000, `${segment.bytes} bytes`);
  const reader = await openSegment(segment.content, 'many');
  const raw = reader.groups.get(900)![0]!;
  assert.equal(raw.bytes, raw.rawBytes + FRAME_HEADER_BYTES, 'it did not shrink');
  assert.deepEqual(show(await readAll(reader)), show(wanted));
});

test('frames are written as they are made: a bounded number of blocks is held', async () => {
  let written = 0;
  const sink = {
    write(piece: Buffer): void {
      written += piece.length;
    },
  };
  const body = new SegmentBody(DELTA, sink);
  await body.enter(3);
  for (let block = 1; block <= 40; block++) {
    const row = key(3, '');
    const at = body.reserve(BLOCK_RAW_BYTES, row, 0, row.length);
    randomBytes(BLOCK_RAW_BYTES).copy(body.block, at);
    assert.equal(body.reserve(1, row, 0, row.length), -1, 'full');
    await body.flush();
    assert.ok(written > (block - 2) * BLOCK_RAW_BYTES, `${written} bytes after ${block} blocks`);
  }
  const { bytes } = await body.finish();
  assert.equal(bytes, HEADER_BYTES + written);
});

test('a row of 16 MB is one block, and no piece of writing holds the thread long', async () => {
  const big: Row = { key: key(3, 'big'), value: randomBytes(16 * 1024 * 1024) };
  const text: Row = { key: key(3, 'text'), value: Buffer.alloc(16 * 1024 * 1024, 'visit ') };
  let longestMs = 0;
  let turns = 0;
  // CPU of this thread: the wall clock would tell of the other processes on the machine.
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let last = cpuMs();
  let running = true;
  const watch = (): void => {
    const now = cpuMs();
    longestMs = Math.max(longestMs, now - last);
    last = now;
    turns++;
    if (running) setImmediate(watch);
  };
  setImmediate(watch);
  const writer = new SegmentWriter(DELTA);
  await writer.addGroup(3, [{ key: key(3, 'a'), value: Buffer.from('1') }, big, text]);
  const segment = await writer.finish();
  running = false;
  console.log(
    `longest turn ${longestMs.toFixed(1)} ms of CPU in ${turns} turns, ${segment.bytes} bytes`,
  );
  assert.ok(turns > 64, `${turns} turns`);
  const reader = await openSegment(segment.content, 'big');
  assert.deepEqual(
    reader.groups.get(3)?.map((entry) => entry.rows),
    [1, 1, 1],
  );
  const [, rows] = (await readAll(reader))[0] ?? [];
  assert.ok(rows?.[1]?.value?.equals(big.value!) && rows[2]?.value?.equals(text.value!));
});

test('batches of an async iterable, and several calls for one group, make one group', async () => {
  const writer = new SegmentWriter({ ...DELTA, kind: 'base' });
  const row = (n: number): Row => ({ key: key(9, `${n}`), value: Buffer.from(`v${n}`) });
  await writer.addGroup(
    9,
    (async function* () {
      yield [row(1), row(2)];
      yield [row(3)];
    })(),
  );
  await writer.addGroup(9, [row(4)]);
  const segment = await writer.finish();
  assert.equal(segment.rows, 4);
  const groups = await readAll(await openSegment(segment.content, 'batches'));
  assert.deepEqual(show(groups), show([[9, [row(1), row(2), row(3), row(4)]]]));
});

test('a big object is read by ranges: only the key group that is asked for', async () => {
  const store = new MemoryStore(env);
  const rows = (keyGroup: number): Row[] =>
    Array.from({ length: 50 }, (_, n) => ({
      key: key(keyGroup, String(n).padStart(3, '0')),
      value: randomBytes(10_000),
    }));
  const wanted = rows(2);
  const segment = await write(
    new Map([
      [1, rows(1)],
      [2, wanted],
      [3, rows(3)],
    ]),
  );
  const ref = { name: 's', bytes: segment.bytes, sha256: segment.sha256 };
  await store.put('s', segment.content);
  let bytes = 0;
  const getRange = store.getRange.bind(store);
  store.getRange = async (name, offset, length) => {
    bytes += length;
    return getRange(name, offset, length);
  };
  const reader = await openStored(store, ref, 1000);
  const read: Row[] = [];
  for await (const batch of reader.readGroup(2)) read.push(...batch);
  assert.deepEqual(show([[2, read]]), show([[2, wanted]]));
  assert.ok(bytes < segment.bytes / 2, `${bytes} of ${segment.bytes} bytes were read`);
  assert.equal(reader.heldBytes, 0);
});

test('verifyObject tells length, hash and absence', async () => {
  const store = new MemoryStore(env);
  const segment = await write(GOLDEN);
  const ref = { name: 's', bytes: segment.bytes, sha256: segment.sha256 };
  assert.equal(await codeOf(verifyObject(store, ref)), 'SEGMENT_MISSING');
  await store.put('s', segment.content);
  await verifyObject(store, ref);
  assert.equal(await codeOf(verifyObject(store, { ...ref, bytes: 1 })), 'SEGMENT_CORRUPT');
  const other = { ...ref, sha256: '0'.repeat(64) };
  assert.equal(await codeOf(verifyObject(store, other)), 'SEGMENT_CORRUPT');
});
