/**
 * What a fault of Kafka means for the source: wait and ask again, or only the JobManager can
 * decide. Pure: codes and clocks in, decisions out. The list of codes that end a reader is in
 * `source.ts`.
 */
import { TriggerJobError } from '../runtime/errors.ts';
import { kafkaErrorText } from './kafka-client.ts';
import { AUTHENTICATION_FAILED } from './kafka-sasl.ts';

/**
 * A refusal (credentials, rights, a missing topic, a damaged batch) may be a moment of a rotation
 * or of a topic's creation; one that lasts this long is reported.
 */
export const REFUSAL_PATIENCE_MS = 30_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2_000;

/** What to do about a partition's error code. */
export type PartitionFault =
  | { kind: 'out-of-range' }
  /** Leadership moved or the answer is not there yet: look at the metadata and ask again. */
  | { kind: 'transient' }
  | { kind: 'refused'; code: string; reason: string };

/**
 * Codes of the Kafka protocol; any other, known or not, is transient: retried with backoff,
 * counted.
 */
export function partitionFault(errorCode: number): PartitionFault {
  switch (errorCode) {
    case 1:
      return { kind: 'out-of-range' };
    case 2:
      return { kind: 'refused', code: 'SOURCE_CORRUPT_BATCH', reason: 'the broker reports damage' };
    case 3:
    case 100:
      return { kind: 'refused', code: 'SOURCE_TOPIC_MISSING', reason: 'the topic does not exist' };
    case 29:
      return {
        kind: 'refused',
        code: 'SOURCE_NOT_AUTHORIZED',
        reason: 'the Kafka user may not read the topic; grant READ and DESCRIBE',
      };
    default:
      return { kind: 'transient' };
  }
}

/** What a request that failed as a whole means: 'down' is retried for ever. */
export function requestFault(thrown: unknown): PartitionFault | { kind: 'down' } {
  if (mentions(thrown, AUTHENTICATION_FAILED)) {
    const advice = 'check the secret files and the SASL mechanism';
    const reason = `${kafkaErrorText(thrown)}; ${advice}`;
    return { kind: 'refused', code: 'SOURCE_AUTHENTICATION_FAILED', reason };
  }
  if (thrown instanceof TriggerJobError && thrown.code !== 'KAFKA_REQUEST_FAILED') {
    return { kind: 'refused', code: thrown.code, reason: thrown.message };
  }
  return { kind: 'down' };
}

function mentions(thrown: unknown, code: string): boolean {
  if (!(thrown instanceof Error)) return false;
  if ((thrown as { code?: unknown }).code === code) return true;
  const inner = thrown instanceof AggregateError ? thrown.errors : [];
  return [...inner, thrown.cause].some((cause) => mentions(cause, code));
}

/** `attempt` counts from 0. Half of the wait is random so that a broker's return is no stampede. */
export function backoffMs(attempt: number, random: number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 20));
  return full / 2 + (full / 2) * random;
}

/** Since when something is refused without a success between. */
export class Refusal {
  #since = -1;
  #fault: { code: string; reason: string } | null = null;

  clear(): void {
    this.#since = -1;
    this.#fault = null;
  }

  /** Throws the fault once it has lasted REFUSAL_PATIENCE_MS; `subject` says what is refused. */
  note(now: number, subject: string, fault: { code: string; reason: string }): void {
    if (this.#fault?.code !== fault.code) this.#since = now;
    this.#fault = fault;
    if (now - this.#since < REFUSAL_PATIENCE_MS) return;
    throw new TriggerJobError(fault.code, `${subject}: ${fault.reason}`, { retryable: true });
  }
}

/** A split that has data and moves not for this long gets new connections, then is reported. */
export const STALL_MS = 60_000;

/**
 * The watchdog's memory of one split. A broker that is down never gets here: its end offset is
 * unknown. Nor does backpressure: then the reader calls `progress`.
 */
export class StallWatch {
  #progressAt: number;
  #reconnected = false;

  constructor(now: number) {
    this.#progressAt = now;
  }

  progress(now: number): void {
    this.#progressAt = now;
    this.#reconnected = false;
  }

  isSuspect(now: number): boolean {
    return now - this.#progressAt >= STALL_MS;
  }

  /** For a suspect split: what its offset and the log's readable end mean. */
  judge(now: number, offset: number, end: number): 'idle' | 'reconnect' | 'stalled' {
    if (offset >= end) {
      this.progress(now);
      return 'idle';
    }
    if (this.#reconnected) return 'stalled';
    this.#progressAt = now;
    this.#reconnected = true;
    return 'reconnect';
  }
}
