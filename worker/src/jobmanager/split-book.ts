/**
 * The splits of the running job: first resolution (P25), discovery of new ones and their release
 * (P26), group offsets for lag tools. Decisions are split-tracker.ts; this file asks the enumerator
 * and owns the discovery timer.
 */
import type { Logger } from 'pino';
import type { SourcePlan } from '../plan/job-plan.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { Split, SplitEnumerator, SplitPosition } from '../source/source.ts';
import {
  addHeld,
  advance,
  firstSplits,
  hasHolds,
  release,
  restoredSplits,
  type SplitTrackerState,
  unknownSplits,
} from './split-tracker.ts';

/** A hold is looked at this often, beside at every completed checkpoint. */
const RELEASE_CHECK_MS = 1_000;

export interface SplitBookDeps {
  env: Env;
  log: Logger;
  source: SourcePlan;
  enumerator: SplitEnumerator;
  /** Splits that may be read from now on. */
  onAssigned(positions: SplitPosition[]): void;
  /** What only the job can answer for, e.g. SOURCE_TOPIC_RECREATED. */
  onFault(error: TriggerJobError): void;
}

export class SplitBook {
  readonly #deps: SplitBookDeps;
  #state: SplitTrackerState = { positions: [], holds: new Map(), expiredHolds: 0 };
  #expiredBefore = 0;
  /** Moves with every restore: an answer to a question from before it must not be applied. */
  #generation = 0;
  #timer: Timer | null = null;
  #nextDiscoveryAt = 0;
  #discoveredAt = 0;
  #closed = false;
  /** Wall time at the monotonic clock's origin, by the wall clock as it was at our start. */
  readonly #origin: number;

  constructor(deps: SplitBookDeps) {
    this.#deps = deps;
    this.#origin = deps.env.now() - deps.env.monotonic();
  }

  /** All splits of the job, held ones included: what a manifest names. */
  get positions(): readonly SplitPosition[] {
    return this.#state.positions;
  }

  get held(): number {
    return this.#state.holds.size;
  }

  get expiredHolds(): number {
    return this.#expiredBefore + this.#state.expiredHolds;
  }

  /**
   * Wall time, ms: every split that there was has been told to the tasks; 0 = not looked yet. null:
   * nobody looks.
   */
  get discoveredAt(): number | null {
    const { source } = this.#deps;
    if (source.kind !== 'kafka' || source.discoveryIntervalMs <= 0) return null;
    return this.#discoveredAt;
  }

  /** Positions with those a checkpoint acknowledged in place of the known ones; changes nothing. */
  advanced(acknowledged: readonly SplitPosition[]): readonly SplitPosition[] {
    return advance(this.#state, acknowledged).positions;
  }

  /**
   * The first start: rejects when the source can't be asked, since nothing may start without it
   * (P25).
   */
  async resolveFirst(): Promise<void> {
    const { enumerator } = this.#deps;
    const found = await enumerator.discover();
    const numbered = found.map((split, index): Split => ({ ...split, index }));
    const offsets = await enumerator.startingOffsets(numbered);
    this.#state = firstSplits(found, (split) => {
      const offset = offsets.get(split.index);
      if (offset !== undefined) return offset;
      throw new TriggerJobError('SOURCE_START', `no starting offset is known for ${split.id}`);
    });
  }

  async restore(positions: readonly SplitPosition[]): Promise<void> {
    this.#generation += 1;
    this.#discoveredAt = 0;
    this.#nextDiscoveryAt = this.#deps.env.monotonic();
    this.#expiredBefore += this.#state.expiredHolds;
    const { env, enumerator } = this.#deps;
    const released = positions.filter((position) => position.held !== true);
    const ends =
      released.length === positions.length
        ? new Map<number, number>()
        : await enumerator.endOffsets(released.map((position) => position.split));
    this.#state = restoredSplits(positions, ends, env.monotonic(), this.#holdMs);
  }

  /** A checkpoint completed: its positions are the job's, and holds may end. */
  completed(positions: readonly SplitPosition[]): void {
    this.#state = advance(this.#state, positions);
    this.#release();
    // Only for lag tools; the offsets that count are in the checkpoint.
    const released = this.#state.positions.filter((position) => position.held !== true);
    this.#deps.enumerator.commit(released).catch((error: unknown) => {
      this.#deps.log.warn({ error: messageOf(error) }, 'committing group offsets failed');
    });
  }

  /** Discovery runs from now on, once at once. */
  start(): void {
    this.#nextDiscoveryAt = this.#deps.env.monotonic();
    this.#schedule(0);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#deps.enumerator.close();
  }

  get #holdMs(): number {
    return this.#deps.source.kind === 'kafka' ? this.#deps.source.discoveryHoldMs : 0;
  }

  #schedule(delayMs: number): void {
    if (this.#closed || this.#deps.source.kind !== 'kafka') return;
    this.#timer = this.#deps.env.timer(delayMs, () => {
      void this.#step().finally(() => this.#schedule(RELEASE_CHECK_MS));
    });
  }

  async #step(): Promise<void> {
    const { env, source, log, onFault } = this.#deps;
    if (hasHolds(this.#state)) this.#release();
    if (source.kind !== 'kafka' || source.discoveryIntervalMs <= 0) return;
    if (env.monotonic() < this.#nextDiscoveryAt) return;
    try {
      await this.#discover();
    } catch (error) {
      if (error instanceof TriggerJobError && !error.retryable) onFault(error);
      else log.warn({ error: messageOf(error) }, 'split discovery failed; the next one follows');
    }
    this.#nextDiscoveryAt = env.monotonic() + source.discoveryIntervalMs;
  }

  async #discover(): Promise<void> {
    const { env, enumerator, log } = this.#deps;
    const generation = this.#generation;
    // Not the wall clock, which may be set forward, and a task's with it: idle users would then be
    // purged before their time (P37).
    const askedAt = Math.floor(this.#origin + env.monotonic());
    const fresh = unknownSplits(this.#state, await enumerator.discover());
    if (fresh.length === 0) {
      if (generation === this.#generation) this.#discoveredAt = askedAt;
      return;
    }
    const older = this.#state.positions.map((position) => position.split);
    const [earliest, ends] = await Promise.all([
      enumerator.earliestOffsets(fresh),
      enumerator.endOffsets(older),
    ]);
    if (generation !== this.#generation || this.#closed) return;
    this.#state = addHeld(this.#state, fresh, earliest, ends, env.monotonic(), this.#holdMs);
    log.info(
      { splits: fresh.map((split) => split.id) },
      'found new splits; they wait for the older',
    );
    // Told at once: while its records wait, nobody who moved to it may be purged (P37).
    const indices = new Set(older.map((split) => split.index));
    const found = this.#state.positions.filter(({ split }) => !indices.has(split.index));
    this.#deps.onAssigned(found);
    this.#discoveredAt = askedAt;
    this.#release();
  }

  #release(): void {
    const { state, released } = release(this.#state, this.#deps.env.monotonic());
    this.#state = state;
    if (released.length > 0) this.#deps.onAssigned(released);
  }
}
