/**
 * Events at a steady rate into the topic, for as long as something is measured: in each interval
 * other users in turn, a given share of all, so that a checkpoint finds that share touched.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { TopicLoader } from './load-topic.ts';

export interface Pace {
  eventsPerSecond: number;
  /** In which the same users have events, ms. */
  intervalMs: number;
  /** Users of one interval. */
  touched: number;
  /** A tick's events are one batch per partition. */
  tickMs?: number;
}

const TICK_MS = 10;

export class PacedStream {
  readonly #loader: Pick<TopicLoader, 'write'>;
  readonly #pace: Pace;
  #running = true;
  readonly #done: Promise<void>;
  written = 0;

  constructor(loader: Pick<TopicLoader, 'write'>, pace: Pace) {
    this.#loader = loader;
    this.#pace = pace;
    this.#done = this.#run();
    this.#done.catch(() => undefined);
  }

  /** Rejects if the broker refused an event. */
  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }

  async #run(): Promise<void> {
    const { eventsPerSecond, intervalMs, touched, tickMs = TICK_MS } = this.#pace;
    const startedAt = performance.now();
    while (this.#running) {
      const elapsed = performance.now() - startedAt;
      const due = Math.floor((elapsed * eventsPerSecond) / 1_000) - this.written;
      const interval = Math.floor(elapsed / intervalMs);
      if (due > 0) await this.#loader.write(interval * touched, touched, this.written, due);
      this.written += due;
      await wait(tickMs);
    }
  }
}
