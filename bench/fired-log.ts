/**
 * What each slot thread fired, or the webhook's receiver got, in a file per thread: rows of four
 * doubles, the moment, the record's timestamp (both ms since the epoch), its partition, the event's
 * id; the name tells the process. So the harness checks the results, and sees latency, throughput
 * and a recovery by what the events saw.
 */
import { closeSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { FiredIds } from './fired-ids.ts';

const EXTENSION = '.fired';
const ROW_NUMBERS = 4;
const ROW_BYTES = ROW_NUMBERS * 8;
const READ_BYTES = ROW_BYTES * 4_096;

/** The writing end, in the slot thread. */
export class FiredLogWriter {
  readonly #file: number;
  #rows: number[] = [];

  private constructor(file: number) {
    this.#file = file;
  }

  static open(folder: string, pid: number, thread: number): FiredLogWriter {
    const name = `${pid}-${thread}-${Date.now()}${EXTENSION}`;
    return new FiredLogWriter(openSync(join(folder, name), 'w'));
  }

  /**
   * Written at the end of the event loop's turn: long before a checkpoint that holds the delivery
   * as done can complete, so that a SIGKILL makes no loss look like one of the job.
   */
  add(timestamp: number, partition: number, id: number): void {
    if (this.#rows.length === 0) setImmediate(() => this.flush());
    this.#rows.push(performance.timeOrigin + performance.now(), timestamp, partition, id);
  }

  flush(): void {
    if (this.#rows.length === 0) return;
    writeSync(this.#file, new Uint8Array(Float64Array.from(this.#rows).buffer));
    this.#rows = [];
  }

  close(): void {
    this.flush();
    closeSync(this.#file);
  }
}

export interface FiredRow {
  pid: number;
  at: number;
  /** NaN: not told. */
  timestamp: number;
  partition: number;
  id: number;
}

/** The reading end: all threads of all processes, each row once. */
export class FiredLog {
  readonly #folder: string;
  readonly #positions = new Map<string, number>();
  readonly #buffer = Buffer.alloc(READ_BYTES);
  readonly ids = new FiredIds();
  firstAt: number | null = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Takes in what was written since the last time, and gives each new row to `row`. */
  read(row: (row: FiredRow) => void = () => undefined): void {
    for (const name of readdirSync(this.#folder)) {
      if (name.endsWith(EXTENSION)) this.#readFile(name, row);
    }
  }

  #readFile(name: string, row: (row: FiredRow) => void): void {
    const pid = Number(name.split('-')[0]);
    const file = openSync(join(this.#folder, name), 'r');
    let position = this.#positions.get(name) ?? 0;
    for (;;) {
      const bytes = readSync(file, this.#buffer, 0, READ_BYTES, position);
      const rows = Math.floor(bytes / ROW_BYTES);
      for (let i = 0; i < rows; i++) {
        const [at, timestamp, partition, id] = [0, 8, 16, 24].map((field) =>
          this.#buffer.readDoubleLE(i * ROW_BYTES + field),
        ) as [number, number, number, number];
        this.ids.add(id);
        if (this.firstAt === null || at < this.firstAt) this.firstAt = at;
        row({ pid, at, timestamp, partition, id });
      }
      position += rows * ROW_BYTES;
      if (bytes < READ_BYTES) break;
    }
    this.#positions.set(name, position);
    closeSync(file);
  }
}
