/**
 * Values that users of a thread share, by their texts: the first one made stands for all that
 * follow. For what has few values over all users. It may be unique all the same, so at a limit all
 * are let go of.
 */
import type { Bound } from '../runtime/bound.ts';

const MAX_SHARED = 4096;

export class SharedValues<T> {
  readonly #values = new Map<string, T>();

  /** How many there are now, of how many at most. */
  get bound(): Bound {
    return { value: this.#values.size, limit: MAX_SHARED };
  }

  get(text: string): T | undefined {
    return this.#values.get(text);
  }

  set(text: string, value: T): void {
    if (this.#values.size >= MAX_SHARED) this.#values.clear();
    this.#values.set(text, value);
  }
}
