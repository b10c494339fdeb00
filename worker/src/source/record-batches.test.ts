/** The decoder against batches made by another encoder, and against damaged ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CompressionAlgorithms, crc32c, createRecordsBatch } from '@platformatic/kafka';
import fc from 'fast-check';
import { BatchCursor, offsetAfter } from './record-batches.ts';

interface Made {
  offset: number;
  timestamp: number;
  value: string | null;
}

/**
 * A batch as a broker would serve it: the client's encoder, then the offset that a broker assigns.
 */
function batch(
  baseOffset: number,
  values: (string | null)[],
  options: { compression?: string; attributes?: number; producerId?: bigint; span?: number } = {},
): { bytes: Buffer; records: Made[] } {
  const start = 1_700_000_000_000;
  const messages = values.map((value, index) => ({
    topic: 't',
    key: index % 2 === 0 ? Buffer.from('key') : undefined,
    value: (value === null ? null : Buffer.from(value)) as Buffer,
    timestamp: BigInt(start + index * 1_000 * (index % 3 === 0 ? -1 : 70_000)),
    headers: new Map(index % 4 === 0 ? [[Buffer.from('h'), Buffer.from('x')]] : []),
  }));
  const bytes = createRecordsBatch(messages as never, {
    compression: (options.compression ?? 'none') as never,
    ...(options.producerId !== undefined && { producerId: options.producerId }),
  }).buffer;
  bytes.writeBigInt64BE(BigInt(baseOffset), 0);
  bytes.writeInt16BE(bytes.readInt16BE(21) | (options.attributes ?? 0), 21);
  if (options.span !== undefined) bytes.writeInt32BE(options.span - 1, 23);
  seal(bytes);
  const records = values.map((value, index) => ({
    offset: baseOffset + index,
    timestamp: Number(messages[index]!.timestamp),
    value,
  }));
  return { bytes, records };
}

function seal(bytes: Buffer): void {
  bytes.writeUInt32BE(crc32c(Buffer.from(bytes.subarray(21))) >>> 0, 17);
}

function decode(
  bytes: Buffer,
  from = 0,
  aborted: { producerId: bigint; firstOffset: number }[] = [],
  slice = 3,
) {
  const cursor = new BatchCursor(bytes, from, aborted);
  const records: Made[] = [];
  for (;;) {
    const part = cursor.next(slice, slice * 300);
    if (part.count === 0) break;
    assert.ok(part.count <= slice);
    for (const { offset, timestamp, value } of part) {
      records.push({ offset, timestamp, value: value === null ? null : value.toString() });
    }
    assert.equal(cursor.nextOffset >= part.offsets[part.count - 1]! + 1, true);
  }
  assert.equal(cursor.isDone, true);
  return { records, next: cursor.nextOffset };
}

const valueArb = fc.option(fc.string({ unit: 'binary', maxLength: 300 }), { nil: null });

test('decodes what another encoder made, from any offset, in slices', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(valueArb, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 4 }),
      fc.infiniteStream(fc.constantFrom(...Object.values(CompressionAlgorithms))),
      fc.nat({ max: 2 ** 40 }),
      fc.nat(40),
      fc.constantFrom(3, 10, 100),
      (groups, compressions, base, skip, slice) => {
        let offset = base;
        const made = groups.map((values) => {
          const one = batch(offset, values, { compression: compressions.next().value });
          offset += values.length;
          return one;
        });
        const bytes = Buffer.concat(made.map((one) => one.bytes));
        const expected = made.flatMap((one) => one.records);
        assert.equal(offsetAfter(bytes), offset);
        const from = base + Math.min(skip, expected.length - 1);
        const { records, next } = decode(bytes, from, [], slice);
        assert.deepEqual(
          records,
          expected.filter((record) => record.offset >= from),
        );
        assert.equal(next, offset);
      },
    ),
    { seed: 5, numRuns: 300 },
  );
});

test('a batch cut by the byte limit is left for the next fetch', () => {
  const first = batch(10, ['a', 'b']);
  const second = batch(12, ['c', 'd']);
  const whole = Buffer.concat([first.bytes, second.bytes]);
  for (let cut = first.bytes.length; cut < whole.length; cut++) {
    const part = whole.subarray(0, cut);
    assert.equal(offsetAfter(part), 12);
    assert.deepEqual(decode(part, 10), { records: first.records, next: 12 });
  }
  assert.equal(offsetAfter(Buffer.alloc(0)), -1);
});

test('compacted away: offsets jump, an empty batch only moves the position', () => {
  const gap = batch(10, ['a'], { span: 5 });
  const empty = batch(15, ['x'], { span: 3 });
  empty.bytes.writeInt32BE(0, 57);
  seal(empty.bytes);
  const { records, next } = decode(Buffer.concat([gap.bytes, empty.bytes]));
  assert.deepEqual(
    records.map(({ offset }) => offset),
    [10],
  );
  assert.equal(next, 18);
});

test('aborted batches of one producer stay out until its marker; others stay in', () => {
  const transactional = 0x10;
  const control = 0x30;
  const marker = (offset: number, producerId: bigint, type: number) => {
    const key = Buffer.from([0, 0, 0, type]);
    const made = batch(offset, ['m'], { attributes: control, producerId });
    // The encoder wrote the key 'key' (3 bytes) and a header; a marker's record is built by hand.
    const record = Buffer.concat([Buffer.from([0, 0, 0, 8]), key, Buffer.from([0, 0])]);
    const bytes = Buffer.concat([
      made.bytes.subarray(0, 61),
      Buffer.from([record.length * 2]),
      record,
    ]);
    bytes.writeInt32BE(bytes.length - 12, 8);
    seal(bytes);
    return bytes;
  };
  const data = (offset: number, producerId: bigint, value: string) =>
    batch(offset, [value], { attributes: transactional, producerId }).bytes;
  const bytes = Buffer.concat([
    data(0, 1n, 'bad'),
    data(1, 2n, 'good'),
    data(2, 1n, 'bad'),
    marker(3, 1n, 0),
    data(4, 1n, 'again'),
    marker(5, 2n, 1),
    marker(6, 1n, 1),
  ]);
  const values = (from: number) =>
    decode(bytes, from, [{ producerId: 1n, firstOffset: 0 }]).records.map(({ value }) => value);
  assert.deepEqual(values(0), ['good', 'again']);
  assert.deepEqual(values(2), ['again']);
  assert.equal(decode(bytes).next, 7);
});

test('a damaged byte is found by the checksum, an old format is named', () => {
  const { bytes } = batch(7, ['hello', 'world']);
  for (let at = 17; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at]! ^= 0x40;
    assert.throws(() => decode(damaged), { code: 'SOURCE_CORRUPT_BATCH' });
  }
  const old = Buffer.from(bytes);
  old[16] = 1;
  assert.throws(() => decode(old), /offset 7 has message format v1/);
});
