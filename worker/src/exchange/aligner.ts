/**
 * Barrier alignment of one state task, pure. Between the first and the last barrier of checkpoint
 * *i* a channel that has delivered its own is blocked, so that nothing after barrier *i* enters
 * interval *i*. One checkpoint at a time (P7); a later barrier supersedes an unfinished one (P21).
 */

export type BarrierOutcome =
  /** Late or repeated barrier of a checkpoint that is over: dropped. */
  | { kind: 'ignored' }
  | { kind: 'waiting'; superseded: number | null }
  /** Every channel has delivered it: take the snapshot now, then `release`. */
  | { kind: 'aligned'; superseded: number | null };

export class BarrierAligner {
  readonly #channels: number;
  readonly #arrived = new Set<number>();
  /** Checkpoint being aligned; null = none. */
  #pending: number | null = null;
  /** Highest checkpoint that was aligned, superseded or canceled. */
  #done = 0;

  constructor(channels: number) {
    this.#channels = channels;
  }

  get pending(): number | null {
    return this.#pending;
  }

  isBlocked(channel: number): boolean {
    return this.#pending !== null && this.#arrived.has(channel);
  }

  /** Channels whose barrier of the pending checkpoint has not come. */
  owes(channel: number): boolean {
    return this.#pending !== null && !this.#arrived.has(channel);
  }

  onBarrier(channel: number, checkpointId: number): BarrierOutcome {
    if (checkpointId <= this.#done) return { kind: 'ignored' };
    let superseded: number | null = null;
    if (this.#pending !== null && checkpointId !== this.#pending) {
      if (checkpointId < this.#pending) return { kind: 'ignored' };
      superseded = this.#pending;
      this.#close(this.#pending);
    }
    this.#pending = checkpointId;
    this.#arrived.add(channel);
    if (this.#arrived.size < this.#channels) return { kind: 'waiting', superseded };
    this.#close(checkpointId);
    return { kind: 'aligned', superseded };
  }

  /** P21: true when this very checkpoint was being aligned; its channels are open again. */
  cancel(checkpointId: number): boolean {
    const was = this.#pending === checkpointId;
    if (was) this.#close(checkpointId);
    // Barriers of it still under way must not start it anew.
    if (checkpointId > this.#done) this.#done = checkpointId;
    return was;
  }

  #close(checkpointId: number): void {
    this.#pending = null;
    this.#arrived.clear();
    this.#done = Math.max(this.#done, checkpointId);
  }
}
