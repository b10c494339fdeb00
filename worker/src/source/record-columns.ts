/**
 * The records of one batch as columns over the bytes they came in: no object and no Buffer view per
 * record, which at 100,000 records a second are most of what the source would cost.
 */
import { viewOf } from '../runtime/copy-words.ts';
import type { SourceRecord } from './source.ts';

/** Two numbers and two positions. */
const ROW_BYTES = 2 * Float64Array.BYTES_PER_ELEMENT + 2 * Int32Array.BYTES_PER_ELEMENT;

export class RecordColumns {
  readonly bytes: Buffer;
  /** The same bytes, for those who read words. */
  readonly view: DataView;
  count = 0;
  /** Valid below `count`; replaced when they grow. */
  offsets: Float64Array;
  timestamps: Float64Array;
  starts: Int32Array;
  /** -1: a tombstone. */
  ends: Int32Array;

  constructor(bytes: Buffer, capacity: number) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    const memory = new ArrayBuffer(capacity * ROW_BYTES);
    this.offsets = new Float64Array(memory, 0, capacity);
    this.timestamps = new Float64Array(memory, capacity * 8, capacity);
    this.starts = new Int32Array(memory, capacity * 16, capacity);
    this.ends = new Int32Array(memory, capacity * 20, capacity);
  }

  /** For records that are made one by one. */
  static of(records: readonly SourceRecord[]): RecordColumns {
    const bytes = Buffer.concat(records.map(({ value }) => value ?? Buffer.alloc(0)));
    const columns = new RecordColumns(bytes, records.length);
    let at = 0;
    for (const { offset, timestamp, value } of records) {
      columns.add(offset, timestamp, at, value === null ? -1 : at + value.length);
      at += value?.length ?? 0;
    }
    return columns;
  }

  add(offset: number, timestamp: number, start: number, end: number): void {
    const row = this.count;
    // A typed array swallows what is written beyond its end: the record would be lost in silence.
    if (row === this.offsets.length) this.#grow();
    this.offsets[row] = offset;
    this.timestamps[row] = timestamp;
    this.starts[row] = start;
    this.ends[row] = end;
    this.count = row + 1;
  }

  /** One object per record: not for the path that every record takes. */
  *[Symbol.iterator](): Generator<SourceRecord> {
    for (let row = 0; row < this.count; row++) {
      const end = this.ends[row]!;
      yield {
        offset: this.offsets[row]!,
        timestamp: this.timestamps[row]!,
        value: end < 0 ? null : this.bytes.subarray(this.starts[row], end),
      };
    }
  }

  #grow(): void {
    const { offsets, timestamps, starts, ends } = this;
    const larger = new RecordColumns(this.bytes, Math.max(64, 2 * offsets.length));
    larger.offsets.set(offsets);
    larger.timestamps.set(timestamps);
    larger.starts.set(starts);
    larger.ends.set(ends);
    this.offsets = larger.offsets;
    this.timestamps = larger.timestamps;
    this.starts = larger.starts;
    this.ends = larger.ends;
  }
}
