/**
 * The generated stream: record `n` of split `s` is a pure function of (seed, s, n), so that a
 * replay from any offset brings the same bytes. Users belong to one split each and come in rounds:
 * every round has each of them once, in another order, so `seq` (how many events the user had
 * before) is exact.
 */
import type { DatagenSourcePlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { SourceCounters } from './counters.ts';
import { RecordColumns } from './record-columns.ts';
import type { SourceBatch, SplitPosition, SplitReader } from './source.ts';

/** Time of every first record: 2023-11-14T22:13:20Z. */
export const DATAGEN_EPOCH_MS = 1_700_000_000_000;
/** After a pause (backpressure) the stream catches up with at most this much. */
export const MAX_BURST_MS = 2_000;

const MAX_BATCH = 500;
const MIN_WAIT_MS = 5;
const EVENT_NAMES = ['page_view', 'click', 'add_cart', 'purchase', 'search'] as const;

/** The records of one split. */
export class DatagenSplit {
  readonly #plan: DatagenSourcePlan;
  readonly #split: number;
  readonly #users: number;
  readonly #step: number;
  readonly #msPerRecord: number;

  constructor(plan: DatagenSourcePlan, split: number) {
    this.#plan = plan;
    this.#split = split;
    // With fewer users than splits some users are in several splits and `seq` counts per split.
    this.#users = Math.max(1, Math.ceil((plan.users - split) / plan.splits));
    this.#step = stepFor(this.#users);
    this.#msPerRecord = (1_000 * plan.splits) / plan.eventsPerSecond;
  }

  /** Record `n`; ASCII. */
  text(n: number): string {
    const { seed, splits, users } = this.#plan;
    const seq = Math.floor(n / this.#users);
    const turn = mix(mix(seed, this.#split), seq) % this.#users;
    const own = ((n % this.#users) * this.#step + turn) % this.#users;
    const user = (this.#split + splits * own) % users;
    const id = n * splits + this.#split;
    const dice = mix(mix(seed ^ 0x5bd1e995, this.#split), n);
    const timestamp = this.timestamp(n);
    const name = EVENT_NAMES[dice % EVENT_NAMES.length];
    const triggerable = (dice >>> 8) % 5 === 0;
    const page = mix(dice, 12).toString(16).padStart(8, '0');
    return (
      `{"event_id":${id},"user_id":"u${String(user).padStart(10, '0')}","event_name":"${name}",` +
      `"triggerable":${triggerable},"timestamp":${timestamp},"page":"/p/${page}","seq":${seq}}`
    );
  }

  timestamp(n: number): number {
    return DATAGEN_EPOCH_MS + Math.floor(n * this.#msPerRecord);
  }
}

/** Murmur3's finalizer over two numbers; `b` above 2^32 counts with its high half too. */
function mix(a: number, b: number): number {
  let hash =
    a ^ Math.imul(b >>> 0, 0x9e3779b1) ^ Math.imul(Math.floor(b / 0x1_0000_0000), 0x85ebca77);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return hash >>> 0;
}

/** A stride without a common divisor with `users`: a round then meets each user once. */
function stepFor(users: number): number {
  let step = 7_919;
  while (gcd(step, users) !== 1) step++;
  return step;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** What deliveries are known by: everything that decides a record's bytes. */
export function datagenSourceId(plan: DatagenSourcePlan): string {
  return `datagen:${plan.seed}:${plan.users}:${plan.splits}:${plan.eventsPerSecond}`;
}

interface Lane {
  index: number;
  split: DatagenSplit;
  next: number;
  /** Record `origin` is due at `since`. */
  origin: number;
  since: number;
}

/**
 * Paces each split from its position at `assign`: a resumed stream goes on, it does not catch up.
 */
export class DatagenReader implements SplitReader {
  readonly #plan: DatagenSourcePlan;
  readonly #env: Env;
  readonly #counters: SourceCounters;
  readonly #lanes: Lane[] = [];
  readonly #perMs: number;
  readonly #stop = new AbortController();

  constructor(plan: DatagenSourcePlan, env: Env, counters: SourceCounters) {
    this.#plan = plan;
    this.#env = env;
    this.#counters = counters;
    this.#perMs = plan.eventsPerSecond / plan.splits / 1_000;
  }

  assign(positions: readonly SplitPosition[]): void {
    const since = this.#env.monotonic();
    for (const { split, offset } of positions) {
      const records = new DatagenSplit(this.#plan, split.partition);
      this.#lanes.push({ index: split.index, split: records, next: offset, origin: offset, since });
    }
  }

  async poll(maxWaitMs: number): Promise<SourceBatch | null> {
    const deadline = this.#env.monotonic() + maxWaitMs;
    while (!this.#stop.signal.aborted) {
      const batch = this.#take();
      if (batch !== null) return batch;
      const left = deadline - this.#env.monotonic();
      if (left <= 0) return null;
      const closed = await this.#pause(Math.min(left, Math.max(MIN_WAIT_MS, 1 / this.#perMs)));
      if (closed) return null;
    }
    return null;
  }

  async close(): Promise<void> {
    this.#stop.abort(new TriggerJobError('SOURCE_CLOSED', 'the source is closed'));
  }

  async #pause(delayMs: number): Promise<boolean> {
    return await sleep(this.#env, delayMs, this.#stop.signal).then(
      () => false,
      () => true,
    );
  }

  /** The first lane with something due, which then goes to the end of the queue. */
  #take(): SourceBatch | null {
    for (let tried = 0; tried < this.#lanes.length; tried++) {
      const lane = this.#lanes.shift()!;
      const batch = this.#takeFrom(lane);
      if (batch === null || !batch.finished) this.#lanes.push(lane);
      if (batch !== null) return batch;
    }
    return null;
  }

  #takeFrom(lane: Lane): SourceBatch | null {
    const end = this.#dueEnd(lane);
    const stop = Math.min(end, lane.next + MAX_BATCH);
    const finished = this.#plan.limit !== null && stop >= this.#plan.limit;
    if (stop <= lane.next && !finished) return null;
    const records = makeRecords(lane.split, lane.next, stop);
    lane.next = stop;
    this.#counters.records += records.count;
    const nextOffset = lane.next;
    return { splitIndex: lane.index, records, nextOffset, endOffset: end, finished };
  }

  /** Offset after the last record whose time has come. */
  #dueEnd(lane: Lane): number {
    const now = this.#env.monotonic();
    const earliestDue = now - (lane.next - lane.origin) / this.#perMs - lane.since;
    if (earliestDue > MAX_BURST_MS) lane.since += earliestDue - MAX_BURST_MS;
    const due = lane.origin + Math.floor((now - lane.since) * this.#perMs);
    return this.#plan.limit === null ? due : Math.max(lane.next, Math.min(due, this.#plan.limit));
  }
}

function makeRecords(split: DatagenSplit, first: number, end: number): RecordColumns {
  const texts = Array.from({ length: end - first }, (_, i) => split.text(first + i));
  const records = new RecordColumns(Buffer.from(texts.join(''), 'latin1'), texts.length);
  let at = 0;
  for (const [i, text] of texts.entries()) {
    records.add(first + i, split.timestamp(first + i), at, at + text.length);
    at += text.length;
  }
  return records;
}
