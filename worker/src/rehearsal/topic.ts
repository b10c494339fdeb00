/** The topic of a rehearsed job: one partition in memory, stamped with the virtual clock. */

import type { Timer } from '../runtime/env.ts';
import { RecordColumns } from '../source/record-columns.ts';
import type {
  SourceBatch,
  SourceRecord,
  Split,
  SplitPosition,
  SplitReader,
} from '../source/source.ts';
import type { SimThread } from './sim-process.ts';

/** A topic at its end says so this often: users expire by that (P37). */
const ANSWER_MS = 1_000;
export class Topic {
  readonly split: Split;
  readonly records: SourceRecord[] = [];
  readonly #waiting = new Set<() => void>();

  constructor(name: string) {
    this.split = { index: 0, id: `${name}-0`, sourceId: 'rehearsal', partition: 0 };
  }

  append(timestamp: number, value: Buffer): void {
    this.records.push({ offset: this.records.length, timestamp, value });
    for (const wake of [...this.#waiting]) wake();
  }

  onAppend(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }
}

export class TopicReader implements SplitReader {
  readonly #topic: Topic;
  readonly #thread: SimThread;
  /** The topic was looked at: no other partition has appeared. */
  readonly #looked: () => void;
  #position: SplitPosition | null = null;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(topic: Topic, thread: SimThread, looked: () => void) {
    this.#topic = topic;
    this.#thread = thread;
    this.#looked = looked;
  }

  assign(positions: readonly SplitPosition[]): void {
    for (const position of positions) this.#position = { ...position };
  }

  async poll(): Promise<SourceBatch | null> {
    const batch = this.#next();
    if (batch !== null || this.#closed) return batch;
    await this.#appended();
    return this.#next();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #appended(): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | null = null;
      const stop = this.#topic.onAppend(() => this.#thread.awake(done));
      const done = () => {
        stop();
        timer?.cancel();
        resolve();
      };
      timer = this.#thread.env.timer(ANSWER_MS, done);
    });
  }

  #next(): SourceBatch | null {
    const position = this.#position;
    if (position === null) return null;
    const now = this.#thread.process.time.nowMs;
    const found = this.#topic.records.slice(position.offset);
    if (found.length === 0 && now - this.#answeredAt < ANSWER_MS) return null;
    this.#answeredAt = now;
    this.#looked();
    const endOffset = this.#topic.records.length;
    position.offset = endOffset;
    const records = RecordColumns.of(found);
    const { index: splitIndex } = position.split;
    return { splitIndex, records, nextOffset: endOffset, endOffset, finished: false };
  }
}
