/**
 * The Source stage of one slot: reads its splits, finds each record's key in the raw bytes, appends
 * the record to the buffer of the subtask that owns its key group. Positions move with the append,
 * so a barrier triggered between two records divides them exactly (P27).
 */
import type { ChannelSender } from '../exchange/channel-sender.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { murmur3 } from '../exchange/murmur3.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { sleep } from '../runtime/env.ts';
import { routingKey } from '../source/key-scan.ts';
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
}

const POLL_MS = 100;
const CLOCK_MS = 1000;
/** Records emitted before the event loop gets a turn: the state stage shares the thread. */
const TURN_RECORDS = 512;

export class SourceTask {
  readonly #options: SourceTaskOptions;
  readonly #splits = new Map<number, OpenSplit>();
  #wake: (() => void) | null = null;
  #flushTimer: Timer | null = null;
  #clockDue = 0;
  #closed = false;
  #paused = false;
  #stats = { recordsRead: 0, bytesRead: 0, busyMs: 0, backPressuredMs: 0, skewedRecords: 0 };

  constructor(options: SourceTaskOptions) {
    this.#options = options;
  }

  get stats(): SourceStats {
    let pendingRecords = 0;
    for (const { position, endOffset, finished } of this.#splits.values()) {
      if (!finished && endOffset >= 0) pendingRecords += Math.max(0, endOffset - position.offset);
    }
    return { ...this.#stats, pendingRecords };
  }

  /**
   * A held split (P26) is not read until it comes again without `held`; till then no clock moves.
   */
  assign(positions: readonly SplitPosition[]): void {
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

  /** Reads until `close`. Rejects with what only the JobManager can decide. */
  async run(): Promise<void> {
    const { env, reader } = this.#options;
    this.#sendClock();
    while (!this.#closed) {
      if (env.monotonic() >= this.#clockDue) this.#sendClock();
      if (this.#paused) {
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
    let since = env.monotonic();
    let turn = TURN_RECORDS;
    for (const record of batch.records) {
      const value = record.value;
      const time = this.#clockOf(split, record.timestamp);
      const keyGroup = this.#keyGroup(split, record.offset, value);
      const { owners, senders } = this.#options;
      const sender = senders[owners[keyGroup]!]!;
      const outgoing = {
        split: split.position.split.index,
        keyGroup,
        offset: record.offset,
        time,
        timestamp: record.timestamp,
        value,
      };
      while (!sender.append(outgoing)) {
        this.#stats.busyMs += env.monotonic() - since;
        await this.#blocked();
        since = env.monotonic();
        if (this.#closed) return;
      }
      split.position.offset = record.offset + 1;
      this.#stats.recordsRead++;
      this.#stats.bytesRead += value?.length ?? 0;
      if (--turn === 0) {
        turn = TURN_RECORDS;
        this.#stats.busyMs += env.monotonic() - since;
        await new Promise<void>((resolve) => setImmediate(resolve));
        since = env.monotonic();
        if (this.#closed) return;
      }
    }
    // Beyond control records and gaps at the end of the batch (sparse offsets, P27).
    split.position.offset = Math.max(split.position.offset, batch.nextOffset);
    split.finished = batch.finished;
    this.#stats.busyMs += env.monotonic() - since;
    this.#armFlush();
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

  /** P36: the split's running maximum, a record's time capped at now + allowed skew. */
  #clockOf(split: OpenSplit, timestamp: number): number {
    const { position } = split;
    if (timestamp <= position.clock) return position.clock;
    const cap = this.#options.env.now() + this.#options.allowedSkewMs;
    if (timestamp > cap) this.#stats.skewedRecords++;
    position.clock = Math.max(position.clock, Math.min(timestamp, cap));
    return position.clock;
  }

  /** Records without a key go by their place; the state task parses and dead-letters them. */
  #keyGroup(split: OpenSplit, offset: number, value: Buffer | null): number {
    const { keyBy, maxParallelism } = this.#options;
    if (value !== null) {
      const route = routingKey(value, keyBy);
      if ('key' in route) return keyGroupOf(route.key, maxParallelism);
    }
    return murmur3(`${split.position.split.id}:${offset}`) % maxParallelism;
  }

  async #blocked(): Promise<void> {
    const { env } = this.#options;
    const since = env.monotonic();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#stats.backPressuredMs += env.monotonic() - since;
  }

  #armFlush(): void {
    if (this.#flushTimer !== null || this.#closed) return;
    this.#flushTimer = this.#options.env.timer(this.#options.bufferTimeoutMs, () => {
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
      time = Math.min(time, atEnd ? answeredAt : position.clock);
    }
    for (const sender of senders) sender.control({ kind: 'clock', time });
  }
}
