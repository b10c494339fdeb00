/** Reads what the TaskManager of flink/ writes of its progress: see Progress.java. */
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';

export interface ProgressRow {
  at: number;
  processed: number;
  misses: number;
  anomalies: number;
  /** Checkpointed, as the next two. */
  counted: number;
  fired: number;
  firedSum: number;
  /** Of each partition, of the newest handled record; -1: none. */
  timestamps: number[];
}

const FIXED_NUMBERS = 7;
const READ_BYTES = 64 * 1024;

export class ProgressFile {
  readonly #path: string;
  #position = 0;
  #rest = '';
  first: ProgressRow | null = null;
  last: ProgressRow | null = null;

  constructor(folder: string, pid: number) {
    this.#path = join(folder, `${pid}.progress`);
  }

  /** Gives each new line to `row`. */
  read(row: (row: ProgressRow) => void = () => undefined): void {
    if (!existsSync(this.#path)) return;
    const file = openSync(this.#path, 'r');
    const buffer = Buffer.alloc(READ_BYTES);
    for (let bytes = READ_BYTES; bytes === READ_BYTES; ) {
      bytes = readSync(file, buffer, 0, READ_BYTES, this.#position);
      this.#position += bytes;
      this.#rest += buffer.toString('latin1', 0, bytes);
    }
    closeSync(file);
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const parsed = parse(line);
      if (parsed.processed > 0) this.first ??= parsed;
      this.last = parsed;
      row(parsed);
    }
  }
}

function parse(line: string): ProgressRow {
  const numbers = line.split(' ').map(Number);
  const [at, processed, misses, anomalies, counted, fired, firedSum] = numbers as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const timestamps = numbers.slice(FIXED_NUMBERS);
  return { at, processed, misses, anomalies, counted, fired, firedSum, timestamps };
}
