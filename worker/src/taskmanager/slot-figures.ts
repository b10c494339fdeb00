/**
 * What leaves a slot's outbox: how long the event was on its way, and why it is a dead letter. And
 * how long the slot was idle.
 */
import type { Env } from '../runtime/env.ts';
import { HISTOGRAM_BOUNDS, Histogram } from '../runtime/histogram.ts';
import type { OutboxEntry, OutboxResult } from './outbox.ts';

export class SlotFigures {
  /**
   * From the record's timestamp, which is when Kafka appended it unless its producer says else; of
   * no other source, whose timestamps tell nothing of now.
   */
  readonly endToEnd = new Histogram(HISTOGRAM_BOUNDS.endToEndSeconds);
  readonly deadLetters = { deadPoison: 0, deadProfile: 0, deadAction: 0 };
  readonly #env: Env;
  readonly #liveTimestamps: boolean;
  #idleMs = 0;
  #restMs = 0;

  constructor(env: Env, liveTimestamps: boolean) {
    this.#env = env;
    this.#liveTimestamps = liveTimestamps;
  }

  left({ delivery, failure }: OutboxEntry, result: OutboxResult): void {
    if (result === 'deadLettered') {
      // Nothing was tried for a record that can't be read.
      if (failure === null) this.deadLetters.deadAction++;
      else if (failure.attempts === 0) this.deadLetters.deadPoison++;
      else this.deadLetters.deadProfile++;
      return;
    }
    if (!this.#liveTimestamps || delivery.timestamp < 0) return;
    // A producer's clock may be ahead of ours.
    this.endToEnd.observe(Math.max(0, this.#env.now() - delivery.timestamp) / 1000);
  }

  /**
   * What is left of the time, ms, looked at now and then; a counter, so it never falls. Its source
   * may wait while the rest of the slot is busy, and the time then used is more than there was.
   */
  idleMs(uptimeMs: number, usedMs: number): number {
    const restMs = uptimeMs - usedMs;
    this.#idleMs += Math.max(0, restMs - this.#restMs);
    this.#restMs = restMs;
    return this.#idleMs;
  }
}
