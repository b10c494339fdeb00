/**
 * How fast a slot packs its deltas. As fast as it could, all slots of a TaskManager compressed at
 * once when their frozen sets were out, two blocks each, and events stood 50 to 100 ms
 * (`bench -- latency`): the cores belong to events first, and a checkpoint has time. Lower priority
 * for libuv's threads was worse: a block that waits for its turn holds the slot's next one up.
 */
import type { Env, Timer } from '../runtime/env.ts';
import type { SlotLoad } from './slot-load.ts';

/**
 * Of rows, where events take all of the slot's time; less load, less rest. A block of a segment
 * takes its thread 2 ms of each 32.
 */
const BYTES_PER_MS = 4 * 1024;
/**
 * The first of a run go as fast as they can: 8 ms of a thread hold nobody up, and a small job's
 * checkpoint has no more than that: the demo's took 290 to 690 ms without it, 208 to 240 with it.
 */
export const FREE_BYTES = 512 * 1024;

export class PackPace {
  readonly #env: Pick<Env, 'monotonic' | 'timer'>;
  readonly #load: SlotLoad;
  readonly #waiting = new Map<Timer, () => void>();
  #closed = false;

  constructor(env: Pick<Env, 'monotonic' | 'timer'>, load: SlotLoad) {
    this.#env = env;
    this.#load = load;
  }

  /**
   * For one run: called with the bytes packed since the last call, it resolves when the next ones
   * may be. Where no time has passed that is now: in a rehearsal time stands, so it would be never.
   */
  run(): (bytes: number) => Promise<void> {
    let since = this.#env.monotonic();
    let free = FREE_BYTES;
    return async (bytes) => {
      const now = this.#env.monotonic();
      if (free >= bytes) {
        free -= bytes;
        since = now;
        return;
      }
      const ms = since + (this.#load.at(now) * bytes) / BYTES_PER_MS - now;
      // A timer is good to a millisecond.
      if (ms >= 1 && now > since && !this.#closed) await this.#wait(ms);
      since = this.#env.monotonic();
    };
  }

  /** Nobody waits from here on. */
  close(): void {
    this.#closed = true;
    for (const [timer, resolve] of this.#waiting) {
      timer.cancel();
      resolve();
    }
    this.#waiting.clear();
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#env.timer(ms, () => {
        this.#waiting.delete(timer);
        resolve();
      });
      this.#waiting.set(timer, resolve);
    });
  }
}
