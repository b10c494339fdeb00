/** How often a split without new records says that its broker answers. */
const ANSWER_NEWS_MS = 1000;

/**
 * The Kafka reader of one slot: assigned partitions in, batches of records out (contract:
 * source.ts). Owns the queue between fetching and decoding. Chunks are decoded in slices when they
 * are polled, so that a fetch of 4 MiB, or what it expands to, never holds up a barrier.
 */
import type { Env, Timer } from '../runtime/env.ts';
import { invariant, TriggerJobError } from '../runtime/errors.ts';
import type { SourceCounters } from './counters.ts';
import { Refusal, StallWatch } from './kafka-faults.ts';
import { type FetchedChunk, type FetchState, KafkaFetcher } from './kafka-fetcher.ts';
import type { KafkaTransport } from './kafka-transport.ts';
import { BatchCursor } from './record-batches.ts';
import type { SourceBatch, SplitPosition, SplitReader } from './source.ts';

const SLICE_RECORDS = 1_000;
const SLICE_BYTES = 512 * 1024;

interface OpenChunk {
  chunk: FetchedChunk;
  cursor: BatchCursor;
}

export class KafkaSplitReader implements SplitReader {
  readonly #env: Env;
  readonly #counters: SourceCounters;
  readonly #fetcher: KafkaFetcher;
  readonly #states = new Map<string, FetchState>();
  readonly #queue: FetchedChunk[] = [];
  /** End offset that the consumer was told last, by split index. */
  readonly #reported = new Map<number, { end: number; at: number }>();
  #open: OpenChunk | null = null;
  #failure: TriggerJobError | null = null;
  #closed = false;
  #wake: (() => void) | null = null;

  constructor(options: {
    topic: string;
    env: Env;
    counters: SourceCounters;
    open: () => Promise<KafkaTransport>;
  }) {
    this.#env = options.env;
    this.#counters = options.counters;
    this.#fetcher = new KafkaFetcher({
      ...options,
      deliver: (chunk) => this.#onChunk(chunk),
      fail: (error) => {
        this.#failure = error;
        this.#wake?.();
      },
    });
  }

  get heldBytes(): number {
    return this.#fetcher.heldBytes;
  }

  /** A split that was assigned `held` and comes again without it is released (P26). */
  assign(positions: readonly SplitPosition[]): void {
    for (const { split, offset, held } of positions) {
      const known = this.#states.get(split.id);
      if (known !== undefined) {
        invariant(known.held && held !== true, `split ${split.id} is assigned a second time`);
        known.held = false;
        this.#fetcher.add(known);
        continue;
      }
      const state: FetchState = {
        split,
        offset,
        held: held === true,
        leader: -1,
        retryAt: 0,
        failures: 0,
        refusal: new Refusal(),
        watch: new StallWatch(this.#env.monotonic()),
      };
      this.#states.set(split.id, state);
      this.#fetcher.add(state);
    }
  }

  async poll(maxWaitMs: number): Promise<SourceBatch | null> {
    const batch = this.#nextBatch();
    if (batch !== null || maxWaitMs <= 0 || this.#closed) return batch;
    await this.#wait(maxWaitMs);
    return this.#nextBatch();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#fetcher.close();
    this.#queue.length = 0;
    this.#open = null;
  }

  #onChunk(chunk: FetchedChunk): void {
    const { index } = chunk.state.split;
    const now = this.#env.monotonic();
    const reported = this.#reported.get(index);
    // An answer without data is news of where the log ends, or, once a second, that the broker
    // still answers: a split whose broker is away must not count as read up to now (P37).
    const news = reported?.end !== chunk.highWatermark || now - reported.at >= ANSWER_NEWS_MS;
    if (chunk.records.length === 0 && !news) return;
    this.#reported.set(index, { end: chunk.highWatermark, at: now });
    this.#queue.push(chunk);
    this.#wake?.();
  }

  #nextBatch(): SourceBatch | null {
    if (this.#failure !== null) throw this.#failure;
    this.#open ??= this.#openNext();
    if (this.#open === null || this.#closed) return null;
    const { chunk, cursor } = this.#open;
    const records = this.#decode(chunk, cursor);
    this.#counters.records += records.count;
    const batch = {
      splitIndex: chunk.state.split.index,
      records,
      nextOffset: cursor.nextOffset,
      endOffset: chunk.highWatermark,
      answeredAt: chunk.answeredAt,
      finished: false,
    };
    if (records.count === 0 || cursor.isDone) {
      this.#open = null;
      this.#fetcher.release(chunk.records.length);
    }
    return batch;
  }

  #decode(chunk: FetchedChunk, cursor: BatchCursor) {
    try {
      return cursor.next(SLICE_RECORDS, SLICE_BYTES);
    } catch (cause) {
      // A fetch again would bring the same bytes from the same disk: the JobManager's restart
      // strategy is the retry, and its message names the place.
      const message = cause instanceof TriggerJobError ? cause.message : String(cause);
      this.#failure = new TriggerJobError(
        'SOURCE_CORRUPT_BATCH',
        `split ${chunk.state.split.id}: ${message}`,
        { cause, retryable: true },
      );
      throw this.#failure;
    }
  }

  #openNext(): OpenChunk | null {
    const chunk = this.#queue.shift();
    if (chunk === undefined) return null;
    return { chunk, cursor: new BatchCursor(chunk.records, chunk.offset, chunk.aborted) };
  }

  async #wait(maxWaitMs: number): Promise<void> {
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = this.#env.timer(maxWaitMs, resolve);
    });
    this.#wake = null;
    timer?.cancel();
  }
}
