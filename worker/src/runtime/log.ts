/**
 * Logs: pino, JSON lines on stdout, readable ones on a terminal. Each bears its component and,
 * where they are known, job, TaskManager, subtask and attempt; `checkpointId` is a field of the
 * lines that are about one.
 */
import { isatty } from 'node:tty';
import { type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino';
import { type Env, realEnv } from './env.ts';
import { type Fields, LogGuard } from './log-guard.ts';
import type { LogTail } from './log-tail.ts';
import { readableLine } from './readable-log.ts';

const STDOUT = 1;

/** What all lines of one logger are about. */
export interface LogIds {
  /** `namespace/name`. */
  job?: string;
  taskManager?: string;
  subtask?: number;
  attempt?: number;
}

export interface LogSettings extends LogIds {
  level?: string;
  env?: Env;
  /** Keeps the newest lines, too. */
  tail?: LogTail;
  /** Default: stdout. */
  to?: DestinationStream;
}

export function createLog(component: string, settings: LogSettings = {}): Logger {
  const {
    level = 'info',
    env = realEnv,
    tail = null,
    to = standardOutput(tail),
    ...ids
  } = settings;
  const base = { component, pid: process.pid, ...ids };
  const options: LoggerOptions = { level, base, hooks: { logMethod: guarded(new LogGuard(env)) } };
  return to === null ? pino(options) : pino(options, to);
}

/**
 * JSON is for programs: a person who starts a role by hand sees lines. `tail` is given what a
 * program would get. null: as pino does.
 */
function standardOutput(tail: LogTail | null): DestinationStream | null {
  // A thread's process.stdout is no terminal, but its lines go to the same place.
  const readable = isatty(STDOUT) && process.env['TRIGGERJOB_LOG_FORMAT'] !== 'json';
  if (!readable && tail === null) return null;
  const color = (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
  const stdout = pino.destination({ fd: STDOUT, sync: true });
  return {
    write(line) {
      tail?.add(line);
      stdout.write(readable ? readableLine(line, color) : line);
    },
  };
}

type LogMethod = NonNullable<NonNullable<LoggerOptions['hooks']>['logMethod']>;

/** Calls have the forms `log.info(message)`, `log.info(fields)` and `log.info(fields, message)`. */
function guarded(guard: LogGuard): LogMethod {
  return function logMethod(args, method, level) {
    const given: unknown[] = args;
    const [first, second = ''] = typeof given[0] === 'string' ? [{}, given[0]] : given;
    const fields: Fields = first instanceof Error ? { err: first } : ((first ?? {}) as Fields);
    const tell = (more: Fields, message: string) => {
      method.call(this, more, message);
    };
    const line = guard.admit(level, fields, String(second), tell);
    if (line === null) return;
    if (line.message === '') method.call(this, line.fields);
    else method.call(this, line.fields, line.message);
  };
}
