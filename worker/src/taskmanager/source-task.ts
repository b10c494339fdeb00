/**
 * The Source stage of one slot: reads its splits, finds each record's key in the raw bytes, appends
 * the record to the buffer of the subtask that owns its key group. Positions move with the append,
 * so a barrier triggered between two records divides them exactly (P27).
 */
import type { AcceptedPosition } from '../exchange/accepted-offsets.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Timer } from '../runtime/env.ts';
import { sleep } from '../runtime/env.ts';
import { invariant } from '../runtime/errors.ts';
import type { RecordColumns } from '../source/record-columns.ts';
import type { SourceBatch, SplitPosition, SplitReader } from '../source/source.ts';
import { CatchUp } from './catch-up.ts';
import { RecordRouter, type RecordRouterOptions, type Targets } from './record-router.ts';
import { type SourceLag, type SplitProgress, sourceLag } from './source-lag.ts';

export interface SourceTaskOptions extends RecordRouterOptions {
  reader: SplitReader;
  /** One more reader of the same source, for a catch-up. */
  openReader: () => Promise<SplitReader>;
  bufferTimeoutMs: number;
  /** The attempt began from a checkpoint: its first records may be a replay. */
  restored: boolean;
  /**
   * Records are stamped with about the time they are written, so a split at its log's end counts as
   * now (P37). Not so for a generated or recorded stream: its users would all expire at its end.
   */
  liveTimestamps: boolean;
  /** How long after its TTL a user may be purged (P37), ms. */
  ttlGraceMs: number;
  /** No catch-up is under way, and every split has passed its goal. Once per `replay`. */
  onCaughtUp: () => void;
  mutant: string | null;
}

interface OpenSplit extends SplitProgress {
  position: SplitPosition;
  announced: boolean;
  /** Wall clock, ms, at which the source last said where this split ends. */
  answeredAt: number;
  /** To whom its records go; null = to all. */
  targets: Targets | null;
}

/** Subtasks whose tasks were lost, until each split has been handed over to us again. */
interface Loss {
  readonly subtasks: readonly number[];
  readonly lost: Targets;
  readonly others: Targets;
  /** Their successors are there: splits assigned from now on are read for all. */
  replaying: boolean;
  catchUp: CatchUp | null;
}

export interface SourceStats extends SourceLag {
  recordsRead: number;
  bytesRead: number;
  busyMs: number;
  backPressuredMs: number;
  skewedRecords: number;
  /** By catch-ups: splits, and records that were looked at for the lost key groups. */
  handedOver: number;
  caughtUpRecords: number;
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
  readonly #router: RecordRouter;
  readonly #splits = new Map<number, OpenSplit>();
  #wake: (() => void) | null = null;
  /** When the wait under way began, monotonic ms. */
  #blockedAt: number | null = null;
  #flushTimer: Timer | null = null;
  #clockDue = 0;
  #closed = false;
  #assigned = false;
  /**
   * Without a leader nobody looks for new splits: a user may have moved to one (P37). 0: not told
   * yet. A deployment tells nothing of it: the source may be away since long before.
   */
  #discoveredAt = 0;
  #paused = false;
  #held = false;
  #turnLeft = TURN_RECORDS;
  #loss: Loss | null = null;
  #goals: readonly AcceptedPosition[] | null = null;
  #stats = { recordsRead: 0, busyMs: 0, backPressuredMs: 0, handedOver: 0, caughtUpRecords: 0 };

  constructor(options: SourceTaskOptions) {
    this.#options = options;
    this.#router = new RecordRouter(options);
  }

  get stats(): SourceStats {
    const lag = sourceLag(this.#splits.values());
    if (!this.#assigned) lag.openSplits = -1;
    const { bytes: bytesRead, skewed: skewedRecords } = this.#router;
    const waited = this.#blockedAt === null ? 0 : this.#options.env.monotonic() - this.#blockedAt;
    const backPressuredMs = this.#stats.backPressuredMs + waited;
    return { ...this.#stats, ...lag, backPressuredMs, bytesRead, skewedRecords };
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
        emitLagMs: null,
        announced: false,
        answeredAt: 0,
        targets: this.#loss?.replaying === false ? this.#loss.others : null,
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
    this.#loss?.catchUp?.resume();
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  /** The tasks of these subtasks are lost: their records are passed over from now on (P51). */
  detach(subtasks: readonly number[]): void {
    invariant(this.#loss === null, 'tasks were lost before those before them were caught up with');
    const { senders } = this.#options;
    const lost = new Uint8Array(senders.length);
    for (const subtask of subtasks) lost[subtask] = 1;
    const others = lost.map((one) => 1 - one);
    this.#loss = { subtasks, lost, others, replaying: false, catchUp: null };
    for (const split of this.#splits.values()) split.targets = others;
    for (const subtask of subtasks) senders[subtask]!.close();
    this.resume();
  }

  /**
   * The successors of the detached tasks wait for the records from `positions` on; live records
   * follow those, split by split (P53).
   */
  async catchUp(positions: readonly SplitPosition[]): Promise<void> {
    const loss = this.#loss;
    invariant(loss?.replaying === false, 'a catch-up without a loss');
    const { senders, openReader, mutant } = this.#options;
    const from = this.#startingAt(positions);
    loss.replaying = true;
    for (const subtask of loss.subtasks) senders[subtask]!.reopen();
    for (const { split } of from) this.#announce(this.#splits.get(split.index)!, loss.subtasks);
    if (mutant === 'live-overtakes')
      for (const split of this.#splits.values()) split.targets = null;
    const reader = await openReader();
    if (this.#closed) return await reader.close();
    loss.catchUp = new CatchUp({
      reader,
      router: new RecordRouter({ ...this.#options, inspection: null }),
      from,
      targets: loss.lost,
      live: (index) => this.#splits.get(index)!.position,
      handOver: (index, { clock }) => this.#handOver(index, clock),
      routed: (records) => {
        this.#stats.caughtUpRecords += records;
        this.#armFlush();
      },
      mutant,
    });
    await loss.catchUp.run();
    if (this.#closed || this.#loss !== loss) return;
    this.#loss = null;
    this.#options.onCaughtUp();
  }

  #startingAt(positions: readonly SplitPosition[]): SplitPosition[] {
    const from: SplitPosition[] = [];
    for (const { position } of this.#splits.values()) {
      if (position.held === true) continue;
      const { index } = position.split;
      const known = positions.find(({ split }) => split.index === index);
      invariant(known !== undefined, `no position to read split ${index} from once more`);
      from.push(known);
    }
    return from;
  }

  /** We replace a lost source: others have got its splits' records before `goals` already (P50). */
  replaces(goals: readonly AcceptedPosition[]): void {
    this.#goals = goals;
    this.#checkGoals();
  }

  #handOver(index: number, clock: number): void {
    const split = this.#splits.get(index)!;
    this.#stats.handedOver++;
    split.targets = null;
    split.position.clock = Math.max(split.position.clock, clock);
  }

  #checkGoals(): void {
    const reached = this.#goals?.every(({ split, offset }) => {
      const position = this.#splits.get(split)?.position;
      return position === undefined || position.offset >= offset;
    });
    if (reached !== true && this.#options.mutant !== 'goals-ignored') return;
    this.#goals = null;
    this.#options.onCaughtUp();
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
    await Promise.all([this.#options.reader.close(), this.#loss?.catchUp?.close()]);
  }

  async #emit(batch: SourceBatch): Promise<void> {
    const { env } = this.#options;
    const split = this.#splits.get(batch.splitIndex)!;
    split.endOffset = batch.endOffset;
    split.answeredAt = batch.answeredAt ?? env.now();
    if (!split.announced) {
      split.announced = true;
      this.#announce(split);
    }
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
    if (this.#goals !== null) this.#checkGoals();
    this.#stats.busyMs += env.monotonic() - since;
    this.#armFlush();
  }

  /** Emits from record `first` on, until the batch or the turn ends or a channel is full. */
  #emitTurn(split: OpenSplit, records: RecordColumns, first: number): number {
    const until = Math.min(records.count, first + this.#turnLeft);
    const row = this.#router.route(split.position, records, first, until, split.targets);
    this.#turnLeft -= row - first;
    this.#stats.recordsRead += row - first;
    const timestamp = row > first ? records.timestamps[row - 1]! : -1;
    if (timestamp >= 0) split.emitLagMs = Math.max(0, this.#options.env.now() - timestamp);
    return row;
  }

  #announce({ position, endOffset }: OpenSplit, to?: readonly number[]): void {
    const replayUntil = this.#options.restored || to !== undefined ? Math.max(0, endOffset) : 0;
    const { index, id, sourceId, partition } = position.split;
    const splits = [{ index, id, sourceId, partition }];
    const { senders } = this.#options;
    const told = to?.map((subtask) => senders[subtask]!) ?? senders;
    for (const sender of told) sender.control({ kind: 'splits', splits, replayUntil });
  }

  async #blocked(): Promise<void> {
    const { env } = this.#options;
    const since = env.monotonic();
    this.#blockedAt = since;
    // The other targets must not wait for what only one of them has no room for.
    for (const sender of this.#options.senders) sender.flush();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#blockedAt = null;
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

  /** P37: our slowest split. A finished one holds nobody back. */
  #sendClock(): void {
    const { env, senders, liveTimestamps, ttlGraceMs } = this.#options;
    this.#clockDue = env.monotonic() + CLOCK_MS;
    // A user may have moved to a split that appeared after the last look, and seem idle in ours.
    const known = liveTimestamps ? this.#discoveredAt + ttlGraceMs : Number.POSITIVE_INFINITY;
    // A source without splits may be given such a one any moment, and must not have said more.
    let time = known;
    for (const { position, endOffset, finished, answeredAt } of this.#splits.values()) {
      if (finished) continue;
      const atEnd = liveTimestamps && endOffset >= 0 && position.offset >= endOffset;
      const now = Math.max(position.clock, Math.min(answeredAt, this.#discoveredAt));
      time = Math.min(time, atEnd ? now : position.clock);
    }
    // Whose records come from a catch-up is behind: its clock stands still till then.
    const behind = this.#loss?.lost ?? null;
    senders.forEach((sender, subtask) => {
      if (behind?.[subtask] !== 1) sender.control({ kind: 'clock', time });
    });
  }
}
