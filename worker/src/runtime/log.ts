/** Logs: pino, JSON lines on stdout, the component in each. */
import { type DestinationStream, type Logger, pino } from 'pino';
import type { LogTail } from './log-tail.ts';

export function createLog(component: string, level = 'info', tail: LogTail | null = null): Logger {
  const options = { level, base: { component, pid: process.pid } };
  return tail === null ? pino(options) : pino(options, keptIn(tail));
}

/** To stdout, and kept. */
export function keptIn(tail: LogTail): DestinationStream {
  const stdout = pino.destination({ fd: 1, sync: true });
  return {
    write(line) {
      tail.add(line);
      stdout.write(line);
    },
  };
}
