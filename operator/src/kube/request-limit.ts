/**
 * The client's own limit on requests: a token bucket, and a stop for all while the server asks for
 * one (429 with Retry-After). First come, first served.
 */
import type { Env } from '../env.ts';
import { sleep } from '../env.ts';

export interface RequestLimitOptions {
  /** Requests per second in the long run. */
  perSecond: number;
  /** Requests at once after a quiet time. */
  burst: number;
}

export class RequestLimit {
  readonly #env: Env;
  readonly #perSecond: number;
  readonly #burst: number;
  /** Moment at which the next request may go if all that came before have gone, monotonic ms. */
  #nextAt = Number.NEGATIVE_INFINITY;
  #stoppedUntil = 0;

  constructor(env: Env, options: RequestLimitOptions) {
    this.#env = env;
    this.#perSecond = options.perSecond;
    this.#burst = options.burst;
  }

  /** Resolves when the request may go: false if the signal was aborted before. */
  async take(signal: AbortSignal): Promise<boolean> {
    const now = this.#env.monotonic();
    const interval = 1000 / this.#perSecond;
    // The bucket as a schedule: slots lie `interval` apart, and at most `burst` of them are saved.
    const slot = Math.max(this.#nextAt, now - (this.#burst - 1) * interval);
    this.#nextAt = slot + interval;
    let goAt = slot;
    while (true) {
      const wait = Math.max(goAt, this.#stoppedUntil) - this.#env.monotonic();
      if (wait <= 0) return !signal.aborted;
      if (!(await sleep(this.#env, wait, signal))) return false;
      goAt = 0;
    }
  }

  /** The server asked everybody to wait. */
  stopFor(ms: number): void {
    this.#stoppedUntil = Math.max(this.#stoppedUntil, this.#env.monotonic() + ms);
  }
}
