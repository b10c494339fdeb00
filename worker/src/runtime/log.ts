/** Logs: pino, JSON lines on stdout, the component in each. */
import { type Logger, pino } from 'pino';

export function createLog(component: string, level = 'info'): Logger {
  return pino({ level, base: { component, pid: process.pid } });
}
