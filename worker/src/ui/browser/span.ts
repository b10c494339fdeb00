/** An answer and an older one, for what changed per second in between. Pure. */

/** Heartbeats come every second or so: over less, a rate would jump with each of them. */
const SPAN_MS = 10_000;
/** Older ones are of another visit to the page. */
const MAX_AGE_MS = 30_000;

export interface Span<T> {
  before: T | null;
  now: T;
}

/** `now`: wall time of the server, ms. */
export class Spans<T extends { now: number }> {
  #seen: T[] = [];

  add(value: T): Span<T> {
    const known = this.#seen.at(-1);
    if (known !== undefined && known.now > value.now) this.#seen = [];
    const kept = this.#seen.filter((one) => value.now - one.now <= MAX_AGE_MS && one !== value);
    const oldest = kept.findLast((one) => value.now - one.now >= SPAN_MS) ?? kept[0] ?? null;
    this.#seen = [...kept.slice(oldest === null ? 0 : kept.indexOf(oldest)), value];
    return { before: oldest, now: value };
  }
}
