/**
 * Virtual time for a cluster in one process. A turn of the real event loop, then at most one due
 * timer, so that a crash or a message can fall between any two turns of a task. Only when nothing
 * moves does time jump to the next timer.
 *
 * Nothing here or in the code under test waits for anything real, so the order of all steps is a
 * function of the seed.
 */
import type { Timer } from '../runtime/env.ts';

interface Due {
  at: number;
  order: number;
  fn: (() => void) | null;
}

/** Any moment; event times lie around it. */
export const EPOCH_MS = 1_800_000_000_000;
/** Turns without a sign of life after which nothing is going on. */
const QUIET_TURNS = 2;

export class VirtualTime {
  /** Later first: the next one is popped from the end. */
  readonly #due: Due[] = [];
  #order = 0;
  #signs = 0;
  #failure: unknown = null;
  nowMs = EPOCH_MS;

  /** Something moved: time must not jump yet. */
  sign(): void {
    this.#signs++;
  }

  /** Ends the run with this fault. */
  fail(fault: unknown): void {
    this.#failure ??= fault;
  }

  throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  after(delayMs: number, fn: () => void): Timer {
    this.#signs++;
    const due: Due = { at: this.nowMs + Math.max(0, delayMs), order: this.#order++, fn };
    let low = 0;
    let high = this.#due.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#due[middle]!.at > due.at) low = middle + 1;
      else high = middle;
    }
    this.#due.splice(low, 0, due);
    return {
      cancel: () => {
        due.fn = null;
      },
    };
  }

  /** Runs until `done`, which is asked whenever nothing moves; false: `limitMs` passed before. */
  async run(done: () => boolean, limitMs: number): Promise<boolean> {
    const end = this.nowMs + limitMs;
    let quiet = 0;
    for (;;) {
      const before = this.#signs;
      await new Promise<void>((resolve) => setImmediate(resolve));
      this.throwFailure();
      if (this.#fireOne() || this.#signs !== before) {
        quiet = 0;
        continue;
      }
      if (++quiet < QUIET_TURNS) continue;
      if (done()) return true;
      const next = this.#due.at(-1);
      if (next === undefined || next.at > end) return false;
      this.nowMs = Math.max(this.nowMs, next.at);
    }
  }

  #fireOne(): boolean {
    while (this.#due.length > 0 && this.#due.at(-1)!.at <= this.nowMs) {
      const { fn } = this.#due.pop()!;
      if (fn === null) continue;
      fn();
      return true;
    }
    return false;
  }
}
