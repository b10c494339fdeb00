/**
 * Fetches the assigned partitions of one slot and hands over raw chunks. Owns who leads what, one
 * fetch loop per broker, backoff, and the faults that end the source. Knows nothing of records.
 *
 * One transport per broker loop and one for questions (metadata, offsets): a broker that fails
 * takes only its own loop down, a waiting fetch delays no question, and every reconnect reads the
 * TLS files anew. A fetch stays in flight while chunks are consumed, up to HELD_BYTES; what is in
 * memory at most is HELD_BYTES plus one answer (RESPONSE_BYTES, or one larger batch) per broker.
 */

import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { kafkaErrorText } from './kafka-client.ts';
import {
  backoffMs,
  partitionFault,
  Refusal,
  requestFault,
  type StallWatch,
} from './kafka-faults.ts';
import { type LookupOptions, TopicLookup } from './kafka-lookup.ts';
import { EARLIEST, type FetchedPartition, type KafkaTransport, LATEST } from './kafka-transport.ts';
import { type AbortedTransaction, offsetAfter } from './record-batches.ts';
import type { Split } from './source.ts';

export const HELD_BYTES = 8 * 1024 * 1024;
const RESPONSE_BYTES = 4 * 1024 * 1024;
const LIMITS = {
  maxWaitMs: 500,
  maxBytes: RESPONSE_BYTES,
  maxBytesPerPartition: RESPONSE_BYTES,
};
const WATCH_INTERVAL_MS = 1_000;

/** One partition of the reader, as the fetcher sees it. */
export interface FetchState {
  readonly split: Split;
  /** Next offset to fetch: ahead of what the consumer has got. */
  offset: number;
  held: boolean;
  leader: number;
  /** Monotonic time before which it is not asked for again. */
  retryAt: number;
  failures: number;
  readonly refusal: Refusal;
  readonly watch: StallWatch;
}

/** What one fetch brought for one partition. */
export interface FetchedChunk {
  state: FetchState;
  /** The offset that was asked for: the first batch may begin earlier. */
  offset: number;
  records: Buffer;
  aborted: AbortedTransaction[];
  highWatermark: number;
  /** Wall clock, ms, at which the broker's answer came. */
  answeredAt: number;
}

export interface FetcherOptions extends LookupOptions {
  /** Called with each chunk, empty ones included; the fetcher counts its bytes until `release`. */
  deliver: (chunk: FetchedChunk) => void;
  /** Called once, with what only the JobManager can decide. */
  fail: (error: TriggerJobError) => void;
}

export class KafkaFetcher {
  readonly #options: FetcherOptions;
  readonly #env: Env;
  readonly #lookup: TopicLookup;
  /** By partition, in the order in which they are asked for. */
  readonly #states = new Map<number, FetchState>();
  readonly #loops = new Map<number, Promise<void>>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #transports = new Set<KafkaTransport>();
  readonly #stop = new AbortController();
  readonly #refusal = new Refusal();
  #heldBytes = 0;
  #wake = Promise.withResolvers<void>();
  #watching = false;

  constructor(options: FetcherOptions) {
    this.#options = options;
    this.#env = options.env;
    this.#lookup = new TopicLookup(options, this.#stop.signal);
  }

  /** Starts to read, or goes on with a released split. */
  add(state: FetchState): void {
    this.#states.set(state.split.partition, state);
    state.leader = this.#leaderOf(state.split.partition);
    if (state.leader < 0) this.#spawn(this.#refresh());
    if (!this.#watching) this.#spawn(this.#watchAll());
    this.#watching = true;
    this.#startLoops();
    this.#wakeAll();
  }

  /** Of chunks that the consumer is not done with. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The consumer is done with a chunk. */
  release(bytes: number): void {
    this.#heldBytes -= bytes;
    if (this.#heldBytes < HELD_BYTES) this.#wakeAll();
  }

  async close(): Promise<void> {
    this.#stop.abort(new TriggerJobError('SOURCE_CLOSED', 'the source is closed'));
    this.#wakeAll();
    await this.#disconnect();
    await Promise.allSettled([...this.#tasks, ...this.#loops.values()]);
    // A loop may have been opening a connection when the first ones were closed.
    await this.#disconnect();
  }

  get #stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  #spawn(work: Promise<void>): void {
    const task = this.#guard(work).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }

  /** What ends a loop is for the JobManager to decide, or only the echo of `close`. */
  async #guard(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (this.#stopped) return;
      const failure =
        error instanceof TriggerJobError
          ? error
          : new TriggerJobError('SOURCE_FAILED', kafkaErrorText(error), { cause: error });
      this.#stop.abort(failure);
      this.#wakeAll();
      this.#options.fail(failure);
    }
  }

  #leaderOf(partition: number): number {
    const view = this.#lookup.view;
    const leader = view?.leaders[partition] ?? -1;
    return view?.brokers.has(leader) ? leader : -1;
  }

  #startLoops(): void {
    for (const { leader, held } of this.#states.values()) {
      if (held || leader < 0 || this.#loops.has(leader) || this.#stopped) continue;
      const loop = this.#guard(this.#fetchFrom(leader)).finally(() => {
        this.#loops.delete(leader);
        // A split may have come to this broker after its loop had decided to end.
        this.#startLoops();
      });
      this.#loops.set(leader, loop);
    }
  }

  /** Ends when the broker leads none of the splits any more. */
  async #fetchFrom(node: number): Promise<void> {
    let transport: KafkaTransport | null = null;
    for (let failures = 0; !this.#stopped; ) {
      const led = [...this.#states.values()].filter(
        (state) => state.leader === node && !state.held,
      );
      const broker = this.#lookup.view?.brokers.get(node);
      if (led.length === 0 || broker === undefined) break;
      const now = this.#env.monotonic();
      const due = led.filter((state) => state.retryAt <= now);
      if (this.#heldBytes >= HELD_BYTES || due.length === 0) {
        await this.#waitForWork(Math.min(...led.map((state) => state.retryAt)) - now);
        continue;
      }
      let answered: FetchedPartition[];
      try {
        transport ??= await this.#open();
        answered = await transport.fetch(broker, due.map(fetchTarget), LIMITS);
      } catch (error) {
        if (transport !== null) await this.#discard(transport);
        transport = null;
        await this.#onRequestFault(error, failures++);
        await this.#refresh();
        continue;
      }
      failures = 0;
      this.#refusal.clear();
      if (await this.#handle(answered)) await this.#refresh();
    }
    if (transport !== null) await this.#discard(transport);
  }

  /** Until `release`, `add` or new metadata; at most until the next retry is due. */
  async #waitForWork(delayMs: number): Promise<void> {
    const wake = this.#wake.promise;
    if (delayMs <= 0) {
      await wake;
      return;
    }
    const done = new AbortController();
    const timer = sleep(this.#env, delayMs, done.signal).catch(() => {});
    await Promise.race([wake, timer]);
    done.abort();
  }

  #wakeAll(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  /** True if some partition's answer asks for a look at the metadata. */
  async #handle(answered: FetchedPartition[]): Promise<boolean> {
    let stale = false;
    for (const part of answered) {
      const state = this.#states.get(part.partition);
      if (state === undefined || this.#stopped) continue;
      if (part.errorCode === 0) {
        this.#deliver(state, part);
      } else {
        await this.#onPartitionFault(state, part.errorCode);
        stale = true;
      }
    }
    return stale;
  }

  #deliver(state: FetchState, part: FetchedPartition): void {
    const { records, aborted, highWatermark } = part;
    const { offset } = state;
    state.failures = 0;
    state.refusal.clear();
    const next = offsetAfter(records);
    if (next > offset) {
      state.offset = next;
      state.watch.progress(this.#env.monotonic());
      // The broker fills its answer in the order of the request: the served one goes last.
      this.#states.delete(state.split.partition);
      this.#states.set(state.split.partition, state);
    }
    this.#heldBytes += records.length;
    this.#options.counters.fetchedBytes += records.length;
    const answeredAt = this.#env.now();
    this.#options.deliver({ state, offset, records, aborted, highWatermark, answeredAt });
  }

  async #onPartitionFault(state: FetchState, errorCode: number): Promise<void> {
    const now = this.#env.monotonic();
    const fault = partitionFault(errorCode);
    this.#options.counters.fetchErrors++;
    state.retryAt = now + backoffMs(state.failures++, this.#env.random());
    if (fault.kind === 'out-of-range') await this.#checkRange(state);
    if (fault.kind === 'refused') state.refusal.note(now, `split ${state.split.id}`, fault);
  }

  async #onRequestFault(error: unknown, failures: number): Promise<void> {
    if (this.#stopped) return;
    this.#options.counters.fetchErrors++;
    const fault = requestFault(error);
    if (fault.kind === 'refused') {
      this.#refusal.note(this.#env.monotonic(), `topic ${this.#options.topic}`, fault);
    }
    await sleep(this.#env, backoffMs(failures, this.#env.random()), this.#stop.signal);
  }

  /** The broker says the offset is not there; a new leader may say so for a moment. */
  async #checkRange({ split, offset }: FetchState): Promise<void> {
    const earliest = await this.#lookup.offset(split.partition, EARLIEST, false);
    const end = await this.#lookup.offset(split.partition, LATEST, false);
    if (earliest === undefined || end === undefined) return;
    if (offset >= earliest && offset <= end) return;
    const [from, to] = offset < earliest ? [offset, earliest] : [end, offset];
    const cause =
      offset < earliest
        ? 'retention deleted records before they were read'
        : 'the log is shorter than what was read before (unclean leader election?)';
    throw new TriggerJobError(
      'SOURCE_OFFSET_OUT_OF_RANGE',
      `split ${split.id}: offsets [${from},${to}) are lost: ${cause}; ` +
        'restore a checkpoint whose offsets exist, or start without the old state',
    );
  }

  async #refresh(): Promise<void> {
    const view = await this.#lookup.refresh();
    for (const state of this.#states.values()) {
      const { id, sourceId, partition } = state.split;
      if (view.topicId !== sourceId) {
        throw new TriggerJobError(
          'SOURCE_TOPIC_RECREATED',
          `split ${id}: the topic was deleted and created again (topic id ${view.topicId}, the ` +
            `state is of ${sourceId}); its offsets mean nothing now: start without the old state`,
        );
      }
      state.leader = this.#leaderOf(partition);
    }
    this.#startLoops();
    this.#wakeAll();
  }

  /** Splits without a leader, and those that stand still although there is something to read. */
  async #watchAll(): Promise<void> {
    while (!this.#stopped) {
      await sleep(this.#env, WATCH_INTERVAL_MS, this.#stop.signal);
      const now = this.#env.monotonic();
      const reading = [...this.#states.values()].filter((state) => !state.held);
      if (reading.some((state) => state.leader < 0)) await this.#refresh();
      for (const state of reading) {
        if (this.#heldBytes > 0) state.watch.progress(now);
        if (state.watch.isSuspect(now)) await this.#examine(state);
      }
    }
  }

  async #examine(state: FetchState): Promise<void> {
    const { split, watch, offset } = state;
    const end = await this.#lookup.offset(split.partition, LATEST, true);
    const now = this.#env.monotonic();
    // A cluster that does not answer is down, which is waited for and not a stall.
    const verdict = watch.judge(now, offset, end ?? offset);
    if (verdict === 'stalled') {
      throw new TriggerJobError(
        'SOURCE_STALLED',
        `split ${split.id}: nothing arrives at offset ${offset} although the log ends at ${end}, ` +
          'also not over new connections',
        { retryable: true },
      );
    }
    if (verdict === 'reconnect') {
      this.#options.counters.reconnects++;
      await this.#disconnect();
    }
  }

  async #open(): Promise<KafkaTransport> {
    const transport = await this.#options.open();
    this.#transports.add(transport);
    return transport;
  }

  async #discard(transport: KafkaTransport): Promise<void> {
    this.#transports.delete(transport);
    // A connection that does not close cleanly is gone all the same.
    await transport.close().catch(() => {});
  }

  /** Pending requests fail at once; whoever sent them opens a new connection. */
  async #disconnect(): Promise<void> {
    const all = [...this.#transports].map((transport) => this.#discard(transport));
    await Promise.all([...all, this.#lookup.disconnect()]);
  }
}

function fetchTarget({ split, offset }: FetchState) {
  return { topicId: split.sourceId, partition: split.partition, offset };
}
