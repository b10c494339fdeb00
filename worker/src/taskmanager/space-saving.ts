/**
 * Space-Saving (Metwally, Agrawal, El Abbadi 2005): the heaviest keys of a stream in room for
 * `capacity` of them. A key that is not counted takes the place of the lightest one and inherits
 * its count as an error. So: true weight <= count <= true weight + error, error <= total /
 * capacity, and no key heavier than that is missing.
 *
 * A key may stand for others that were not looked at (`weight` above its own); `variance` is what
 * that adds to the uncertainty of its count.
 */
export interface Counter {
  key: string;
  count: number;
  error: number;
  variance: number;
}

interface HeapCounter extends Counter {
  /** Its place in the heap. */
  at: number;
}

export class SpaceSaving {
  readonly #capacity: number;
  readonly #counters = new Map<string, HeapCounter>();
  /** Lightest first. */
  readonly #heap: HeapCounter[] = [];
  #total = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get total(): number {
    return this.#total;
  }

  /** What a key that is not counted may weigh at most. */
  get missingAtMost(): number {
    return this.#heap.length < this.#capacity ? 0 : this.#heap[0]!.count;
  }

  add(key: string, weight: number, variance = 0): void {
    this.#total += weight;
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      counter = this.#seat(key);
      this.#counters.set(key, counter);
    }
    counter.count += weight;
    counter.variance += variance;
    this.#sink(counter);
  }

  /** In no order. */
  counters(): Iterable<Readonly<Counter>> {
    return this.#heap;
  }

  get(key: string): Readonly<Counter> | undefined {
    return this.#counters.get(key);
  }

  #seat(key: string): HeapCounter {
    if (this.#heap.length < this.#capacity) {
      const counter = { key, count: 0, error: 0, variance: 0, at: this.#heap.length };
      this.#heap.push(counter);
      this.#rise(counter);
      return counter;
    }
    const lightest = this.#heap[0]!;
    this.#counters.delete(lightest.key);
    lightest.key = key;
    lightest.error = lightest.count;
    lightest.variance = 0;
    return lightest;
  }

  #rise(counter: HeapCounter): void {
    while (counter.at > 0) {
      const parent = this.#heap[(counter.at - 1) >> 1]!;
      if (parent.count <= counter.count) return;
      this.#swap(parent, counter);
    }
  }

  #sink(counter: HeapCounter): void {
    const heap = this.#heap;
    for (;;) {
      const left = heap[2 * counter.at + 1];
      const right = heap[2 * counter.at + 2];
      if (left === undefined) return;
      const lighter = right !== undefined && right.count < left.count ? right : left;
      if (lighter.count >= counter.count) return;
      this.#swap(counter, lighter);
    }
  }

  #swap(upper: HeapCounter, lower: HeapCounter): void {
    const at = upper.at;
    upper.at = lower.at;
    lower.at = at;
    this.#heap[upper.at] = upper;
    this.#heap[lower.at] = lower;
  }
}
