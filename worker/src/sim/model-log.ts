/**
 * The topic of the simulation: a few splits whose records are known from the start and appear as
 * virtual time goes on, and what JobManager and slots see of them. Offsets have holes, some records
 * are poison, some hide their key from the fast scan, and a split may be added later (P26).
 */

import type { Seeded } from '../rehearsal/seeded.ts';
import type { SimThread } from '../rehearsal/sim-process.ts';
import { EPOCH_MS } from '../rehearsal/virtual-time.ts';
import { sleep } from '../runtime/env.ts';
import { RecordColumns } from '../source/record-columns.ts';
import type {
  SourceBatch,
  Split,
  SplitEnumerator,
  SplitPosition,
  SplitReader,
} from '../source/source.ts';
import type { Scenario } from './scenario.ts';

export interface ModelRecord {
  split: number;
  offset: number;
  /** ms; -1 none. */
  timestamp: number;
  value: Buffer | null;
  appearsAt: number;
  /** Number of the user, or null for poison. */
  user: number | null;
}

export interface ModelSplit {
  id: string;
  appearsAt: number;
  records: ModelRecord[];
}

const NAMES = ['view', 'click', 'buy'];
/** A record's own time lies at most this far before its append. */
const MAX_LATENESS_MS = 250;
const BATCH_RECORDS = 8;
const OLD_SPLITS = 3;
/** A split without new records answers this often (P37). */
const ANSWER_MS = 1000;

/** Some are long: rows of users with ids of different lengths meet in one block of a segment. */
export function userName(user: number): string {
  return `u${user}${user % 3 === 1 ? '-with-a-long-name' : ''}`;
}

function textOf(user: number, n: number, rng: Seeded): string {
  const id = userName(user);
  const name = rng.pick(NAMES);
  const flag = rng.chance(0.5);
  const pad = 'x'.repeat(rng.between(0, 40));
  const rest = `"event_name":"${name}","triggerable":${flag},"n":${n},"pad":"${pad}"`;
  if (rng.chance(0.05)) return `{${rest},"user_id":"\\u0075${id.slice(1)}"}`;
  if (rng.chance(0.05)) return `{"user_id":"u0","user_id":"${id}",${rest}}`;
  if (rng.chance(0.1)) return `{"user_id":"${id}","timestamp":"t${n}",${rest}}`;
  return `{"user_id":"${id}",${rest}}`;
}

function poison(n: number, rng: Seeded): Buffer | null {
  const text = rng.pick([
    null,
    `{"user_id":"u1","n":${n},"broken":nul}`,
    `[${n}]`,
    `{"n":${n}}`,
    `{"user_id":"u2","triggerable":"yes","n":${n}}`,
  ]);
  return text === null ? null : Buffer.from(text);
}

/** All records of a run. The first third of the users is busy, the last is rarely seen. */
export function makeSplits(scenario: Scenario, rng: Seeded): ModelSplit[] {
  const { users, events, productionMs, newSplitAtMs } = scenario;
  const splits: ModelSplit[] = Array.from({ length: OLD_SPLITS + 1 }, (_, index) => ({
    id: `events-${index}`,
    appearsAt: index < OLD_SPLITS ? 0 : EPOCH_MS + (newSplitAtMs ?? Number.POSITIVE_INFINITY),
    records: [],
  }));
  const times = Array.from({ length: events }, () => rng.next() * productionMs);
  times.sort((a, b) => a - b);
  for (const [n, at] of times.entries()) {
    const third = Math.ceil(users / 3);
    const user = rng.chance(0.6)
      ? rng.between(0, third - 1)
      : rng.between(0, rng.chance(0.2) ? users - 1 : 2 * third - 1);
    const moved = newSplitAtMs !== null && at >= newSplitAtMs && user % 2 === 0;
    const split = moved ? OLD_SPLITS : user % OLD_SPLITS;
    const { records } = splits[split]!;
    const last = records.at(-1)?.offset ?? -1;
    const bad = rng.chance(0.02);
    const appearsAt = EPOCH_MS + Math.ceil(at);
    records.push({
      split,
      offset: last + (rng.chance(0.05) ? rng.between(2, 4) : 1),
      timestamp: rng.chance(0.03) ? -1 : appearsAt - rng.between(0, MAX_LATENESS_MS),
      value: bad ? poison(n, rng) : Buffer.from(textOf(user, n, rng)),
      appearsAt,
      user: bad ? null : user,
    });
  }
  return newSplitAtMs === null ? splits.slice(0, OLD_SPLITS) : splits;
}

export class ModelLog {
  readonly splits: readonly ModelSplit[];
  readonly #now: () => number;
  readonly #down: () => boolean;

  constructor(splits: readonly ModelSplit[], now: () => number, down: () => boolean) {
    this.splits = splits;
    this.#now = now;
    this.#down = down;
  }

  enumerator(): SplitEnumerator {
    const ask = async <T>(answer: () => T): Promise<T> => {
      if (this.#down()) throw new Error('the broker does not answer');
      return answer();
    };
    const each = (splits: readonly Split[], of: (index: number) => number) =>
      new Map(splits.map(({ index, partition }) => [index, of(partition)]));
    return {
      discover: () =>
        ask(() =>
          this.splits
            .map(({ id, appearsAt }, partition) => ({
              id,
              sourceId: 'topic',
              partition,
              appearsAt,
            }))
            .filter(({ appearsAt }) => appearsAt <= this.#now())
            .map(({ appearsAt: _, ...split }) => split),
        ),
      startingOffsets: (splits) => ask(() => each(splits, () => 0)),
      earliestOffsets: (splits) => ask(() => each(splits, () => 0)),
      endOffsets: (splits) => ask(() => each(splits, (partition) => this.end(partition))),
      commit: () => ask(() => undefined),
      close: async () => undefined,
    };
  }

  /** Offset after the last record that has appeared. */
  end(partition: number): number {
    const { records } = this.splits[partition]!;
    const last = records.findLast(({ appearsAt }) => appearsAt <= this.#now());
    return (last?.offset ?? -1) + 1;
  }

  /** The broker's word that there is nothing after `position` now; null: it does not answer. */
  nothing({ split, offset }: SplitPosition): SourceBatch | null {
    const endOffset = this.end(split.partition);
    if (this.#down() || offset < endOffset) return null;
    const empty = { records: RecordColumns.of([]), nextOffset: offset, endOffset, finished: false };
    return { splitIndex: split.index, ...empty };
  }

  batch({ split, offset }: SplitPosition): SourceBatch | null {
    if (this.#down()) return null;
    const { records } = this.splits[split.partition]!;
    const now = this.#now();
    const first = records.findIndex((record) => record.offset >= offset);
    if (first < 0 || records[first]!.appearsAt > now) return null;
    const found = records
      .slice(first, first + BATCH_RECORDS)
      .filter(({ appearsAt }) => appearsAt <= now);
    const endOffset = this.end(split.partition);
    const nextOffset = found.at(-1)!.offset + 1;
    const batch = { records: RecordColumns.of(found), nextOffset, endOffset, finished: false };
    return { splitIndex: split.index, ...batch };
  }
}

export class ModelReader implements SplitReader {
  readonly #log: ModelLog;
  readonly #thread: SimThread;
  readonly #positions: (SplitPosition & { answeredAt: number })[] = [];
  readonly #connectedAt: number;
  #closed = false;

  /** `connectMs`: nothing is read before it has found its brokers. */
  constructor(log: ModelLog, thread: SimThread, connectMs: number) {
    this.#log = log;
    this.#thread = thread;
    this.#connectedAt = thread.process.time.nowMs + connectMs;
  }

  assign(positions: readonly SplitPosition[]): void {
    const free = positions.filter(({ held }) => held !== true);
    this.#positions.push(...free.map((position) => ({ ...position, answeredAt: 0 })));
  }

  async poll(maxWaitMs: number): Promise<SourceBatch | null> {
    const batch = this.#next();
    if (batch !== null || this.#closed) return batch;
    await sleep(this.#thread.env, maxWaitMs);
    return this.#next();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #next(): SourceBatch | null {
    const now = this.#thread.process.time.nowMs;
    if (now < this.#connectedAt) return null;
    for (let tried = 0; tried < this.#positions.length; tried++) {
      const position = this.#positions.shift()!;
      this.#positions.push(position);
      const silent = now - position.answeredAt >= ANSWER_MS;
      const batch = this.#log.batch(position) ?? (silent ? this.#log.nothing(position) : null);
      if (batch === null) continue;
      position.answeredAt = now;
      position.offset = batch.nextOffset;
      return batch;
    }
    return null;
  }
}
