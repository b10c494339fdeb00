/**
 * A counting semaphore: at most `limit` permits are held, who wants more waits, first come, first
 * served. One holder may take several at once, bytes for example.
 */
import type { Env, Timer } from '../runtime/env.ts';
import { invariant } from '../runtime/errors.ts';

interface Waiter {
  count: number;
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

  /** Takes `count` permits if they are free and nobody waits. */
  tryAcquire(count = 1): boolean {
    if (this.#waiters.size > 0 || this.#held + count > this.#limit) return false;
    this.#held += count;
    return true;
  }

  /**
   * true: `count` permits are held and must be given back by `release`. false: they were not free
   * within `maxWaitMs`. Rejects with the signal's reason as soon as it is aborted.
   */
  acquire(signal: AbortSignal, maxWaitMs = Number.POSITIVE_INFINITY, count = 1): Promise<boolean> {
    invariant(count <= this.#limit, `${count} permits of ${this.#limit} can never be had`);
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.tryAcquire(count)) return Promise.resolve(true);
    if (maxWaitMs <= 0) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      let timer: Timer | null = null;
      const leave = () => {
        this.#leave(signal, waiter);
        timer?.cancel();
      };
      const waiter: Waiter = {
        count,
        grant: () => {
          leave();
          resolve(true);
        },
        abort: () => {
          leave();
          reject(signal.reason);
          this.#grant();
        },
      };
      if (Number.isFinite(maxWaitMs)) {
        timer = this.#env.timer(maxWaitMs, () => {
          leave();
          resolve(false);
          this.#grant();
        });
      }
      this.#enter(signal, waiter);
    });
  }

  release(count = 1): void {
    invariant(this.#held >= count, 'a permit was released that nobody held');
    this.#held -= count;
    this.#grant();
  }

  /** The longest waiting first: who wants many must not starve behind those who want one. */
  #grant(): void {
    for (const waiter of this.#waiters) {
      if (this.#held + waiter.count > this.#limit) return;
      this.#held += waiter.count;
      waiter.grant();
    }
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
