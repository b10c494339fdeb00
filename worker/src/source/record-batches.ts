/**
 * Decoding of Kafka record batches (format v2) out of one fetched partition, read_committed. Own
 * decoder, because the client's allocates two arrays and a BigInt per record, checks no CRC and
 * drops neither aborted nor control records (FACTS.md, "Kafka"). Allocates nothing per record.
 *
 * Layout of a batch, big-endian: base offset 8, length 4 (of what follows), leader epoch 4, magic
 * 1, crc32c 4 (of what follows), attributes 2, last offset delta 4, first timestamp 8, max
 * timestamp 8, producer id 8, epoch 2, sequence 4, record count 4, then the records, compressed as
 * a whole or not.
 */
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { TriggerJobError } from '../runtime/errors.ts';
import { crc32c, unlz4, unsnappy } from './batch-codecs.ts';
import { RecordColumns } from './record-columns.ts';

/** One batch may not expand beyond this: a small batch of zeros would take the process down. */
const MAX_DECOMPRESSED_BATCH_BYTES = 256 * 1024 * 1024;

const HEADER_BYTES = 61;
const LENGTH_END = 12;
const CRC_END = 21;
const COMPRESSION_MASK = 0x07;
const LOG_APPEND_TIME = 0x08;
const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
const GZIP = 1;
const SNAPPY = 2;
const LZ4 = 3;
const ZSTD = 4;
const ABORT_MARKER = 0;

/** As the broker lists them with a read_committed fetch. */
export interface AbortedTransaction {
  producerId: bigint;
  firstOffset: number;
}

/** Offset after the last complete batch of `records`, or -1: where the next fetch goes on. */
export function offsetAfter(records: Buffer): number {
  let next = -1;
  for (let at = 0; at + HEADER_BYTES <= records.length; ) {
    const end = at + LENGTH_END + records.readInt32BE(at + 8);
    if (end > records.length || end < at + HEADER_BYTES) break;
    next = readOffset(records, at) + records.readInt32BE(at + 23) + 1;
    at = end;
  }
  return next;
}

/**
 * Walks the batches of one fetch in slices. A slice lies over one buffer: the fetched bytes, or
 * those that one batch was decompressed to.
 *
 * Throws TriggerJobError SOURCE_CORRUPT_BATCH for bytes that are no valid batch.
 */
export class BatchCursor {
  readonly #input: Buffer;
  readonly #aborted: AbortedTransaction[];
  readonly #abortedProducers = new Set<bigint>();
  #inputAt = 0;
  /** The records of the open batch; `#left` of them are not read yet. */
  #body: Buffer;
  #bodyAt = 0;
  #left = 0;
  #baseOffset = 0;
  #firstTimestamp = 0;
  #appendTime = -1;
  #afterBatch = 0;
  #nextOffset: number;

  constructor(records: Buffer, fetchOffset: number, aborted: readonly AbortedTransaction[]) {
    this.#input = records;
    this.#body = records;
    this.#nextOffset = fetchOffset;
    this.#aborted = aborted.toSorted((a, b) => b.firstOffset - a.firstOffset);
  }

  /**
   * Where reading goes on after what `next` has returned: beyond gaps, control and aborted
   * records.
   */
  get nextOffset(): number {
    return this.#nextOffset;
  }

  /** Nothing is left but, at most, a last batch that the broker has cut. */
  get isDone(): boolean {
    const at = this.#inputAt;
    if (this.#left > 0) return false;
    if (at + HEADER_BYTES > this.#input.length) return true;
    return at + LENGTH_END + this.#input.readInt32BE(at + 8) > this.#input.length;
  }

  /** Up to `maxRecords` and about `maxBytes`; empty only when no committed record is left. */
  next(maxRecords: number, maxBytes: number): RecordColumns {
    let records = new RecordColumns(this.#body, this.#left === 0 ? 0 : maxRecords);
    let bytes = 0;
    while (records.count < maxRecords && bytes < maxBytes) {
      if (this.#left === 0) {
        // What the next batch expands to is another buffer: it waits for the next slice.
        if (records.count > 0 && this.#body !== this.#input) break;
        if (!this.#openBatch()) break;
      }
      if (records.bytes !== this.#body || records.offsets.length === 0) {
        if (records.count > 0) break;
        records = new RecordColumns(this.#body, maxRecords);
      }
      bytes += this.#readRecords(records, maxRecords, maxBytes - bytes);
    }
    return records;
  }

  /**
   * Positions on the next batch with records to deliver; false at the end of the complete batches.
   */
  #openBatch(): boolean {
    const input = this.#input;
    while (this.#inputAt + HEADER_BYTES <= input.length) {
      const at = this.#inputAt;
      const end = at + LENGTH_END + input.readInt32BE(at + 8);
      // The broker cuts the last batch at the byte limit; it comes again, whole, with the next
      // fetch.
      if (end > input.length) return false;
      this.#baseOffset = readOffset(input, at);
      checkBatch(input, at, end, this.#baseOffset);
      this.#inputAt = end;
      this.#afterBatch = this.#baseOffset + input.readInt32BE(at + 23) + 1;
      const attributes = input.readInt16BE(at + 21);
      const count = input.readInt32BE(at + 57);
      const skipped = this.#isAborted(at, attributes) || (attributes & CONTROL) !== 0;
      if (skipped || count === 0 || this.#afterBatch <= this.#nextOffset) {
        this.#nextOffset = Math.max(this.#nextOffset, this.#afterBatch);
        continue;
      }
      this.#firstTimestamp = readOffset(input, at + 27);
      this.#appendTime = (attributes & LOG_APPEND_TIME) === 0 ? -1 : readOffset(input, at + 35);
      this.#openBody(at + HEADER_BYTES, end, attributes & COMPRESSION_MASK);
      this.#left = count;
      return true;
    }
    return false;
  }

  #openBody(start: number, end: number, compression: number): void {
    if (compression === 0) {
      this.#body = this.#input;
      this.#bodyAt = start;
      return;
    }
    try {
      this.#body = decompress(this.#input.subarray(start, end), compression);
    } catch (cause) {
      throw corrupt(this.#baseOffset, 'cannot be decompressed', cause);
    }
    this.#bodyAt = 0;
  }

  /**
   * The broker names each aborted transaction by producer and first offset; its batches run from
   * there to the producer's abort marker. Markers end the range, so they are looked at before being
   * skipped.
   */
  #isAborted(at: number, attributes: number): boolean {
    if ((attributes & TRANSACTIONAL) === 0) return false;
    for (let last = this.#aborted.at(-1); last; last = this.#aborted.at(-1)) {
      if (last.firstOffset >= this.#afterBatch) break;
      this.#abortedProducers.add(last.producerId);
      this.#aborted.pop();
    }
    if (this.#abortedProducers.size === 0) return false;
    const producerId = this.#input.readBigInt64BE(at + 43);
    if ((attributes & CONTROL) === 0) return this.#abortedProducers.has(producerId);
    if (controlType(this.#input, at + HEADER_BYTES) === ABORT_MARKER) {
      this.#abortedProducers.delete(producerId);
    }
    return false;
  }

  #readRecords(records: RecordColumns, maxRecords: number, maxBytes: number): number {
    const body = this.#body;
    const from = this.#nextOffset;
    const start = this.#bodyAt;
    let at = start;
    while (this.#left > 0 && records.count < maxRecords && at - start < maxBytes) {
      const length = readZigZag(body, at);
      const end = varintEnd + length;
      if (length < 0 || end > body.length) throw corrupt(this.#baseOffset, 'ends within a record');
      // varintEnd points at the record's attributes byte, which is unused.
      const timestampDelta = readZigZag(body, varintEnd + 1);
      const offset = this.#baseOffset + readZigZag(body, varintEnd);
      const keyLength = readZigZag(body, varintEnd);
      const valueLength = readZigZag(body, varintEnd + Math.max(keyLength, 0));
      const valueStart = varintEnd;
      const valueEnd = valueStart + Math.max(valueLength, 0);
      if (valueEnd > end) throw corrupt(this.#baseOffset, 'has a value beyond its record');
      // A fetch answers with whole batches: the first may begin before the wanted offset.
      if (offset >= from) {
        const timestamp =
          this.#appendTime < 0 ? this.#firstTimestamp + timestampDelta : this.#appendTime;
        records.add(offset, timestamp, valueStart, valueLength < 0 ? -1 : valueEnd);
        this.#nextOffset = offset + 1;
      }
      at = end;
      this.#left--;
    }
    this.#bodyAt = at;
    if (this.#left === 0) this.#nextOffset = this.#afterBatch;
    return at - start;
  }
}

function checkBatch(input: Buffer, at: number, end: number, offset: number): void {
  const magic = input[at + 16];
  if (magic !== 2) throw corrupt(offset, `has message format v${magic}; only v2 is supported`);
  if (end < at + HEADER_BYTES) throw corrupt(offset, 'is shorter than its header');
  const actual = crc32c(input.subarray(at + CRC_END, end));
  if (actual >>> 0 !== input.readUInt32BE(at + 17)) throw corrupt(offset, 'has a wrong checksum');
}

function corrupt(offset: number, what: string, cause?: unknown): TriggerJobError {
  return new TriggerJobError(
    'SOURCE_CORRUPT_BATCH',
    `the record batch at offset ${offset} ${what}`,
    cause === undefined ? {} : { cause },
  );
}

function decompress(data: Buffer, compression: number): Buffer {
  const limit = { maxOutputLength: MAX_DECOMPRESSED_BATCH_BYTES };
  if (compression === GZIP) return gunzipSync(data, limit);
  if (compression === ZSTD) return zstdDecompressSync(data, limit);
  if (compression === SNAPPY) return unsnappy(data);
  if (compression === LZ4) return unlz4(data);
  throw new Error(`unknown compression ${compression}`);
}

/** The type in a control record's key (version 2, type 2): 0 abort, 1 commit. Never compressed. */
function controlType(input: Buffer, record: number): number {
  readZigZag(input, record);
  readZigZag(input, varintEnd + 1);
  readZigZag(input, varintEnd);
  const keyLength = readZigZag(input, varintEnd);
  return keyLength < 4 ? -1 : input.readInt16BE(varintEnd + 2);
}

/** Offsets and times as numbers: exact up to 2^53, which no real log or clock reaches. */
function readOffset(buffer: Buffer, at: number): number {
  return buffer.readInt32BE(at) * 0x1_0000_0000 + buffer.readUInt32BE(at + 4);
}

/** Index after the varint that `readZigZag` read last: a second result without an allocation. */
let varintEnd = 0;

/**
 * A zigzag varint of up to 64 bits; bytes beyond the buffer read as 0 and fail the length checks.
 * One and two bytes are nearly all there are.
 */
function readZigZag(buffer: Buffer, from: number): number {
  const first = buffer[from]!;
  if (first < 0x80) {
    varintEnd = from + 1;
    return (first >>> 1) ^ -(first & 1);
  }
  const second = buffer[from + 1]!;
  if (second < 0x80) {
    varintEnd = from + 2;
    const value = (first & 0x7f) | (second << 7);
    return (value >>> 1) ^ -(value & 1);
  }
  return readLongZigZag(buffer, from);
}

function readLongZigZag(buffer: Buffer, from: number): number {
  let at = from;
  let value = 0;
  // Sums, not shifts: a shift works on 32 bits.
  for (let scale = 1; at - from < 10; scale *= 128) {
    const byte = buffer[at++] ?? 0;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
  }
  varintEnd = at;
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
