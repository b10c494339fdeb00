/** A counting semaphore: at most `limit` holders, the others wait first come, first served. */
import type { Env, Timer } from '../runtime/env.ts';
import { invariant } from '../runtime/errors.ts';

interface Waiter {
  grant(): void;
}

export class Permits {
  readonly #env: Env;
  readonly #limit: number;
  /** A Set keeps the order of arrival and lets a waiter leave from the middle at no cost. */
  readonly #waiters = new Set<Waiter>();
  #held = 0;

  constructor(env: Env, limit: number) {
    invariant(limit >= 1, `a limit of permits is at least 1, got ${limit}`);
    this.#env = env;
    this.#limit = limit;
  }

  get held(): number {
    return this.#held;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * true: a permit is held and must be given back by `release`. false: none within `maxWaitMs`.
   * Rejects with the signal's reason as soon as it is aborted.
   */
  acquire(signal: AbortSignal, maxWaitMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#held < this.#limit) {
      this.#held += 1;
      return Promise.resolve(true);
    }
    if (maxWaitMs <= 0) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      let timer: Timer | null = null;
      const leave = () => {
        this.#waiters.delete(waiter);
        timer?.cancel();
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = () => {
        leave();
        reject(signal.reason);
      };
      const waiter: Waiter = {
        grant: () => {
          leave();
          resolve(true);
        },
      };
      if (Number.isFinite(maxWaitMs)) {
        timer = this.#env.timer(maxWaitMs, () => {
          leave();
          resolve(false);
        });
      }
      this.#waiters.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Hands the permit to the longest waiting, so that a newcomer can't overtake. */
  release(): void {
    invariant(this.#held > 0, 'a permit was released that nobody held');
    for (const waiter of this.#waiters) {
      waiter.grant();
      return;
    }
    this.#held -= 1;
  }
}
