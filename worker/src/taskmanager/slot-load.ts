/**
 * What share of its time a slot spends on events, lately: by it what a checkpoint does beside them
 * is paced. Whether there are events at all was not enough: with one per millisecond, a slot that
 * is idle for 95 % of its time packed 25 MB as slowly as one without time left, 13 s instead of
 * 0.6, and after a failure the events of those seconds had to be read again (setting r of
 * `npm run bench`).
 */

/** How long a turn counts, about. */
const MEMORY_MS = 50;
/**
 * From this share on what runs beside the events takes as little time as it may: four slots of a
 * TaskManager on two cores, its broker beside it, have 0.28 at half of their highest rate
 * (`npm run bench -- latency`), and the cores are then busy to nine tenths.
 */
const FULL_SHARE = 0.25;

export class SlotLoad {
  /** Of turns with events, fading out; in a slot that does nothing else it is MEMORY_MS. */
  #busyMs = 0;
  #at = 0;

  /** A turn had events, from `from` to `to`, monotonic ms: the waits for a core are in it. */
  worked(from: number, to: number): void {
    this.#busyMs = this.#faded(to) + to - from;
    this.#at = to;
  }

  /**
   * 0: no events, 1: a quarter of the time or more is theirs. It grows as the square of that share:
   * so do the waits of those who want the same core.
   */
  at(now: number): number {
    return Math.min(1, this.#faded(now) / (MEMORY_MS * FULL_SHARE)) ** 2;
  }

  #faded(now: number): number {
    return this.#busyMs * Math.exp((this.#at - now) / MEMORY_MS);
  }
}
