/**
 * Takes Flink's configuration keys over into the spec, so that everything behind this file knows
 * only spec fields. A key and a spec field that disagree are refused: either could be the one
 * that is meant.
 */
import { nearest } from './did-you-mean.ts';
import { formatDuration, parseDuration, parseFlinkDuration } from './duration.ts';
import type { Faults } from './fault.ts';
import { FLINK_FAMILIES } from './flink-families.ts';
import { FLINK_KEYS, type FlinkKey, type FlinkValue } from './flink-key-table.ts';
import { directoryUri } from './locations.ts';
import type { SchemaNode } from './schema-fields.ts';
import { fieldAt } from './schema-path.ts';
import { parseFlinkSize, parseSize } from './size.ts';
import { checkShape, isFields, show } from './validate.ts';

type Fields = Record<string, unknown>;
type Scalar = string | number | boolean;

const ROOT = 'spec.flinkConfiguration';

/** `spec` (already checked, no defaults yet) with the fields that its flinkConfiguration sets. */
export function applyFlinkKeys(spec: Fields, faults: Faults): Fields {
  const merged = structuredClone(spec);
  const configuration = merged['flinkConfiguration'];
  if (!isFields(configuration)) return merged;
  for (const [key, value] of flatten(configuration, '', faults)) {
    applyKey(merged, key, value, faults);
  }
  return merged;
}

/**
 * Nested and dotted notation alike as dotted keys; also mixed, such as `backend.type` in `state`.
 */
function* flatten(node: Fields, prefix: string, faults: Faults): Generator<[string, Scalar]> {
  for (const [name, value] of Object.entries(node)) {
    const key = prefix === '' ? name : `${prefix}.${name}`;
    if (isFields(value)) yield* flatten(value, key, faults);
    else if (isScalar(value)) yield [key, value];
    else if (Array.isArray(value) && value.every(isScalar)) yield [key, value.join(';')];
    else faults.add(`${ROOT}.${key}`, 'has no value: give one, or remove the line');
  }
}

const isScalar = (value: unknown): value is Scalar =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';

function applyKey(spec: Fields, key: string, value: Scalar, faults: Faults): void {
  const path = `${ROOT}.${key}`;
  const entry = FLINK_KEYS.get(key);
  if (!entry) {
    const family = FLINK_FAMILIES.some(
      ({ prefix }) => key === prefix || key.startsWith(`${prefix}.`),
    );
    if (!family) faults.add(path, `is not understood${suggestion(key)}`);
    return;
  }
  switch (entry.use) {
    case 'refused':
      faults.add(path, `is not used here: ${entry.doc}`);
      return;
    case 'fixed':
      if (entry.accepts.includes(String(value).trim().toLowerCase())) return;
      faults.add(path, `is ${show(value)}, must be ${entry.accepts[0]}: ${entry.doc}`);
      return;
    case 'none':
      readValue(entry.value, value, path, faults);
      return;
    case 'field':
      applyField(spec, entry, value, path, faults);
  }
}

function suggestion(key: string): string {
  const near = nearest(key, [...FLINK_KEYS.keys()]);
  return near === null
    ? ': remove it, the keys with an effect here are in flink-key-table.ts'
    : `: did you mean ${near}?`;
}

function applyField(
  spec: Fields,
  entry: FlinkKey & { use: 'field' },
  raw: Scalar,
  path: string,
  faults: Faults,
): void {
  const node = fieldAt(entry.to);
  const read = readValue(entry.value, raw, path, faults);
  const value = read === undefined ? undefined : translate(entry, read, node, path, faults);
  if (value === undefined) {
    faults.breakToo(entry.to);
    return;
  }
  if (faults.isBroken(entry.to)) return;
  const known = get(spec, entry.to);
  if (known === undefined) {
    set(spec, entry.to, value);
    faults.setOrigin(entry.to, path);
  } else if (canonical(node, known) !== canonical(node, value)) {
    const other = faults.nameOf(entry.to);
    const problem =
      other === path
        ? `is given twice, as ${show(known)} and ${show(raw)}: remove one`
        : `is ${show(raw)}, but ${other} is ${show(known)}: make them agree, or remove one`;
    faults.add(path, problem);
  }
}

/** The value as the spec writes it, within the spec field's own limits. */
function translate(
  entry: FlinkKey & { use: 'field' },
  value: Scalar,
  node: SchemaNode,
  path: string,
  faults: Faults,
): unknown {
  if (!entry.words) return checkShape(node, value, path, faults);
  const word = entry.words[String(value).toLowerCase()];
  if (word !== undefined) return word;
  const words = Object.keys(entry.words).join(', ');
  faults.add(path, `is ${show(value)}, must be one of ${words}: ${entry.doc}`);
  return undefined;
}

/** A Flink value in the spec's notation; undefined after a fault. */
function readValue(
  form: FlinkValue,
  raw: Scalar,
  path: string,
  faults: Faults,
): Scalar | undefined {
  const value = parseValue(form, raw);
  if (value !== null) return value;
  faults.add(path, `is ${show(raw)}, not ${FORMS[form]}`);
  return undefined;
}

const FORMS: Record<FlinkValue, string> = {
  duration: 'a duration: write one such as 60s, 10 min, or whole milliseconds',
  size: 'a size: write one such as 4g, 64mb, or whole bytes',
  integer: 'a whole number: write one without quotes or unit',
  number: 'a number: write one such as 0.4',
  boolean: 'true or false: write one of them',
  text: 'text: write a value',
};

function parseValue(form: FlinkValue, raw: Scalar): Scalar | null {
  const text = String(raw).trim();
  switch (form) {
    case 'duration': {
      const ms = typeof raw === 'boolean' ? null : parseFlinkDuration(raw);
      return ms === null ? null : formatDuration(ms);
    }
    case 'size': {
      const bytes = typeof raw === 'boolean' ? null : parseFlinkSize(raw);
      return bytes;
    }
    case 'integer':
      return /^-?\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
    case 'number':
      return /^-?(\d+([.]\d*)?|[.]\d+)([eE]-?\d+)?$/.test(text) ? Number(text) : null;
    case 'boolean':
      return /^(true|false)$/i.test(text) ? text.toLowerCase() === 'true' : null;
    case 'text':
      return text === '' ? null : text;
  }
}

/**
 * Equal for two values that mean the same: `60s` and `1m`, `4Gi` and 4294967296, `/a` and `/a/`.
 */
function canonical(node: SchemaNode, value: unknown): unknown {
  const text = String(value);
  switch (node.rule?.kind) {
    case 'duration':
      return parseDuration(text);
    case 'size':
      return parseSize(value as string | number);
    case 'location':
      return directoryUri(text, '/') ?? text;
    default:
      return value;
  }
}

function get(spec: Fields, path: string): unknown {
  let value: unknown = { spec };
  for (const key of path.split('.')) value = isFields(value) ? value[key] : undefined;
  return value;
}

function set(spec: Fields, path: string, value: unknown): void {
  const keys = path.split('.').slice(1);
  const last = keys.pop() ?? '';
  let parent = spec;
  for (const key of keys) {
    const next = parent[key];
    const child: Fields = isFields(next) ? next : {};
    parent[key] = child;
    parent = child;
  }
  parent[last] = value;
}
