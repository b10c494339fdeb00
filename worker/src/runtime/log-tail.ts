/**
 * The newest lines of a process's log, for who asks over REST: of the file that its starter writes
 * its output to (TRIGGERJOB_LOG_FILE), else of what its main thread logged, kept in memory.
 */
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Env } from './env.ts';

/** Of a file as of memory: what one answer holds at most. */
const TAIL_BYTES = 256 * 1024;

export interface LogText {
  name: string;
  /** Wall time of the newest line, ms. */
  modifiedAt: number;
  text: string;
}

export class LogTail {
  readonly #env: Env;
  readonly #name: string;
  readonly #file: string | null;
  readonly #lines: string[] = [];
  #bytes = 0;
  #modifiedAt: number;

  /** `file`: null = there is none. */
  constructor(env: Env, component: string, file: string | null) {
    this.#env = env;
    this.#name = file === null ? `${component}.log` : basename(file);
    this.#file = file;
    this.#modifiedAt = env.now();
  }

  /** One line with its end. */
  add(line: string): void {
    if (this.#file !== null) return;
    this.#modifiedAt = this.#env.now();
    this.#lines.push(line);
    this.#bytes += line.length;
    while (this.#bytes > TAIL_BYTES && this.#lines.length > 1) {
      this.#bytes -= this.#lines.shift()?.length ?? 0;
    }
  }

  /** Whole lines, at most `TAIL_BYTES` of them. Rejects when the file can't be read. */
  async read(): Promise<LogText> {
    const name = this.#name;
    if (this.#file === null) {
      return { name, modifiedAt: this.#modifiedAt, text: this.#lines.join('').slice(-TAIL_BYTES) };
    }
    const file = await open(this.#file, 'r');
    try {
      const { size, mtimeMs } = await file.stat();
      const from = Math.max(0, size - TAIL_BYTES);
      const buffer = Buffer.alloc(size - from);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
      const read = buffer.toString('utf8', 0, bytesRead);
      const text = from === 0 ? read : read.slice(read.indexOf('\n') + 1);
      return { name, modifiedAt: Math.round(mtimeMs), text };
    } finally {
      await file.close();
    }
  }
}
