/**
 * Which users of a slot cost most: by events, by their bytes, and by the state they hold. Counted
 * once per micro-batch: all records of a small one, some of a large one, each for as many as it
 * stands for. So an idle job's figures are exact within Space-Saving's bound, a busy one's are
 * estimates whose deviation is part of the bound that is told.
 */
import type { HotKey, HotKeyOrder, HotKeysAnswer } from '../rpc/inspection.ts';
import type { Env } from '../runtime/env.ts';
import type { AcceptedRecord } from './accepted-record.ts';
import { type Counter, SpaceSaving } from './space-saving.ts';

/** Keys counted by events, and as many by bytes; the errors are at most total / that. */
const COUNTED_KEYS = 256;
/** Users with the largest states among those that had events. */
const LARGEST_USERS = 64;
/** Records of one micro-batch that are counted. */
const SAMPLE_RECORDS = 8;
/** Among users of about one size none is worth taking another's place. */
const CLEARLY_LARGER = 1.1;
/** Figures are of the window under way and the one before it: what was hot is forgotten. */
const WINDOW_MS = 5 * 60_000;
/** Of a sampled count, two standard deviations: what it lies within 19 times of 20. */
const DEVIATIONS = 2;

interface Window {
  /** Its begin, wall time, ms. */
  since: number;
  events: SpaceSaving;
  bytes: SpaceSaving;
}

interface Users {
  /** Stored bytes; null: not in state. */
  bytesOf(userId: string): number | null;
  keyGroupOf(userId: string): number;
}

export class HotKeys {
  readonly #env: Pick<Env, 'now'>;
  #window: Window;
  #before: Window | null = null;
  /** Stored bytes when the user was last looked at. */
  readonly #largest = new Map<string, number>();
  #leastOfLargest = 0;
  #drawn = 1;

  constructor(env: Pick<Env, 'now'>) {
    this.#env = env;
    this.#window = this.#open();
  }

  /** A micro-batch was handled. `bytesOf`: of a user in memory. */
  count(records: readonly AcceptedRecord[], bytesOf: (userId: string) => number | null): void {
    const { length } = records;
    if (length === 0) return;
    this.#turnOver();
    const { events, bytes } = this.#window;
    const step = Math.max(1, Math.floor(length / SAMPLE_RECORDS));
    for (let at = 0; at < length; at += step) {
      // One of each `step` stands for them. Not the first, or one at an even distance: records may
      // come in a rhythm.
      const weight = Math.min(step, length - at);
      const i = weight === 1 ? at : at + (this.#draw() % weight);
      const { userId, start, end } = records[i]!;
      const size = end - start;
      const variance = weight * (weight - 1);
      events.add(userId, weight, variance);
      bytes.add(userId, weight * size, variance * size * size);
      const stored = bytesOf(userId);
      if (stored !== null && stored > this.#leastOfLargest) this.#noteLargest(userId, stored);
    }
  }

  /** Chance of its own: nothing here may move that of others. */
  #draw(): number {
    this.#drawn = (Math.imul(this.#drawn, 1_103_515_245) + 12_345) & 0x7fffffff;
    return this.#drawn >>> 8;
  }

  answer(by: HotKeyOrder, top: number, users: Users): HotKeysAnswer {
    this.#turnOver();
    const windows = this.#before === null ? [this.#window] : [this.#before, this.#window];
    const events = merged(windows.map((window) => window.events));
    const bytes = merged(windows.map((window) => window.bytes));
    const keys = (by === 'state' ? this.#byState(users) : byCount(by === 'events' ? events : bytes))
      .slice(0, top)
      .map(({ userId, errorBound }): HotKey => {
        const count = events.get(userId)?.count;
        const size = bytes.get(userId)?.count;
        return {
          userId,
          keyGroup: users.keyGroupOf(userId),
          events: count === undefined ? null : Math.round(count),
          bytes: size === undefined ? null : Math.round(size),
          errorBound,
          stateBytes: users.bytesOf(userId),
        };
      });
    const total = (of: 'events' | 'bytes') =>
      Math.round(windows.reduce((sum, window) => sum + window[of].total, 0));
    const since = windows[0]!.since;
    return { kind: 'hot-keys', since, events: total('events'), bytes: total('bytes'), keys };
  }

  /** What was seen of a user may be old: they are measured again. */
  #byState(users: Users): { userId: string; errorBound: number }[] {
    const sizes = [...this.#largest.keys()].map((userId) => {
      const bytes = users.bytesOf(userId);
      if (bytes === null) this.#largest.delete(userId);
      return { userId, bytes };
    });
    return sizes
      .filter(({ bytes }) => bytes !== null)
      .sort((a, b) => b.bytes! - a.bytes!)
      .map(({ userId }) => ({ userId, errorBound: 0 }));
  }

  #noteLargest(userId: string, bytes: number): void {
    if (this.#largest.has(userId) || this.#largest.size < LARGEST_USERS) {
      this.#largest.set(userId, bytes);
      return;
    }
    let [least, smallest] = ['', Number.POSITIVE_INFINITY];
    for (const [id, size] of this.#largest) if (size < smallest) [least, smallest] = [id, size];
    this.#leastOfLargest = smallest * CLEARLY_LARGER;
    if (bytes <= this.#leastOfLargest) return;
    this.#largest.delete(least);
    this.#largest.set(userId, bytes);
  }

  /** By the wall clock; set back, it begins a window of its own. */
  #turnOver(): void {
    const now = this.#env.now();
    const age = now - this.#window.since;
    if (age >= 0 && age < WINDOW_MS) return;
    this.#before = age >= 0 && age < 2 * WINDOW_MS ? this.#window : null;
    this.#window = this.#open();
    // Who has shrunk or gone makes room for others.
    this.#largest.clear();
    this.#leastOfLargest = 0;
  }

  #open(): Window {
    const summary = () => new SpaceSaving(COUNTED_KEYS);
    return { since: this.#env.now(), events: summary(), bytes: summary() };
  }
}

/** Sums over windows; a key that one of them does not count may have weighed its least there. */
function merged(windows: readonly SpaceSaving[]): Map<string, Counter> {
  const sums = new Map<string, Counter>();
  for (const { key } of windows.flatMap((window) => [...window.counters()])) {
    if (sums.has(key)) continue;
    const sum = { key, count: 0, error: 0, variance: 0 };
    for (const window of windows) {
      const missing = window.missingAtMost;
      const counter = window.get(key) ?? { count: missing, error: missing, variance: 0 };
      sum.count += counter.count;
      sum.error += counter.error;
      sum.variance += counter.variance;
    }
    sums.set(key, sum);
  }
  return sums;
}

function byCount(sums: Map<string, Counter>): { userId: string; errorBound: number }[] {
  return [...sums.values()]
    .sort((a, b) => b.count - a.count)
    .map(({ key, error, variance }) => ({
      userId: key,
      errorBound: Math.ceil(error + DEVIATIONS * Math.sqrt(variance)),
    }));
}
