/** Time that stands until a test moves it; timers are kept, and fire by hand. */
import type { Env } from '../runtime/env.ts';

export class TestClock implements Pick<Env, 'monotonic' | 'timer'> {
  at = 1_000;
  readonly timers: { at: number; fire: () => void; cancelled: boolean }[] = [];

  monotonic(): number {
    return this.at;
  }

  timer(ms: number, fire: () => void): { cancel: () => void } {
    const timer = { at: this.at + ms, fire, cancelled: false };
    this.timers.push(timer);
    return {
      cancel: () => {
        timer.cancelled = true;
      },
    };
  }
}
