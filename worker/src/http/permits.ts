/** A counting semaphore: at most `limit` holders, the others wait first come, first served. */
import type { Env, Timer } from '../runtime/env.ts';
import { invariant } from '../runtime/errors.ts';

interface Waiter {
  grant(): void;
  abort(): void;
}

/** All waiters that one signal can end, behind one listener on it. */
interface SignalWaiters {
  waiters: Set<Waiter>;
  listener: () => void;
}

export class Permits {
  readonly #env: Env;
  readonly #limit: number;
  /** A Set keeps the order of arrival and lets a waiter leave from the middle at no cost. */
  readonly #waiters = new Set<Waiter>();
  /**
   * Not a listener per waiter: a signal keeps its listeners in a list that adding and removing one
   * walks, so 80,000 waiting users cost 7 ms of the slot's thread for each that was fetched.
   */
  readonly #signals = new Map<AbortSignal, SignalWaiters>();
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
        this.#leave(signal, waiter);
        timer?.cancel();
      };
      const waiter: Waiter = {
        grant: () => {
          leave();
          resolve(true);
        },
        abort: () => {
          leave();
          reject(signal.reason);
        },
      };
      if (Number.isFinite(maxWaitMs)) {
        timer = this.#env.timer(maxWaitMs, () => {
          leave();
          resolve(false);
        });
      }
      this.#enter(signal, waiter);
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

  #enter(signal: AbortSignal, waiter: Waiter): void {
    this.#waiters.add(waiter);
    let known = this.#signals.get(signal);
    if (known === undefined) {
      const waiters = new Set<Waiter>();
      const listener = () => {
        for (const one of [...waiters]) one.abort();
      };
      known = { waiters, listener };
      signal.addEventListener('abort', known.listener, { once: true });
      this.#signals.set(signal, known);
    }
    known.waiters.add(waiter);
  }

  #leave(signal: AbortSignal, waiter: Waiter): void {
    this.#waiters.delete(waiter);
    const known = this.#signals.get(signal);
    if (known === undefined) return;
    known.waiters.delete(waiter);
    if (known.waiters.size > 0) return;
    signal.removeEventListener('abort', known.listener);
    this.#signals.delete(signal);
  }
}
