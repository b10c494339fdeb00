/** An Env for tests: time stands still until the test moves it. */
import type { Env, Timer } from './env.ts';

export class ManualEnv implements Env {
  #now = 0;
  #ids = 0;
  readonly #timers = new Set<{ dueAt: number; fn: () => void }>();
  /** What `random` answers. */
  chance = 0.5;

  now(): number {
    return 1_764_000_000_000 + this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  random(): number {
    return this.chance;
  }

  id(): string {
    this.#ids += 1;
    return String(this.#ids).padStart(32, '0');
  }

  timer(delayMs: number, fn: () => void): Timer {
    const entry = { dueAt: this.#now + delayMs, fn };
    this.#timers.add(entry);
    return { cancel: () => void this.#timers.delete(entry) };
  }

  keepAlive(): Timer {
    return { cancel: () => {} };
  }

  /** Timers ring in their order, each at its own moment, and what they lead to runs. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    while (true) {
      await this.settle();
      const next = [...this.#timers].sort((a, b) => a.dueAt - b.dueAt)[0];
      if (next === undefined || next.dueAt > end) break;
      this.#now = Math.max(this.#now, next.dueAt);
      this.#timers.delete(next);
      next.fn();
    }
    this.#now = end;
    await this.settle();
  }

  /** Everything that waits for nothing but promises has run. */
  settle(): Promise<void> {
    return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  }
}
