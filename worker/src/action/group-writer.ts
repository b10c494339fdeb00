/**
 * The part that all dead letters share: entries that arrive together are written together, one
 * batch at a time, again and again until it is acknowledged or the writer is closed (I2: nothing
 * is dropped).
 *
 * Memory is bounded by the callers: every queued entry has an unsettled `write`, and the stages
 * hold at most a fixed number of those (P17). A batch is bounded here.
 */
import type { Logger } from 'pino';
import { backoffMs } from '../http/http-retry.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { DeadLetter, DeadLetterWriter } from './action.ts';

export interface BatchSink {
  /** Shown in log messages. */
  readonly target: string;
  /** Encodes a batch once; the result writes it, and is called again after each failure. */
  prepare(batch: readonly DeadLetter[]): () => Promise<void>;
  close(): Promise<void>;
}

export interface GroupLimits {
  /** How long the first entry of a batch waits for company. */
  maxDelayMs: number;
  /** A batch ends with the entry that reaches this. */
  maxBytes: number;
  maxEntries: number;
  initialBackoffMs: number;
  maxBackoffMs: number;
}

/** What an entry costs beside its raw bytes; an estimate for `maxBytes`. */
const ENTRY_OVERHEAD_BYTES = 512;

interface Pending {
  entry: DeadLetter;
  resolve(): void;
  reject(reason: unknown): void;
}

export class GroupWriter implements DeadLetterWriter {
  readonly #sink: BatchSink;
  readonly #limits: GroupLimits;
  readonly #env: Env;
  readonly #log: Logger;
  readonly #closing = new AbortController();
  #queue: Pending[] = [];
  #queuedBytes = 0;
  #running = false;
  /** Ends the wait for company early; null while nobody waits. */
  #wake: (() => void) | null = null;

  constructor(sink: BatchSink, limits: GroupLimits, env: Env, log: Logger) {
    this.#sink = sink;
    this.#limits = limits;
    this.#env = env;
    this.#log = log;
  }

  write(entry: DeadLetter): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason);
    return new Promise((resolve, reject) => {
      this.#queue.push({ entry, resolve, reject });
      this.#queuedBytes += costOf(entry);
      if (this.#isFull()) this.#wake?.();
      if (this.#running) return;
      this.#running = true;
      // The next turn: what one turn of the task writes belongs into one batch.
      setImmediate(() => {
        this.#run().catch(() => {});
      });
    });
  }

  async close(): Promise<void> {
    const { signal } = this.#closing;
    const reason = new TriggerJobError('DEAD_LETTER_CLOSED', 'the dead letter was closed');
    if (!signal.aborted) this.#closing.abort(reason);
    for (const pending of this.#queue.splice(0)) pending.reject(signal.reason);
    await this.#sink.close();
  }

  #isFull(): boolean {
    const { maxBytes, maxEntries } = this.#limits;
    return this.#queue.length >= maxEntries || this.#queuedBytes >= maxBytes;
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        if (this.#limits.maxDelayMs > 0 && !this.#isFull()) await this.#gather();
        const batch = this.#take();
        if (batch.length > 0) await this.#commit(batch);
      }
    } finally {
      this.#running = false;
    }
  }

  async #gather(): Promise<void> {
    const early = new AbortController();
    this.#wake = () => early.abort();
    this.#closing.signal.addEventListener('abort', this.#wake, { once: true });
    try {
      await sleep(this.#env, this.#limits.maxDelayMs, early.signal);
    } catch {
      // Woken: the batch is full, or the writer closes.
    } finally {
      this.#closing.signal.removeEventListener('abort', this.#wake);
      this.#wake = null;
    }
  }

  #take(): Pending[] {
    const { maxBytes, maxEntries } = this.#limits;
    let bytes = 0;
    let count = 0;
    while (count < this.#queue.length && count < maxEntries && bytes < maxBytes) {
      bytes += costOf(this.#queue[count]!.entry);
      count += 1;
    }
    this.#queuedBytes -= bytes;
    return this.#queue.splice(0, count);
  }

  async #commit(batch: readonly Pending[]): Promise<void> {
    const { signal } = this.#closing;
    const onAbort = () => {
      for (const pending of batch) pending.reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await this.#untilWritten(this.#sink.prepare(batch.map((pending) => pending.entry)));
      for (const pending of batch) pending.resolve();
    } catch (thrown) {
      // Only a close, or a fault of ours in `prepare`: either way the callers must hear of it.
      for (const pending of batch) pending.reject(thrown);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #untilWritten(write: () => Promise<void>): Promise<void> {
    const { initialBackoffMs, maxBackoffMs } = this.#limits;
    const { signal } = this.#closing;
    const { target } = this.#sink;
    for (let failures = 0; ; ) {
      signal.throwIfAborted();
      try {
        await write();
        if (failures > 0) this.#log.info({ target, failures }, 'the dead letter is written again');
        return;
      } catch (thrown) {
        failures += 1;
        // At 1, 2, 4, 8...: an outage of hours must not fill the log.
        if ((failures & (failures - 1)) === 0 && !signal.aborted) {
          const error = messageOf(thrown);
          this.#log.warn(
            { target, failures, error },
            'the dead letter is not written; trying again',
          );
        }
      }
      await sleep(
        this.#env,
        backoffMs(this.#env, failures, initialBackoffMs, maxBackoffMs),
        signal,
      );
    }
  }
}

function costOf(entry: DeadLetter): number {
  return entry.raw.length + ENTRY_OVERHEAD_BYTES;
}
