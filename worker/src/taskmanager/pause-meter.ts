/**
 * How long checkpoints kept a subtask from processing: between the first and the last barrier, the
 * time from finding no frame on the open channels to the next one, plus the synchronous part. An
 * upper bound: time in which there was nothing to process anyway counts too. What the thread does
 * meanwhile for its own source, or the wait for a core, is no pause while there are frames to take.
 */
import type { Env } from '../runtime/env.ts';

interface Alignment {
  checkpointId: number;
  startedAt: number;
  startDelayMs: number;
  /** Since when the open channels are empty; null: they are not. */
  starvedAt: number | null;
  starvedMs: number;
  alignmentMs: number;
  alignedAt: number;
  syncMs: number;
}

const KEPT = 2048;

export class PauseMeter {
  readonly #env: Env;
  #current: Alignment | null = null;
  readonly #pauses: number[] = [];
  #count = 0;
  #maxMs = 0;

  constructor(env: Env) {
    this.#env = env;
  }

  /** A barrier came; true if it is the first of its checkpoint. */
  barrier(checkpointId: number, startDelayMs: number): boolean {
    if (this.#current?.checkpointId === checkpointId) return false;
    const now = this.#env.monotonic();
    this.#current = {
      checkpointId,
      startedAt: now,
      startDelayMs,
      starvedAt: null,
      starvedMs: 0,
      alignmentMs: 0,
      alignedAt: 0,
      syncMs: 0,
    };
    return true;
  }

  /** The open channels have nothing to process. */
  starved(): void {
    if (this.#current !== null) this.#current.starvedAt ??= this.#env.monotonic();
  }

  /** A data frame is taken. */
  fed(): void {
    const current = this.#current;
    if (current === null || current.starvedAt === null) return;
    current.starvedMs += this.#env.monotonic() - current.starvedAt;
    current.starvedAt = null;
  }

  aligned(checkpointId: number): void {
    const current = this.#of(checkpointId);
    if (current === null) return;
    this.fed();
    const now = this.#env.monotonic();
    current.alignmentMs = now - current.startedAt;
    current.alignedAt = now;
  }

  /**
   * The synchronous part is over: processing goes on. Returns the figures of the acknowledgement.
   */
  synced(checkpointId: number): { alignmentMs: number; syncMs: number; startDelayMs: number } {
    const current = this.#of(checkpointId);
    if (current === null) return { alignmentMs: 0, syncMs: 0, startDelayMs: 0 };
    const syncMs = this.#env.monotonic() - current.alignedAt;
    const pause = current.starvedMs + syncMs;
    this.#current = null;
    this.#count++;
    this.#maxMs = Math.max(this.#maxMs, pause);
    this.#pauses.push(pause);
    if (this.#pauses.length > KEPT) this.#pauses.shift();
    return { alignmentMs: current.alignmentMs, syncMs, startDelayMs: current.startDelayMs };
  }

  cancel(checkpointId: number): void {
    if (this.#of(checkpointId) !== null) this.#current = null;
  }

  get stats(): { count: number; p99Ms: number; maxMs: number } {
    const sorted = [...this.#pauses].sort((a, b) => a - b);
    const p99 = sorted[Math.max(0, Math.ceil(sorted.length * 0.99) - 1)] ?? 0;
    return { count: this.#count, p99Ms: p99, maxMs: this.#maxMs };
  }

  #of(checkpointId: number): Alignment | null {
    return this.#current?.checkpointId === checkpointId ? this.#current : null;
  }
}
