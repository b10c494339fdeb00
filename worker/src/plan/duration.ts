/** Durations as users write them: `60s`, `1h30m`, `500ms`, and Flink's `10 min`, `60 s`. */

/** Milliseconds of each unit, by a pattern of its names. */
const UNITS: readonly (readonly [names: string, ms: number])[] = [
  ['ms|milli(s|seconds?)?', 1],
  ['s|sec(s|onds?)?', 1000],
  ['m|min(utes?)?', 60_000],
  ['h|hours?', 3_600_000],
  ['d|days?', 86_400_000],
];

/** The same rule for the API server, which knows no parser of ours. */
export const DURATION_PATTERN = `^(0|([0-9]+ ?(${UNITS.map(([names]) => names).join('|')}) ?)+)$`;

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
    total += Number(amount) * msOfUnit(unit ?? '');
  }
  return Number.isSafeInteger(total) ? total : null;
}

function msOfUnit(name: string): number {
  const known = UNITS.find(([names]) => new RegExp(`^(${names})$`).test(name));
  return known?.[1] ?? Number.NaN;
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
