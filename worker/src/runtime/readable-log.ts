/** A log line for a person: time, level, who, what, and what it is about. Pure. */
import { isJsonObject, type JsonObject } from './json.ts';

const LEVELS: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
};
const LEVEL_COLORS: Readonly<Record<number, number>> = { 40: 33, 50: 31, 60: 31 };
const LEVEL_WIDTH = 5;
/** Told at the line's begin, or known to who looks at this terminal. */
const ELSEWHERE = new Set(['level', 'time', 'component', 'msg', 'pid', 'job', 'hostname']);

/** `line`: of pino. A line that is no JSON object is given back as it is. */
export function readableLine(line: string, color: boolean): string {
  const entry = parsed(line);
  if (entry === null) return line;
  const { level, time, component, msg } = entry;
  const number = Number(level);
  const paint = (code: number | undefined, text: string) =>
    color && code !== undefined ? `\u001b[${code}m${text}\u001b[0m` : text;
  const at = new Date(Number(time)).toISOString().slice(11, 23);
  const word = (LEVELS[number] ?? String(number)).padEnd(LEVEL_WIDTH);
  const fields = Object.entries(entry)
    .filter(([name]) => !ELSEWHERE.has(name))
    .map(([name, value]) => `${name}=${shown(name, value)}`);
  const head = [
    paint(2, at),
    paint(LEVEL_COLORS[number], word),
    String(component ?? ''),
    ...(typeof msg === 'string' ? [msg] : []),
  ];
  return `${[...head, ...(fields.length > 0 ? [paint(2, fields.join(' '))] : [])].join(' ')}\n`;
}

function parsed(line: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(line);
    return isJsonObject(value) && typeof value['level'] === 'number' ? value : null;
  } catch {
    return null;
  }
}

function shown(name: string, value: unknown): string {
  // A stack in one line of escapes helps nobody.
  if (name === 'err' && isJsonObject(value) && typeof value['stack'] === 'string') {
    return `\n${value['stack']}`;
  }
  return typeof value === 'string' && !/\s/.test(value) ? value : JSON.stringify(value);
}
