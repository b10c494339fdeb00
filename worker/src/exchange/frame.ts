/**
 * What travels on a channel, in order, and the byte layout of a data buffer.
 *
 *   buffer  = record*
 *   record  = u32 length | u16 split | u16 keyGroup | f64 offset | f64 time | f64 timestamp | value
 *
 * Little endian. `length` is the value's, 0xffffffff for a tombstone. `time` is the split's clock
 * at the record (P36), `timestamp` the record's own; both in ms, -1 where the source has none.
 */
import { copyWords, NATIVE_COPY_BYTES, viewOf } from '../runtime/copy-words.ts';
import type { Split } from '../source/source.ts';

const RECORD_HEADER_BYTES = 32;
const TOMBSTONE = 0xffffffff;

/** Bytes on their way to one subtask. `seq` counts all items of the channel, from 0. */
export interface DataFrame {
  kind: 'data';
  seq: number;
  bytes: Uint8Array;
  length: number;
  records: number;
}

/**
 * Divides interval `checkpointId` from the next. The script is the one that rules after it (P34).
 */
export interface BarrierFrame {
  kind: 'barrier';
  seq: number;
  checkpointId: number;
  triggeredAt: number;
  /** Monotonic ms of the sending thread's trigger; comparable within one TaskManager. */
  script: { version: string; text: string; language: 'aviator' | 'filtrex' };
}

/**
 * The source's slowest split: no earlier record is behind it. Infinity: it reads no split (P37).
 */
export interface ClockFrame {
  kind: 'clock';
  seq: number;
  time: number;
}

/** Splits whose records may follow: the state task needs their identity for delivery ids (P30). */
export interface SplitsFrame {
  kind: 'splits';
  seq: number;
  splits: Split[];
  /** Records below it may be a replay: the log's end when a restored source began; else 0 (P33). */
  replayUntil: number;
}

export type Frame = DataFrame | BarrierFrame | ClockFrame | SplitsFrame;

/** A frame before its channel has numbered it. */
export type Unnumbered<F extends Frame> = F extends Frame ? Omit<F, 'seq'> : never;

export interface FrameRecord {
  split: Split;
  keyGroup: number;
  offset: number;
  time: number;
  timestamp: number;
  /** A view into the frame's bytes; null for a tombstone. */
  value: Buffer | null;
}

/** Bytes that hold values, and the same bytes for those who read words. */
export interface ValueBytes {
  readonly bytes: Buffer;
  readonly view: DataView;
}

/** Fills one buffer with records. A record larger than the buffer gets a buffer of its own. */
export class FrameBuilder {
  readonly #capacity: number;
  readonly #spare: Uint8Array[] = [];
  #bytes: Uint8Array | null = null;
  #view: DataView | null = null;
  #length = 0;
  #records = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get records(): number {
    return this.#records;
  }

  /** Takes back a buffer that the receiver has done with. */
  recycle(bytes: Uint8Array): void {
    if (bytes.byteLength === this.#capacity && this.#spare.length < 16) this.#spare.push(bytes);
  }

  /**
   * Appends the record whose value is `source` from `start` to `end`; end < 0 is a tombstone. Bare
   * arguments: an object would be one more allocation per record. false: the record does not fit;
   * take() first.
   */
  append(
    split: number,
    keyGroup: number,
    offset: number,
    time: number,
    timestamp: number,
    source: ValueBytes,
    start: number,
    end: number,
  ): boolean {
    const valueBytes = end < 0 ? 0 : end - start;
    const size = RECORD_HEADER_BYTES + valueBytes;
    if (this.#bytes === null) this.#open(size);
    else if (this.#length + size > this.#bytes.length) return false;
    const at = this.#length;
    const view = this.#view!;
    view.setUint32(at, end < 0 ? TOMBSTONE : valueBytes, true);
    view.setUint16(at + 4, split, true);
    view.setUint16(at + 6, keyGroup, true);
    view.setFloat64(at + 8, offset, true);
    view.setFloat64(at + 16, time, true);
    view.setFloat64(at + 24, timestamp, true);
    const valueAt = at + RECORD_HEADER_BYTES;
    if (valueBytes < NATIVE_COPY_BYTES) copyWords(source.view, start, valueBytes, view, valueAt);
    else source.bytes.copy(this.#bytes!, valueAt, start, end);
    this.#length = at + size;
    this.#records++;
    return true;
  }

  /** The filled buffer, or null when empty. */
  take(): { bytes: Uint8Array; length: number; records: number } | null {
    if (this.#bytes === null || this.#records === 0) return null;
    const taken = { bytes: this.#bytes, length: this.#length, records: this.#records };
    this.#bytes = null;
    this.#view = null;
    this.#length = 0;
    this.#records = 0;
    return taken;
  }

  #open(size: number): void {
    const fits = size <= this.#capacity;
    // new Uint8Array, not Buffer.allocUnsafe: the pool's shared ArrayBuffer must never be
    // transferred.
    const bytes = fits
      ? (this.#spare.pop() ?? new Uint8Array(this.#capacity))
      : new Uint8Array(size);
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }
}

/**
 * Walks the records of a data frame in order, without an allocation per record. The fields are of
 * the record on which `next` has put it.
 */
export class FrameCursor {
  /** The frame's bytes; the value lies from `start` to `end`. */
  readonly bytes: Buffer;
  readonly view: DataView;
  #next = 0;
  split = 0;
  keyGroup = 0;
  offset = 0;
  time = 0;
  timestamp = 0;
  start = 0;
  /** -1: a tombstone. */
  end = 0;

  constructor(frame: { bytes: Uint8Array; length: number }) {
    this.bytes = Buffer.from(frame.bytes.buffer, frame.bytes.byteOffset, frame.length);
    this.view = viewOf(this.bytes);
  }

  /** false: there is no further record. */
  next(): boolean {
    const at = this.#next;
    const { view } = this;
    if (at >= view.byteLength) return false;
    const length = view.getUint32(at, true);
    const start = at + RECORD_HEADER_BYTES;
    this.split = view.getUint16(at + 4, true);
    this.keyGroup = view.getUint16(at + 6, true);
    this.offset = view.getFloat64(at + 8, true);
    this.time = view.getFloat64(at + 16, true);
    this.timestamp = view.getFloat64(at + 24, true);
    this.start = start;
    this.end = length === TOMBSTONE ? -1 : start + length;
    this.#next = length === TOMBSTONE ? start : start + length;
    return true;
  }
}

/** Takes records out of a frame, in place: `rows` are their numbers in it. */
export function cutRecords(frame: DataFrame, rows: ReadonlySet<number>): void {
  const cursor = new FrameCursor(frame);
  let kept = 0;
  for (let row = 0; cursor.next(); row++) {
    if (rows.has(row)) continue;
    const from = cursor.start - RECORD_HEADER_BYTES;
    const to = Math.max(cursor.start, cursor.end);
    cursor.bytes.copyWithin(kept, from, to);
    kept += to - from;
  }
  frame.length = kept;
  frame.records -= rows.size;
}

/** All records of a data frame. Values are views: copy what outlives the frame. */
export function readRecords(
  frame: { bytes: Uint8Array; length: number },
  splitOf: (index: number) => Split,
): FrameRecord[] {
  const cursor = new FrameCursor(frame);
  const records: FrameRecord[] = [];
  while (cursor.next()) {
    const { bytes, keyGroup, offset, time, timestamp, start, end } = cursor;
    const value = end < 0 ? null : bytes.subarray(start, end);
    records.push({ split: splitOf(cursor.split), keyGroup, offset, time, timestamp, value });
  }
  return records;
}
