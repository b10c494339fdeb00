/**
 * When each slot thread handled each event, in a file per thread: pairs of doubles, the moment and
 * the record's timestamp, both ms since the epoch; the name tells process and thread. So a pause is
 * what the events saw, not what a status that is polled shows.
 */
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const EXTENSION = '.times';
/** What a SIGKILL takes with it. */
const FLUSH_MS = 20;
const PAIR_BYTES = 16;

/** The writing end, in the slot thread. */
export class SlotTimes {
  readonly #file: number;
  #pairs: number[] = [];
  readonly #timer: NodeJS.Timeout;

  private constructor(file: number) {
    this.#file = file;
    this.#timer = setInterval(() => this.#flush(), FLUSH_MS);
    this.#timer.unref();
  }

  static open(folder: string, pid: number, thread: number): SlotTimes {
    return new SlotTimes(openSync(join(folder, `${pid}-${thread}-${Date.now()}${EXTENSION}`), 'w'));
  }

  add(timestamp: number): void {
    this.#pairs.push(performance.timeOrigin + performance.now(), timestamp);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#flush();
    closeSync(this.#file);
  }

  #flush(): void {
    if (this.#pairs.length === 0) return;
    writeSync(this.#file, new Uint8Array(Float64Array.from(this.#pairs).buffer));
    this.#pairs = [];
  }
}

/** One slot thread's life: of one task's attempt. */
export interface ThreadTimes {
  pid: number;
  /** Ascending, ms. */
  at: Float64Array;
  /** Of the event at the same index: how long after it was produced, ms. */
  latencyMs: Float64Array;
}

export function readTimes(folder: string): ThreadTimes[] {
  const names = readdirSync(folder).filter((name) => name.endsWith(EXTENSION));
  return names.map((name) => {
    const bytes = readFileSync(join(folder, name));
    const count = Math.floor(bytes.length / PAIR_BYTES);
    const at = new Float64Array(count);
    const latencyMs = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      at[i] = bytes.readDoubleLE(i * PAIR_BYTES);
      latencyMs[i] = at[i]! - bytes.readDoubleLE(i * PAIR_BYTES + 8);
    }
    return { pid: Number(name.split('-')[0]), at, latencyMs };
  });
}

/** Index of the first event at or after `time`. */
export function indexAt({ at }: ThreadTimes, time: number): number {
  let [low, high] = [0, at.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at[middle]! < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * What the users of one thread saw in [from, to]: the longest time without an event, its edges
 * included, and the most that an event was late. null: it was not there all the time.
 */
export function seenIn(
  thread: ThreadTimes,
  from: number,
  to: number,
): { gapMs: number; latencyMs: number } | null {
  const first = indexAt(thread, from);
  const end = indexAt(thread, to);
  if (first === 0 || end === thread.at.length) return null;
  let [gapMs, latencyMs] = [0, 0];
  for (let i = first; i <= end; i++) {
    gapMs = Math.max(gapMs, Math.min(to, thread.at[i]!) - Math.max(from, thread.at[i - 1]!));
    if (i < end) latencyMs = Math.max(latencyMs, thread.latencyMs[i]!);
  }
  return { gapMs, latencyMs };
}
