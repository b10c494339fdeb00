/** Numbers as people read them. Every function answers `-` for what is not known. Pure. */

const UNKNOWN = '-';
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const COUNT_UNITS = ['', 'k', 'M', 'G', 'T'];

export type Known = number | null | undefined;

const isKnown = (value: Known): value is number =>
  typeof value === 'number' && Number.isFinite(value);

/** 1234567 -> `1,234,567`, whatever the browser's language; up to 3 decimals. */
export function exact(value: Known, unit = ''): string {
  if (!isKnown(value)) return 'not known';
  const [whole = '', decimals] = String(Math.round(value * 1000) / 1000).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  const number = decimals === undefined ? grouped : `${grouped}.${decimals}`;
  return unit === '' ? number : `${number} ${unit}`;
}

/** 3 digits at most before a unit: `950`, `12.3k`, `4.06M`. */
export function compact(value: Known): string {
  if (!isKnown(value)) return UNKNOWN;
  const [scaled, unit] = scale(value, 1000, COUNT_UNITS);
  return `${short(scaled, unit === '')}${unit}`;
}

export function bytes(value: Known): string {
  if (!isKnown(value) || value < 0) return UNKNOWN;
  const [scaled, unit] = scale(value, 1024, BYTE_UNITS);
  return `${short(scaled, unit === 'B')} ${unit}`;
}

/** Of a ratio 0..1. */
export function percent(ratio: Known): string {
  if (!isKnown(ratio)) return UNKNOWN;
  const value = ratio * 100;
  const digits = value > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} %`;
}

/** `850 ms`, `1.2 s`, `48 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`. */
export function duration(ms: Known): string {
  if (!isKnown(ms) || ms < 0) return UNKNOWN;
  if (ms < 1000) return ms > 0 && ms < 10 ? `${short(ms, false)} ms` : `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  const shown = parts.slice(first, first + 2).filter(([amount]) => amount > 0);
  return shown.map(([amount, unit]) => `${amount} ${unit}`).join(' ');
}

/** As a duration, in whole seconds: for what grows while one looks at it. */
export function age(ms: Known): string {
  if (!isKnown(ms) || ms < 0) return UNKNOWN;
  const seconds = Math.floor(ms / 1000);
  return seconds < 10 ? `${seconds} s` : duration(seconds * 1000);
}

export function ago(at: Known, now: number): string {
  if (!isKnown(at) || at <= 0) return 'never';
  return now - at < 1500 ? 'just now' : `${age(now - at)} ago`;
}

/** `2026-11-26 05:31:53.120`, in UTC: the same in every log and for every reader. */
export function timestamp(at: Known): string {
  if (!isKnown(at) || at <= 0) return UNKNOWN;
  return new Date(at).toISOString().replace('T', ' ').replace('Z', '');
}

/** `05:31:53`, UTC. */
export function clock(at: Known): string {
  return isKnown(at) && at > 0 ? new Date(at).toISOString().slice(11, 19) : UNKNOWN;
}

function scale(value: number, base: number, units: readonly string[]): [number, string] {
  let scaled = value;
  let unit = 0;
  // What would be rounded to a whole step of the next unit belongs there.
  while (Math.abs(scaled) >= base * 0.9995 && unit < units.length - 1) {
    scaled /= base;
    unit += 1;
  }
  return [scaled, units[unit] ?? ''];
}

function short(value: number, whole: boolean): string {
  const size = Math.abs(value);
  if (whole && Number.isInteger(value)) return String(value);
  if (size === 0) return '0';
  const digits = size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  return value
    .toFixed(digits)
    .replace(/(\.\d*?)0+$/, '$1')
    .replace(/\.$/, '');
}
