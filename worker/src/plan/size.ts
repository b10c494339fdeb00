/**
 * Byte sizes as users write them: Kubernetes quantities in the spec, Flink's sizes in Flink keys.
 */

const QUANTITY_UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['k', 1000],
  ['M', 1000 ** 2],
  ['G', 1000 ** 3],
  ['T', 1000 ** 4],
  ['Ki', 1024],
  ['Mi', 1024 ** 2],
  ['Gi', 1024 ** 3],
  ['Ti', 1024 ** 4],
]);

const FLINK_UNITS: ReadonlyMap<string, number> = new Map([
  ...flinkUnits(1, ['', 'b', 'bytes']),
  ...flinkUnits(1024, ['k', 'kb', 'ki', 'kib', 'kibibytes']),
  ...flinkUnits(1024 ** 2, ['m', 'mb', 'mi', 'mib', 'mebibytes']),
  ...flinkUnits(1024 ** 3, ['g', 'gb', 'gi', 'gib', 'gibibytes']),
  ...flinkUnits(1024 ** 4, ['t', 'tb', 'ti', 'tib', 'tebibytes']),
]);

function flinkUnits(bytes: number, names: string[]): [string, number][] {
  return names.map((name) => [name, bytes]);
}

export const SIZE_PATTERN = '^[0-9]+([.][0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$';

export const SIZE_FORM = 'bytes with Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000), such as 16Mi';

const QUANTITY = new RegExp(SIZE_PATTERN);
const NUMBER_AND_UNIT = /^([0-9]+(?:[.][0-9]+)?) *([A-Za-z]*)$/;

function parseWith(
  unitsByName: ReadonlyMap<string, number>,
  text: string,
  unitName: (written: string) => string,
): number | null {
  const match = NUMBER_AND_UNIT.exec(text.trim());
  const unit = unitsByName.get(unitName(match?.[2] ?? ''));
  if (match === null || unit === undefined) return null;
  const bytes = Math.floor(Number(match[1]) * unit);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/**
 * Bytes of a Kubernetes quantity (`16Mi`, `100M`, `1.5Gi`, a bare number), or null. Flink's `4g` is
 * refused here: the text goes to Kubernetes as it is, which knows no `g`.
 */
export function parseSize(value: string | number): number | null {
  const text = String(value);
  return QUANTITY.test(text) ? parseWith(QUANTITY_UNITS, text, (unit) => unit) : null;
}

/**
 * Bytes of Flink's notation (`4g`, `64mb`, `1024`), always powers of 1024, case ignored; or null.
 */
export function parseFlinkSize(value: string | number): number | null {
  return parseWith(FLINK_UNITS, String(value), (unit) => unit.toLowerCase());
}

const SHOWN: readonly [string, number][] = [
  ['Ti', 1024 ** 4],
  ['Gi', 1024 ** 3],
  ['Mi', 1024 ** 2],
  ['Ki', 1024],
];

/** Readable text for messages: exact where a unit divides it, else rounded to a tenth. */
export function formatSize(bytes: number): string {
  const exact = SHOWN.find(([, size]) => bytes >= size && bytes % size === 0);
  if (exact) return `${bytes / exact[1]}${exact[0]}`;
  const near = SHOWN.find(([, size]) => bytes >= size);
  return near ? `${(bytes / near[1]).toFixed(1)}${near[0]}` : `${bytes}`;
}
