/** How late the event loop of this thread comes to what is due: p99 over the last seconds. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 20;
/** One outlier must neither vanish before it is read nor stay for ever. */
const WINDOWS = 2;
const WINDOW_MS = 5_000;

export class EventLoopLag {
  readonly #monitors: ReturnType<typeof monitorEventLoopDelay>[];
  readonly #monotonic: () => number;
  #switchedAt: number;

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#switchedAt = monotonic();
    this.#monitors = Array.from({ length: WINDOWS }, () => {
      const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
      monitor.enable();
      return monitor;
    });
  }

  /** Of the older of two windows: it covers between one and two of them. */
  p99Ms(): number {
    const [older] = this.#monitors;
    const ms = (older?.percentile(99) ?? 0) / 1e6;
    if (this.#monotonic() - this.#switchedAt >= WINDOW_MS) {
      this.#switchedAt = this.#monotonic();
      older?.reset();
      this.#monitors.reverse();
    }
    // It measures from one look to the next, which are so far apart when all is well.
    return Math.max(0, ms - RESOLUTION_MS);
  }

  close(): void {
    for (const monitor of this.#monitors) monitor.disable();
  }
}
