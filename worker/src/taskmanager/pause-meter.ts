/**
 * How long checkpoints kept a subtask from processing: between the first and the last barrier, the
 * time in which no data frame was being handled, plus the synchronous part. An upper bound: time in
 * which there was nothing to process anyway counts too.
 */
import type { Env } from '../runtime/env.ts';

interface Alignment {
  checkpointId: number;
  startedAt: number;
  startDelayMs: number;
  /** End of the last piece of work, and the gaps between pieces so far. */
  workedAt: number;
  gapsMs: number;
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
      workedAt: now,
      gapsMs: 0,
      alignmentMs: 0,
      alignedAt: 0,
      syncMs: 0,
    };
    return true;
  }

  workBegins(): void {
    const current = this.#current;
    if (current !== null) current.gapsMs += this.#env.monotonic() - current.workedAt;
  }

  workEnds(): void {
    if (this.#current !== null) this.#current.workedAt = this.#env.monotonic();
  }

  aligned(checkpointId: number): void {
    const current = this.#of(checkpointId);
    if (current === null) return;
    const now = this.#env.monotonic();
    current.gapsMs += now - current.workedAt;
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
    const pause = current.gapsMs + syncMs;
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
