/**
 * What the source needs of a Kafka cluster; kafka-requests.ts does it. Apart from it because only
 * a job that reads Kafka loads the client.
 */
import type { AbortedTransaction } from './record-batches.ts';

export interface Broker {
  host: string;
  port: number;
}

/**
 * Values of `OffsetQuery.at` with a meaning of their own; others are milliseconds since the epoch.
 */
export const EARLIEST = -2;
export const LATEST = -1;

export interface TopicView {
  topicId: string;
  /** Node id of the leader by partition; -1 where there is none now. */
  leaders: number[];
  brokers: ReadonlyMap<number, Broker>;
}

export interface OffsetQuery {
  topic: string;
  view: TopicView;
  partitions: readonly number[];
  at: number;
  /** Latest means the last stable offset instead of the high watermark. */
  committed: boolean;
}

export interface FetchTarget {
  topicId: string;
  partition: number;
  offset: number;
}

export interface FetchLimits {
  maxWaitMs: number;
  /** Of the whole answer; the broker sends at least one batch, however large. */
  maxBytes: number;
  maxBytesPerPartition: number;
}

export interface FetchedPartition {
  partition: number;
  /** Kafka's error code; 0 is none. */
  errorCode: number;
  highWatermark: number;
  /** End for read_committed. */
  lastStableOffset: number;
  aborted: AbortedTransaction[];
  /** Whole batches, the last one possibly cut; a view of the answer they came in. */
  records: Buffer;
}

/** One per broker that is read, so that faults stay apart. */
export interface KafkaTransport {
  /** null: the cluster knows no such topic. */
  topic(name: string): Promise<TopicView | null>;
  /** Offset by partition; -1 where no record is as new as `at`. Fails if any partition fails. */
  listOffsets(query: OffsetQuery): Promise<Map<number, number>>;
  /** Partitions are answered in the order of `targets` until `maxBytes` is reached: rotate them. */
  fetch(
    broker: Broker,
    targets: readonly FetchTarget[],
    limits: FetchLimits,
  ): Promise<FetchedPartition[]>;
  /** Commits as a consumer that is no member of the group; refused while the group has members. */
  commit(groupId: string, topic: string, offsets: ReadonlyMap<number, number>): Promise<void>;
  close(): Promise<void>;
}
