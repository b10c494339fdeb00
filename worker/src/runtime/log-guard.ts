/**
 * What stands between a log call and its line: credentials and users' data are taken out, and a
 * message that is said again and again is counted instead. A fault at each of 100,000 events a
 * second would fill the disk and hide every other line.
 */
import type { Env } from './env.ts';
import { isCredential, REDACTED, redactedText } from './redaction.ts';

/** Lines of one message, about one thing, within a window; then they are counted. */
const MAX_REPEATS = 20;
const WINDOW_MS = 10_000;
/** Messages that are watched at a time; beyond it, all begin a new window. */
const MAX_MESSAGES = 500;
/** pino's levels: below, nobody asked for less; above, the process ends. */
const LIMITED_FROM = 30;
const LIMITED_TO = 50;
const MAX_DEPTH = 6;
const MAX_TEXT = 8 * 1024;

/** Fields with what users did or are: never in a log, whatever they hold. */
const USER_DATA = new Set(['event', 'profile', 'visit', 'history', 'body', 'raw', 'payload']);
/** The same message about another one of these is another message. */
const ABOUT = ['taskManager', 'subtask', 'peer', 'checkpointId', 'location'];

export type Fields = Record<string, unknown>;

interface Window {
  since: number;
  lines: number;
  suppressed: number;
}

export class LogGuard {
  readonly #env: Env;
  readonly #windows = new Map<string, Window>();

  constructor(env: Env) {
    this.#env = env;
  }

  /**
   * null: one too many, only counted. The count goes into the field `suppressed` of the next line
   * of that message, or into one of its own at the end of the window (`tell`).
   */
  admit(
    level: number,
    fields: Fields,
    message: string,
    tell: (fields: Fields, message: string) => void,
  ): { fields: Fields; message: string } | null {
    const text = redactedText(message);
    const suppressed = this.#count(level, fields, text, tell);
    if (suppressed === null) return null;
    const shown = redactedFields(fields);
    return { fields: suppressed === 0 ? shown : { ...shown, suppressed }, message: text };
  }

  /** How many were left out before; null: leave this out, too. */
  #count(
    level: number,
    fields: Fields,
    message: string,
    tell: (fields: Fields, message: string) => void,
  ): number | null {
    if (level < LIMITED_FROM || level > LIMITED_TO || message === '') return 0;
    const key = [level, message, ...ABOUT.map((name) => String(fields[name] ?? ''))].join('|');
    const now = this.#env.monotonic();
    let window = this.#windows.get(key);
    if (window === undefined || now - window.since >= WINDOW_MS) {
      const suppressed = window?.suppressed ?? 0;
      if (this.#windows.size >= MAX_MESSAGES) this.#windows.clear();
      window = { since: now, lines: 1, suppressed: 0 };
      this.#windows.set(key, window);
      return suppressed;
    }
    if (window.lines < MAX_REPEATS) {
      window.lines++;
      return 0;
    }
    if (window.suppressed++ === 0) this.#tellLater(window, message, tell);
    return null;
  }

  #tellLater(
    window: Window,
    message: string,
    tell: (fields: Fields, message: string) => void,
  ): void {
    const leftMs = window.since + WINDOW_MS - this.#env.monotonic();
    this.#env.timer(Math.max(0, leftMs), () => {
      const { suppressed } = window;
      window.suppressed = 0;
      if (suppressed > 0) tell({ suppressed }, message);
    });
  }
}

/** A copy without credentials and users' data; an Error keeps what pino shows of it. */
function redactedFields(fields: Fields): Fields {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, shown(name, value, 0)]),
  );
}

function shown(name: string, value: unknown, depth: number): unknown {
  if (USER_DATA.has(name)) return '[user data]';
  if (isCredential(name)) return REDACTED;
  if (typeof value === 'string') {
    const text = value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}...` : value;
    return redactedText(text);
  }
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= MAX_DEPTH) return '[deep]';
  if (value instanceof Error) return errorFields(value, depth);
  if (Buffer.isBuffer(value) || ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (Array.isArray(value)) return value.map((one) => shown('', one, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [key, shown(key, one, depth + 1)]),
  );
}

/** The fields of pino's own serializer. */
function errorFields(error: Error, depth: number): Fields {
  const { name: type, message, stack = '', cause } = error;
  const code: unknown = 'code' in error ? error.code : undefined;
  return {
    type,
    message: redactedText(message),
    stack: redactedText(stack),
    ...(code !== undefined && { code }),
    ...(cause !== undefined && { cause: shown('cause', cause, depth + 1) }),
  };
}
