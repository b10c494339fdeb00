/**
 * What travels on a channel, in order, and the byte layout of a data buffer.
 *
 *   buffer  = record*
 *   record  = u32 length | u16 split | u16 keyGroup | f64 offset | f64 time | f64 timestamp | value
 *
 * Little endian. `length` is the value's, 0xffffffff for a tombstone. `time` is the split's clock
 * at the record (P36), `timestamp` the record's own; both in ms, -1 where the source has none.
 */
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

  /** false: the record does not fit; take() first. */
  append(record: {
    split: number;
    keyGroup: number;
    offset: number;
    time: number;
    timestamp: number;
    value: Uint8Array | null;
  }): boolean {
    const size = RECORD_HEADER_BYTES + (record.value?.length ?? 0);
    if (this.#bytes === null) this.#open(size);
    else if (this.#length + size > this.#bytes.byteLength) return false;
    const at = this.#length;
    const view = this.#view!;
    view.setUint32(at, record.value === null ? TOMBSTONE : record.value.length, true);
    view.setUint16(at + 4, record.split, true);
    view.setUint16(at + 6, record.keyGroup, true);
    view.setFloat64(at + 8, record.offset, true);
    view.setFloat64(at + 16, record.time, true);
    view.setFloat64(at + 24, record.timestamp, true);
    if (record.value !== null) this.#bytes!.set(record.value, at + RECORD_HEADER_BYTES);
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
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

/** Reads the records of a data frame in order. Values are views: copy what outlives the frame. */
export function readRecords(
  frame: { bytes: Uint8Array; length: number },
  splitOf: (index: number) => Split,
): FrameRecord[] {
  const buffer = Buffer.from(frame.bytes.buffer, frame.bytes.byteOffset, frame.length);
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  const records: FrameRecord[] = [];
  let at = 0;
  while (at < frame.length) {
    const length = view.getUint32(at, true);
    const start = at + RECORD_HEADER_BYTES;
    const end = length === TOMBSTONE ? start : start + length;
    records.push({
      split: splitOf(view.getUint16(at + 4, true)),
      keyGroup: view.getUint16(at + 6, true),
      offset: view.getFloat64(at + 8, true),
      time: view.getFloat64(at + 16, true),
      timestamp: view.getFloat64(at + 24, true),
      value: length === TOMBSTONE ? null : buffer.subarray(start, end),
    });
    at = end;
  }
  return records;
}
