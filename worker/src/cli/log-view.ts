/**
 * The logs of a local run: every line of a child goes to its bounded file, warnings and errors also
 * to the terminal, each message at most once per few seconds however often it is logged.
 */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';
import type { Env } from '../runtime/env.ts';
import { isJsonObject } from '../runtime/json.ts';
import type { Terminal } from './terminal.ts';

/** pino's numeric levels. */
const WARN_LEVEL = 40;
export const ERROR_LEVEL = 50;

/** A file is moved to `<name>.1` beyond this; so a run keeps at most twice as much per child. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const REPEAT_AFTER_MS = 10_000;
/** Distinct messages remembered against repetition. */
const MAX_REMEMBERED = 200;

export class LogFile {
  readonly #path: string;
  #file: number;
  #closed = false;
  #bytes: number;

  constructor(path: string) {
    this.#path = path;
    this.#file = openSync(path, 'a');
    this.#bytes = fstatSync(this.#file).size;
  }

  write(line: string): void {
    this.#bytes += writeSync(this.#file, `${line}\n`);
    if (this.#bytes < MAX_LOG_BYTES) return;
    closeSync(this.#file);
    renameSync(this.#path, `${this.#path}.1`);
    this.#file = openSync(this.#path, 'a');
    this.#bytes = 0;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
  }
}

export interface LogEntry {
  level: number;
  message: string;
}

/** The entry of a pino line; null for any other text. */
export function parseLogLine(line: string): LogEntry | null {
  if (!line.startsWith('{"level":')) return null;
  try {
    const value: unknown = JSON.parse(line);
    if (!isJsonObject(value) || typeof value['level'] !== 'number') return null;
    const error = value['err'] ?? value['error'];
    const cause = isJsonObject(error ?? null) ? (error as { message?: unknown }).message : error;
    const message = typeof value['msg'] === 'string' ? value['msg'] : '';
    const told = typeof cause === 'string' && cause !== '' && !message.includes(cause);
    const text = told ? `${message}: ${cause}` : message;
    const { level, suppressed } = value;
    const more = typeof suppressed === 'number' ? ` (and ${suppressed} more like it)` : '';
    return { level, message: `${text}${more}` };
  } catch {
    return null;
  }
}

export class LogView {
  readonly #terminal: Terminal;
  readonly #env: Env;
  readonly #shown = new Map<string, { at: number; held: number }>();

  constructor(terminal: Terminal, env: Env) {
    this.#terminal = terminal;
    this.#env = env;
  }

  show(process: string, entry: LogEntry): void {
    if (entry.level < WARN_LEVEL) return;
    const key = `${process} ${entry.message}`;
    const now = this.#env.monotonic();
    const before = this.#shown.get(key);
    if (before !== undefined && now - before.at < REPEAT_AFTER_MS) {
      before.held += 1;
      return;
    }
    if (this.#shown.size >= MAX_REMEMBERED) this.#shown.clear();
    this.#shown.set(key, { at: now, held: 0 });
    const again =
      before !== undefined && before.held > 0 ? ` (and ${before.held} times before)` : '';
    const label =
      entry.level >= ERROR_LEVEL
        ? this.#terminal.paint('red', 'error')
        : this.#terminal.paint('yellow', 'warning');
    this.#terminal.error(`${label} ${process}: ${entry.message}${again}`);
  }
}
