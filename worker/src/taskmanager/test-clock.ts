/**
 * Time that stands until a test moves it; timers are kept, and fire by hand. With it the load of a
 * slot, as a test says.
 */
import type { Env } from '../runtime/env.ts';
import { SlotLoad } from './slot-load.ts';

export class TestClock implements Pick<Env, 'monotonic' | 'timer'> {
  at = 1_000;
  readonly load = new SlotLoad();
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

  /** As if events had taken this share of the last second. */
  busy(share: number): void {
    for (let ago = 1_000; ago >= 1; ago--) {
      this.load.worked(this.at - ago, this.at - ago + share);
    }
  }
}
