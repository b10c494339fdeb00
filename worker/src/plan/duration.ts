/** Durations as users write them: `60s`, `1h30m`, `500ms`, and Flink's `10 min`, `60 s`. */

const UNITS_MS: ReadonlyMap<string, number> = new Map([
  ...units(1, ['ms', 'milli', 'millis', 'millisecond', 'milliseconds']),
  ...units(1000, ['s', 'sec', 'secs', 'second', 'seconds']),
  ...units(60_000, ['m', 'min', 'minute', 'minutes']),
  ...units(3_600_000, ['h', 'hour', 'hours']),
  ...units(86_400_000, ['d', 'day', 'days']),
]);

function units(ms: number, names: string[]): [string, number][] {
  return names.map((name) => [name, ms]);
}

/** The same rule for the API server, which knows no parser of ours. */
export const DURATION_PATTERN = `^(0|([0-9]+ ?(${[...UNITS_MS.keys()].join('|')}) ?)+)$`;

export const DURATION_FORM = 'a whole number with ms, s, m, h or d, such as 500ms, 60s or 1h30m';

/**
 * Timers of Node hold 2^31 - 1 ms and fire at once beyond that, so no duration that may drive a
 * timer may be longer.
 */
export const MAX_TIMER_MS = 2_147_483_647;

const WHOLE = new RegExp(DURATION_PATTERN);
const PART = /([0-9]+) ?([a-z]+)/g;

/**
 * Milliseconds, or null for anything that is not a duration. A bare number other than 0 has no
 * unit.
 */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (!WHOLE.test(trimmed)) return null;
  let total = 0;
  for (const [, amount, unit] of trimmed.matchAll(PART)) {
    total += Number(amount) * (UNITS_MS.get(unit ?? '') ?? Number.NaN);
  }
  return Number.isSafeInteger(total) ? total : null;
}

/** Flink's reading: as above, and a bare number counts milliseconds. */
export function parseFlinkDuration(value: string | number): number | null {
  const text = String(value).trim();
  if (!/^[0-9]+$/.test(text)) return parseDuration(text);
  return Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

const SHOWN: readonly [string, number][] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
];

/** The shortest exact text, for messages and for values taken over from Flink keys. */
export function formatDuration(ms: number): string {
  const [unit, size] = SHOWN.find(([, bytes]) => ms >= bytes && ms % bytes === 0) ?? ['ms', 1];
  return `${ms / size}${unit}`;
}
