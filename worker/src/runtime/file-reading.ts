import type { Env } from './env.ts';
import { messageOf } from './errors.ts';

/** Strangers and clients must not make us read files as fast as they can call. */
const READ_AGAIN_MS = 1_000;

/**
 * What a file says, read again as it is replaced. What it said last holds while it can't be read,
 * which is told once per reason.
 */
export class FileReading<T> {
  readonly #read: () => T;
  readonly #env: Env;
  readonly #onFault: (reason: string) => void;
  #value: T;
  #readAt: number;
  #fault: string | null = null;

  /** Throws what `read` throws. */
  constructor(read: () => T, env: Env, onFault: (reason: string) => void) {
    this.#read = read;
    this.#env = env;
    this.#onFault = onFault;
    this.#value = read();
    this.#readAt = env.monotonic();
  }

  get value(): T {
    const now = this.#env.monotonic();
    if (now - this.#readAt < READ_AGAIN_MS) return this.#value;
    this.#readAt = now;
    try {
      this.#value = this.#read();
      this.#fault = null;
    } catch (error) {
      const reason = messageOf(error);
      if (reason !== this.#fault) this.#onFault(reason);
      this.#fault = reason;
    }
    return this.#value;
  }
}
