/**
 * When a slot writes out the next slice of a frozen set. With events about, an eighth of the time
 * at most: as fast as it could, the slots of a TaskManager took all that its cores had left for a
 * second, and events stood 100 ms (`bench -- latency`). Users that have an event meanwhile are
 * forked (P5) and no slice has to come for them. Without events it goes on and on.
 */
import type { Env, Timer } from '../runtime/env.ts';

const SLICE_MS = 1;
/** From a slice's begin to the next one. */
const PERIOD_MS = 8;
/** So long without an event there is nobody to hold up. */
export const QUIET_MS = 20;
/** 100,000 new users took two minutes to drain in shorter ones. */
const QUIET_SLICE_MS = 4;

export class DrainPace {
  readonly #env: Pick<Env, 'monotonic' | 'timer'>;
  readonly #wake: () => void;
  #workedAt = Number.NEGATIVE_INFINITY;
  #due = Number.NEGATIVE_INFINITY;
  #timer: Timer | null = null;

  /** `wake`: a slice is due, and no event may come to ask for it. */
  constructor(env: Pick<Env, 'monotonic' | 'timer'>, wake: () => void) {
    this.#env = env;
    this.#wake = wake;
  }

  /**
   * Calls `flush` with the milliseconds that it may take, unless the next slice is not due; `out`:
   * it was the last one, as `flush` says. `worked`: the turn had events. The first slice of a
   * frozen set waits for nothing: one that is out with it needs no time to pass.
   */
  turn(worked: boolean, flush: (ms: number) => boolean): 'waits' | 'more' | 'out' {
    const ms = this.#slice(worked);
    if (ms === 0) return 'waits';
    if (!flush(ms)) return 'more';
    this.#due = Number.NEGATIVE_INFINITY;
    return 'out';
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #slice(worked: boolean): number {
    const now = this.#env.monotonic();
    if (worked) this.#workedAt = now;
    if (now - this.#workedAt >= QUIET_MS) return QUIET_SLICE_MS;
    if (now >= this.#due) {
      this.#due = now + PERIOD_MS;
      return SLICE_MS;
    }
    this.#timer ??= this.#env.timer(this.#due - now, () => {
      this.#timer = null;
      this.#wake();
    });
    return 0;
  }
}
