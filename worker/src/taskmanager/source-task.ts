/**
 * The Source stage of one slot: reads its splits, finds each record's key in the raw bytes, appends
 * the record to the buffer of the subtask that owns its key group. Positions move with the append,
 * so a barrier triggered between two records divides them exactly (P27).
 */
import type { ChannelSender } from '../exchange/channel-sender.ts';
import { murmur3 } from '../exchange/murmur3.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { sleep } from '../runtime/env.ts';
import { KeyRouter } from '../source/key-router.ts';
import type { RecordColumns } from '../source/record-columns.ts';
import type { SourceBatch, SplitPosition, SplitReader } from '../source/source.ts';

export interface SourceTaskOptions {
  env: Env;
  reader: SplitReader;
  senders: readonly ChannelSender[];
  /** keyGroup -> subtask. */
  owners: Uint16Array;
  keyBy: string;
  maxParallelism: number;
  allowedSkewMs: number;
  bufferTimeoutMs: number;
  /** The attempt began from a checkpoint: its first records may be a replay. */
  restored: boolean;
  /**
   * Records are stamped with about the time they are written, so a split at its log's end counts as
   * now (P37). Not so for a generated or recorded stream: its users would all expire at its end.
   */
  liveTimestamps: boolean;
}

interface OpenSplit {
  position: SplitPosition;
  endOffset: number;
  finished: boolean;
  announced: boolean;
  /** Wall clock, ms, at which the source last said where this split ends. */
  answeredAt: number;
}

export interface SourceStats {
  recordsRead: number;
  bytesRead: number;
  busyMs: number;
  backPressuredMs: number;
  skewedRecords: number;
  pendingRecords: number;
  openSplits: number;
}

const POLL_MS = 100;
/**
 * With so many records still to read nobody sees the last ones' latency, and buffers sent after
 * 5 ms would hold some ten records each: every step behind them works best on some hundred.
 */
const BACKLOG_RECORDS = 10_000;
const BACKLOG_TIMEOUT_FACTOR = 10;
const CLOCK_MS = 1000;
/** Records emitted before the event loop gets a turn: the state stage shares the thread. */
const TURN_RECORDS = 512;

export class SourceTask {
  readonly #options: SourceTaskOptions;
  readonly #router: KeyRouter;
  readonly #splits = new Map<number, OpenSplit>();
  #wake: (() => void) | null = null;
  #flushTimer: Timer | null = null;
  #clockDue = 0;
  #closed = false;
  #assigned = false;
  /** Without a leader nobody looks for new splits: a user may have moved to one (P37). */
  #discoveredAt: number;
  #paused = false;
  #held = false;
  #turnLeft = TURN_RECORDS;
  #stats = { recordsRead: 0, bytesRead: 0, busyMs: 0, backPressuredMs: 0, skewedRecords: 0 };

  constructor(options: SourceTaskOptions) {
    this.#options = options;
    this.#discoveredAt = options.env.now();
    this.#router = new KeyRouter(options.keyBy, options.maxParallelism);
  }

  get stats(): SourceStats {
    let pendingRecords = 0;
    let openSplits = this.#assigned ? 0 : -1;
    for (const { position, endOffset, finished } of this.#splits.values()) {
      if (!finished) openSplits++;
      if (!finished && endOffset >= 0) pendingRecords += Math.max(0, endOffset - position.offset);
    }
    return { ...this.#stats, pendingRecords, openSplits };
  }

  /**
   * A held split (P26) is not read until it comes again without `held`; till then no clock moves.
   * One that is read already stays where it is: a new leader may not know that it was released.
   */
  assign(given: readonly SplitPosition[]): void {
    this.#assigned = true;
    const positions = given.filter(({ split, held }) => {
      const known = this.#splits.get(split.index);
      return known === undefined || (known.position.held === true && held !== true);
    });
    for (const position of positions) {
      this.#splits.set(position.split.index, {
        position: { ...position },
        endOffset: -1,
        finished: false,
        announced: false,
        answeredAt: 0,
      });
    }
    this.#options.reader.assign(positions.map((position) => ({ ...position })));
  }

  /**
   * Emits barrier `checkpointId` now, on every channel, credit or not; returns the positions at it.
   */
  barrier(checkpointId: number, triggeredAt: number, script: ScriptVersion): SplitPosition[] {
    for (const sender of this.#options.senders) {
      sender.control({ kind: 'barrier', checkpointId, triggeredAt, script });
    }
    return this.positions();
  }

  /** No split is unknown that there was at `at`, wall time, ms. */
  discovered(at: number): void {
    this.#discoveredAt = Math.max(this.#discoveredAt, at);
  }

  /** Every split that was assigned, held ones included. */
  known(): SplitPosition[] {
    return [...this.#splits.values()].map(({ position }) => ({ ...position }));
  }

  positions(): SplitPosition[] {
    // A held split's position is the JobManager's.
    const own = [...this.#splits.values()].filter(({ position }) => position.held !== true);
    return own.map(({ position }) => ({ ...position }));
  }

  /** Credit came back. */
  resume(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  /** The state stage can't take more (P17); records stay in the log. */
  pause(paused: boolean): void {
    this.#paused = paused;
    if (!paused) this.resume();
  }

  /** From the next record on nothing is emitted until it is let go; barriers are. */
  hold(held: boolean): void {
    this.#held = held;
    if (!held) this.resume();
  }

  /** Reads until `close`. Rejects with what only the JobManager can decide. */
  async run(): Promise<void> {
    const { env, reader } = this.#options;
    this.#sendClock();
    while (!this.#closed) {
      if (env.monotonic() >= this.#clockDue) this.#sendClock();
      if (this.#paused || this.#held) {
        await this.#blocked();
        continue;
      }
      if (this.#splits.size === 0) {
        await sleep(env, POLL_MS);
        continue;
      }
      const batch = await reader.poll(POLL_MS);
      if (batch === null) this.#flush();
      else if (!this.#closed) await this.#emit(batch);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#flushTimer?.cancel();
    this.resume();
    await this.#options.reader.close();
  }

  async #emit(batch: SourceBatch): Promise<void> {
    const { env } = this.#options;
    const split = this.#splits.get(batch.splitIndex)!;
    split.endOffset = batch.endOffset;
    split.answeredAt = batch.answeredAt ?? env.now();
    if (!split.announced) this.#announce(split, batch.endOffset);
    const { records } = batch;
    let since = env.monotonic();
    for (let next = 0; ; ) {
      while (this.#held && !this.#closed) await this.#blocked();
      if (this.#closed) return;
      next = this.#emitTurn(split, records, next);
      if (next === records.count && this.#turnLeft > 0) break;
      this.#stats.busyMs += env.monotonic() - since;
      // Short of the turn's end it stopped at a full channel.
      if (this.#turnLeft > 0) await this.#blocked();
      else await new Promise<void>((resolve) => setImmediate(resolve));
      this.#turnLeft = TURN_RECORDS;
      since = env.monotonic();
      if (this.#closed) return;
    }
    // Beyond control records and gaps at the end of the batch (sparse offsets, P27).
    split.position.offset = Math.max(split.position.offset, batch.nextOffset);
    split.finished = batch.finished;
    this.#stats.busyMs += env.monotonic() - since;
    this.#armFlush();
  }

  /**
   * Emits from record `first` on, until the batch or the turn ends or a channel is full; returns
   * the record to go on with. The position moves with each record: whatever a send leads to, a
   * barrier finds it exact (P27).
   */
  #emitTurn(split: OpenSplit, records: RecordColumns, first: number): number {
    const { senders, owners, env, allowedSkewMs } = this.#options;
    const { offsets, timestamps, starts, ends } = records;
    const { position } = split;
    const { index } = position.split;
    // P36: the split's running maximum, a record's time capped. One look at the clock per turn.
    const cap = env.now() + allowedSkewMs;
    const until = Math.min(records.count, first + this.#turnLeft);
    let row = first;
    let bytes = 0;
    for (; row < until; row++) {
      const offset = offsets[row]!;
      const timestamp = timestamps[row]!;
      const start = starts[row]!;
      const end = ends[row]!;
      const time = Math.max(position.clock, Math.min(timestamp, cap));
      const keyGroup = this.#keyGroup(split, records, row);
      const sender = senders[owners[keyGroup]!]!;
      if (!sender.append(index, keyGroup, offset, time, timestamp, records, start, end)) break;
      if (timestamp > cap && timestamp > position.clock) this.#stats.skewedRecords++;
      position.clock = time;
      position.offset = offset + 1;
      if (end >= 0) bytes += end - start;
    }
    this.#turnLeft -= row - first;
    this.#stats.recordsRead += row - first;
    this.#stats.bytesRead += bytes;
    return row;
  }

  #announce(split: OpenSplit, endOffset: number): void {
    split.announced = true;
    const replayUntil = this.#options.restored ? Math.max(0, endOffset) : 0;
    const { index, id, sourceId, partition } = split.position.split;
    for (const sender of this.#options.senders) {
      sender.control({
        kind: 'splits',
        splits: [{ index, id, sourceId, partition }],
        replayUntil,
      });
    }
  }

  /** Records without a key go by their place; the state task parses and dead-letters them. */
  #keyGroup(split: OpenSplit, records: RecordColumns, row: number): number {
    const end = records.ends[row]!;
    const keyGroup = end < 0 ? -1 : this.#router.keyGroup(records, records.starts[row]!, end);
    if (keyGroup >= 0) return keyGroup;
    const place = `${split.position.split.id}:${records.offsets[row]!}`;
    return murmur3(place) % this.#options.maxParallelism;
  }

  async #blocked(): Promise<void> {
    const { env } = this.#options;
    const since = env.monotonic();
    // The other targets must not wait for what only one of them has no room for.
    for (const sender of this.#options.senders) sender.flush();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#stats.backPressuredMs += env.monotonic() - since;
  }

  #armFlush(): void {
    if (this.#flushTimer !== null || this.#closed) return;
    const { env, bufferTimeoutMs } = this.#options;
    const behind = this.stats.pendingRecords >= BACKLOG_RECORDS;
    const timeoutMs = behind ? bufferTimeoutMs * BACKLOG_TIMEOUT_FACTOR : bufferTimeoutMs;
    this.#flushTimer = env.timer(timeoutMs, () => {
      this.#flushTimer = null;
      this.#flush();
    });
  }

  #flush(): void {
    for (const sender of this.#options.senders) sender.flush();
    if (this.#options.senders.some((sender) => sender.buffered > 0)) this.#armFlush();
  }

  /** P37: our slowest split. A finished one holds nobody back; without any, time stands still. */
  #sendClock(): void {
    const { env, senders, liveTimestamps } = this.#options;
    this.#clockDue = env.monotonic() + CLOCK_MS;
    let time = Number.POSITIVE_INFINITY;
    for (const { position, endOffset, finished, answeredAt } of this.#splits.values()) {
      if (finished) continue;
      const atEnd = liveTimestamps && endOffset >= 0 && position.offset >= endOffset;
      const now = Math.max(position.clock, Math.min(answeredAt, this.#discoveredAt));
      time = Math.min(time, atEnd ? now : position.clock);
    }
    for (const sender of senders) sender.control({ kind: 'clock', time });
  }
}
