/** The contracts of a source: an enumerator in the JobManager, a reader in every slot. */
import type { RecordColumns } from './record-columns.ts';

/** A part of the input that is read in order: a Kafka partition, a generator's split, a file. */
export interface Split {
  /** Dense number, given by the JobManager at first sight; fixed for the life of the state. */
  index: number;
  /** Unique and stable within the job: `<topic>-<partition>`, `datagen-<n>`, `<path>`. */
  id: string;
  /** Identity for delivery ids (P30): Kafka's topic id, else the generator's or file's identity. */
  sourceId: string;
  /** Kafka: the partition; else the index within the source. */
  partition: number;
}

/** Next offset to read, and the split's clock (P36): maximum of record timestamps, ms; -1 none. */
export interface SplitPosition {
  split: Split;
  offset: number;
  clock: number;
  /** Read nothing before this is released by the JobManager (P26). */
  held?: boolean;
}

/** One record on its own, as `RecordColumns` gives it to those for whom an object is cheap. */
export interface SourceRecord {
  offset: number;
  /** Milliseconds since the epoch; -1 where the source has none. */
  timestamp: number;
  /** null: a tombstone (dead letter: it has no user_id). */
  value: Buffer | null;
}

export interface SourceBatch {
  splitIndex: number;
  /**
   * In order, over one buffer that is never written again. It keeps a whole fetch alive: whoever
   * holds a record beyond its batch copies the value.
   */
  records: RecordColumns;
  /** Where to go on, beyond control records and gaps: >= last record's offset + 1. */
  nextOffset: number;
  /** End of the split's log when the batch was read; -1 unknown. For lag and idleness. */
  endOffset: number;
  /**
   * Wall clock, ms, at which `endOffset` was true; absent: now. A batch may wait before it is read.
   */
  answeredAt?: number;
  /** true: the split has ended for good (file, limited datagen) after these records. */
  finished: boolean;
}

/** Reads the splits of one slot. Bounded: holds at most a fixed number of batches ahead. */
export interface SplitReader {
  /** Adds splits; a split is assigned once. */
  assign(positions: readonly SplitPosition[]): void;
  /**
   * The next batch of any assigned split, or null when nothing came within about `maxWaitMs`.
   * Transient faults are retried inside; throws TriggerJobError (codes SOURCE_OFFSET_OUT_OF_RANGE,
   * SOURCE_TOPIC_RECREATED, SOURCE_STALLED, ...) for what only the JobManager can decide.
   */
  poll(maxWaitMs: number): Promise<SourceBatch | null>;
  /** Bytes read ahead of `poll`; absent where nothing is. */
  readonly heldBytes?: number;
  close(): Promise<void>;
}

/** The JobManager's side: which splits exist, where a first start begins, offsets for lag tools. */
export interface SplitEnumerator {
  /** All splits that exist now, in stable order, no `index`. Throws when a topic was recreated. */
  discover(): Promise<Omit<Split, 'index'>[]>;
  /** First offset of each split for a first start (P25) by the plan's startingOffsets. */
  startingOffsets(splits: readonly Split[]): Promise<Map<number, number>>;
  /** Earliest offset, for splits found later (P26); and the current end of each split. */
  earliestOffsets(splits: readonly Split[]): Promise<Map<number, number>>;
  endOffsets(splits: readonly Split[]): Promise<Map<number, number>>;
  /**
   * Commits next-to-read offsets to the consumer group; only for lag tools, failures are not fatal.
   */
  commit(positions: readonly SplitPosition[]): Promise<void>;
  close(): Promise<void>;
}
