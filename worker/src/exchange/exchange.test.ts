import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BarrierAligner } from './aligner.ts';
import { FrameBuilder, FrameCursor, readRecords } from './frame.ts';
import { contains, keyGroupOf, ownerTable, subtaskOf } from './key-groups.ts';

test('key groups of known users never change', () => {
  const groups = ['u0000000000', 'u0000000001', 'u0000000042', 'ünïcode', ''].map((id) =>
    keyGroupOf(id, 1024),
  );
  assert.deepEqual(groups, GOLDEN_GROUPS);
});
const GOLDEN_GROUPS = [383, 984, 19, 604, 0];

test('the owner table agrees with the formula and ranges cover all groups once', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 64 }), (max, p) => {
      const parallelism = Math.min(p, max);
      const ranges = Array.from({ length: parallelism }, () => ({ first: max, last: -1 }));
      for (let group = 0; group < max; group++) {
        const range = ranges[subtaskOf(group, parallelism, max)]!;
        range.first = Math.min(range.first, group);
        range.last = Math.max(range.last, group);
      }
      const owners = ownerTable(ranges, max);
      for (let group = 0; group < max; group++) {
        const owner = subtaskOf(group, parallelism, max);
        assert.equal(owners[group], owner);
        assert.equal(ranges.filter((range) => contains(range, group)).length, 1);
      }
    }),
    { seed: 3, numRuns: 100 },
  );
});

const splitOf = (index: number) => ({ index, id: `s-${index}`, sourceId: 's', partition: index });

test('a frame gives back every record, tombstones and oversized values included', () => {
  const record = fc.record(
    {
      split: fc.nat(65535),
      keyGroup: fc.nat(32767),
      offset: fc.nat(),
      time: fc.integer({ min: -1 }),
      timestamp: fc.integer({ min: -1 }),
      value: fc.option(fc.uint8Array({ maxLength: 600, size: 'max' })),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(record, { maxLength: 60 }), (records) => {
      const builder = new FrameBuilder(256);
      const out: unknown[] = [];
      const flush = () => {
        const frame = builder.take();
        if (frame === null) return;
        const read = readRecords(frame, splitOf);
        assert.equal(read.length, frame.records);
        for (const r of read) {
          out.push({ ...r, split: r.split.index, value: r.value && new Uint8Array(r.value) });
        }
        builder.recycle(frame.bytes);
      };
      for (const { split, keyGroup, offset, time, timestamp, value } of records) {
        // Any place in a larger buffer: the copy must keep to the value's own bytes.
        const bytes = Buffer.concat([Buffer.alloc(3), value ?? Buffer.alloc(0), Buffer.alloc(9)]);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        const end = value === null ? -1 : 3 + value.length;
        const append = () =>
          builder.append(split, keyGroup, offset, time, timestamp, { bytes, view }, 3, end);
        if (append()) continue;
        flush();
        assert.ok(append());
      }
      flush();
      assert.deepEqual(out, records);
    }),
    { seed: 5, numRuns: 300 },
  );
});

test('a cursor walks a part of a larger buffer, and stays at its end', () => {
  const builder = new FrameBuilder(256);
  const bytes = Buffer.from('abc');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  builder.append(1, 2, 3, 4, 5, { bytes, view }, 0, 2);
  builder.append(6, 7, 8, 9, 10, { bytes, view }, 0, -1);
  builder.append(11, 12, 13, 14, 15, { bytes, view }, 3, 3);
  const filled = builder.take()!;
  const moved = new Uint8Array(500).fill(0xee);
  moved.set(filled.bytes.subarray(0, filled.length), 77);
  const cursor = new FrameCursor({ bytes: moved.subarray(77), length: filled.length });
  const seen: (string | null)[] = [];
  while (cursor.next()) {
    const { start, end, split, keyGroup, offset, time, timestamp } = cursor;
    assert.deepEqual(
      [keyGroup, offset, time, timestamp],
      [1, 2, 3, 4].map((n) => split + n),
    );
    seen.push(end < 0 ? null : cursor.bytes.toString('utf8', start, end));
  }
  assert.deepEqual(seen, ['ab', null, '']);
  assert.equal(cursor.next(), false);
});

test('alignment blocks a channel from its barrier until the last one', () => {
  const aligner = new BarrierAligner(3);
  assert.deepEqual(aligner.onBarrier(1, 5), { kind: 'waiting', superseded: null });
  assert.ok(aligner.isBlocked(1));
  assert.ok(aligner.owes(0));
  assert.deepEqual(aligner.onBarrier(0, 5), { kind: 'waiting', superseded: null });
  assert.deepEqual(aligner.onBarrier(2, 5), { kind: 'aligned', superseded: null });
  assert.ok(!aligner.isBlocked(1));
  assert.deepEqual(aligner.onBarrier(1, 5), { kind: 'ignored' });
});

test('a later barrier supersedes an unfinished one, whose late barriers are ignored', () => {
  const aligner = new BarrierAligner(2);
  aligner.onBarrier(0, 5);
  assert.deepEqual(aligner.onBarrier(1, 8), { kind: 'waiting', superseded: 5 });
  assert.ok(!aligner.isBlocked(0));
  assert.deepEqual(aligner.onBarrier(1, 5), { kind: 'ignored' });
  assert.deepEqual(aligner.onBarrier(0, 8), { kind: 'aligned', superseded: null });
});

test('a canceled checkpoint opens its channels and cannot start again', () => {
  const aligner = new BarrierAligner(2);
  aligner.onBarrier(0, 5);
  assert.equal(aligner.cancel(5), true);
  assert.ok(!aligner.isBlocked(0));
  assert.deepEqual(aligner.onBarrier(1, 5), { kind: 'ignored' });
  assert.equal(aligner.cancel(6), false);
  assert.deepEqual(aligner.onBarrier(0, 6), { kind: 'ignored' });
});
