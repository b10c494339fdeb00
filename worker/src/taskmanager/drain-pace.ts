/**
 * When a slot writes out the next slice of a frozen set. Where events take its time, an eighth of
 * that at most: as fast as it could, the slots of a TaskManager took all that its cores had left
 * for a second, and events stood 100 ms (`bench -- latency`). Users that have an event meanwhile
 * are forked (P5) and no slice has to come for them. Without events it goes on and on.
 */
import type { Env, Timer } from '../runtime/env.ts';
import type { SlotLoad } from './slot-load.ts';

const SLICE_MS = 1;
/** From a slice's begin to the next one, by load. */
const PERIOD_MS = { least: 2, most: 8 };
/** Below there is nobody to hold up: some 150 ms after the last of many turns. */
const QUIET_LOAD = 0.05;
/** 100,000 new users took two minutes to drain in shorter ones. */
const QUIET_SLICE_MS = 4;

export class DrainPace {
  readonly #env: Pick<Env, 'monotonic' | 'timer'>;
  readonly #load: SlotLoad;
  readonly #wake: () => void;
  #due = Number.NEGATIVE_INFINITY;
  #timer: Timer | null = null;

  /** `wake`: a slice is due, and no event may come to ask for it. */
  constructor(env: Pick<Env, 'monotonic' | 'timer'>, load: SlotLoad, wake: () => void) {
    this.#env = env;
    this.#load = load;
    this.#wake = wake;
  }

  /**
   * Calls `flush` with the milliseconds that it may take, unless the next slice is not due; `out`:
   * it was the last one, as `flush` says. The first slice of a frozen set waits for nothing: one
   * that is out with it needs no time to pass.
   */
  turn(flush: (ms: number) => boolean): 'waits' | 'more' | 'out' {
    const ms = this.#slice();
    if (ms === 0) return 'waits';
    if (!flush(ms)) return 'more';
    this.#due = Number.NEGATIVE_INFINITY;
    return 'out';
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #slice(): number {
    const now = this.#env.monotonic();
    const load = this.#load.at(now);
    if (load < QUIET_LOAD) return QUIET_SLICE_MS;
    if (now >= this.#due) {
      this.#due = now + Math.max(PERIOD_MS.least, PERIOD_MS.most * load);
      return SLICE_MS;
    }
    this.#timer ??= this.#env.timer(this.#due - now, () => {
      this.#timer = null;
      this.#wake();
    });
    return 0;
  }
}
