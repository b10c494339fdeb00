/** The contracts of the ActionExecutor stage and of the dead letter. */
import type { HistogramCounts } from '../runtime/histogram.ts';

/** One action of one event. Its `body` is fixed when the verdict is taken (P29). */
export interface Delivery {
  /** Stable over retries and replays (P30): the CloudEvents id, webhook-id and dead-letter id. */
  id: string;
  userId: string;
  /** Topic or generator name, partition and offset the event came from. */
  topic: string;
  partition: number;
  offset: number;
  /**
   * Event time for `ce-time`: the record's timestamp, ms; -1 none. No wall clock in a body (P33).
   */
  timestamp: number;
  /**
   * The enriched event as UTF-8 JSON: {"event":..,"user":..,"visit":..,"history":[..]}. Its memory
   * is used again once `deliver` and the dead letter's `write` are done: what may be read later, by
   * a socket for one, is a copy.
   */
  body: Buffer;
}

export type DeliveryOutcome =
  | { kind: 'delivered'; attempts: number }
  /** Final: goes to the dead letter. */
  | { kind: 'failed'; attempts: number; error: string };

/** Delivers with all its retries, backoff and total deadline inside. */
export interface ActionExecutor {
  /** Never rejects except with the abort reason after `close`. */
  deliver(delivery: Delivery): Promise<DeliveryOutcome>;
  readonly maxInFlight: number;
  /** Counters since the start, for metrics. */
  stats(): Record<string, number>;
  /** `webhookSeconds` of its attempts, where there are any to time. */
  readonly attemptSeconds?: HistogramCounts;
  close(): Promise<void>;
}

/** One record that could not be handled, as it is written to the dead letter. */
export interface DeadLetter {
  id: string;
  topic: string;
  partition: number;
  offset: number;
  userId: string | null;
  stage: 'source' | 'state' | 'filter' | 'action';
  error: string;
  attempts: number;
  /** The record's raw bytes, or the body of a delivery that failed. */
  raw: Buffer;
}

export interface DeadLetterWriter {
  /** Resolves once the entry is durable (acknowledged); retries by itself until then or `close`. */
  write(entry: DeadLetter): Promise<void>;
  close(): Promise<void>;
}
