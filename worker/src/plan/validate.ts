/**
 * Checks a value against the schema, field by field, and keeps what is valid. An own walk and not
 * TypeBox's errors: those say "must not have additional properties" where a user needs the name,
 * the nearest known one and an example. validate.test.ts holds the two to the same verdict.
 */
import { nearest } from './did-you-mean.ts';
import type { Faults } from './fault.ts';
import { scalarProblem } from './scalar-rules.ts';
import type { SchemaNode } from './schema-fields.ts';

type Fields = Record<string, unknown>;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const joinPath = (path: string, key: string): string =>
  path === '' ? key : `${path}.${key}`;

const MAX_SHOWN = 60;

/** A value as a message shows it: JSON, cut. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
}

/** The valid part of `value`; undefined when nothing of it is. Adds a fault for each other part. */
export function checkShape(
  node: SchemaNode,
  value: unknown,
  path: string,
  faults: Faults,
): unknown {
  if (value === null) {
    const empty = node.type === 'object' && (node.required ?? []).length === 0 ? '{}' : 'a value';
    faults.add(path, `is empty: write ${empty} after it, or remove the line`);
    return undefined;
  }
  if (node.type === 'object') return checkObject(node, value, path, faults);
  if (node.type === 'array') return checkArray(node, value, path, faults);
  const problem = scalarFault(node, value);
  if (problem === null) return value;
  faults.add(path, problem);
  return undefined;
}

function checkObject(node: SchemaNode, value: unknown, path: string, faults: Faults): unknown {
  if (!isFields(value)) {
    faults.add(path, `must be a map of fields, not ${show(value)}`);
    return undefined;
  }
  if (node.patternProperties) return checkRecord(node, value, path, faults);
  if (!node.properties) return value;
  const properties = node.properties;
  const valid: Fields = {};
  for (const [key, child] of Object.entries(value)) {
    const known = Object.hasOwn(properties, key) ? properties[key] : undefined;
    const childPath = joinPath(path, key);
    if (!known) faults.add(childPath, `is not a known field${suggestion(key, path, properties)}`);
    else if (child !== undefined) {
      const checked = checkShape(known, child, childPath, faults);
      if (checked !== undefined) valid[key] = checked;
    }
  }
  for (const key of node.required ?? []) {
    if (value[key] === undefined) faults.add(joinPath(path, key), missing(key, properties[key]));
  }
  if (node.exactlyOne) checkExactlyOne(node.exactlyOne, value, path, faults);
  return valid;
}

function suggestion(key: string, path: string, properties: Record<string, SchemaNode>): string {
  const known = Object.keys(properties);
  const near = nearest(key, known);
  if (near !== null) return `: did you mean ${joinPath(path, near)}?`;
  if (known.length === 0) return ': it takes no fields';
  const deeper = [...pathsTo(key, properties, path)];
  if (deeper.length > 0) return `: did you mean ${deeper.join(' or ')}?`;
  const own = known.filter((name) => !isServerField(properties[name]));
  return `: remove it; known here: ${own.join(', ')}`;
}

/** Fields of that very name further down: `spec.ttl` is meant to be `spec.state.ttl`. */
function* pathsTo(
  key: string,
  properties: Record<string, SchemaNode>,
  path: string,
): Generator<string> {
  for (const [name, node] of Object.entries(properties)) {
    const childPath = joinPath(path, name);
    if (name === key) yield childPath;
    if (node.properties) yield* pathsTo(key, node.properties, childPath);
  }
}

/** Fields without a form, which only the API server writes, are no help in a list of choices. */
const isServerField = (node: SchemaNode | undefined): boolean =>
  node?.type === undefined && node?.rule === undefined && node?.enum === undefined;

function missing(key: string, node: SchemaNode | undefined): string {
  if (node?.exactlyOne) return `is missing: give exactly one of ${node.exactlyOne.join(', ')}`;
  const example = node?.enum?.length === 1 ? node.enum[0] : node?.examples?.[0];
  if (example === undefined) return 'is missing: add it';
  return `is missing: add it, for example ${key}: ${show(example).replaceAll('"', '')}`;
}

function checkExactlyOne(keys: string[], value: Fields, path: string, faults: Faults): void {
  const given = keys.filter((key) => value[key] !== undefined);
  if (given.length === 1) return;
  const had = given.length === 0 ? 'none of them' : given.join(' and ');
  faults.add(path, `must have exactly one of ${keys.join(', ')}; it has ${had}`);
}

function checkRecord(node: SchemaNode, value: Fields, path: string, faults: Faults): unknown {
  const [[pattern, child] = ['']] = Object.entries(node.patternProperties ?? {});
  if (node.maxProperties !== undefined && Object.keys(value).length > node.maxProperties) {
    faults.add(path, `has ${Object.keys(value).length} entries: at most ${node.maxProperties}`);
    return undefined;
  }
  // A null prototype, so that an entry named __proto__ stays an entry.
  const valid: Fields = Object.create(null);
  const names = node.keys === undefined ? null : new RegExp(pattern);
  for (const [key, entry] of Object.entries(value)) {
    if (names?.test(key) === false) {
      faults.add(joinPath(path, key), `is no valid key: write ${node.keys}`);
      continue;
    }
    const checked = child && checkShape(child, entry, joinPath(path, key), faults);
    if (checked !== undefined) valid[key] = checked;
  }
  return valid;
}

function checkArray(node: SchemaNode, value: unknown, path: string, faults: Faults): unknown {
  if (!Array.isArray(value)) {
    faults.add(path, `must be a list, not ${show(value)}: write [${show(value)}]`);
    return undefined;
  }
  const { minItems = 0, maxItems = Number.POSITIVE_INFINITY, items } = node;
  if (value.length < minItems || value.length > maxItems) {
    faults.add(path, `has ${value.length} entries: write ${minItems} to ${maxItems}`);
    return undefined;
  }
  const valid = value.map(
    (entry, index) => items && checkShape(items, entry, `${path}[${index}]`, faults),
  );
  if (node.uniqueBy) checkUnique(node.uniqueBy, valid, path, faults);
  return valid.includes(undefined) ? undefined : valid;
}

/** Entries without the field are faults by themselves. */
function checkUnique(key: string, entries: unknown[], path: string, faults: Faults): void {
  const seen = new Set<unknown>();
  for (const [index, entry] of entries.entries()) {
    const name = isFields(entry) ? entry[key] : undefined;
    if (name === undefined) continue;
    if (seen.has(name)) {
      faults.add(`${path}[${index}].${key}`, `is ${show(name)}, which is listed before: remove it`);
    }
    seen.add(name);
  }
}

/** What is wrong with a scalar, as the end of a sentence that begins with its name; or null. */
function scalarFault(node: SchemaNode, value: unknown): string | null {
  if (node.enum) return enumFault(node, node.enum, value);
  if (node.type === 'boolean') {
    return typeof value === 'boolean' ? null : `must be true or false, not ${show(value)}`;
  }
  if (node.type === 'integer' || node.type === 'number') return numberFault(node, value);
  if (node.type === 'string') return textFault(node, value);
  if (!node.rule) return null;
  if (typeof value === 'string' || Number.isSafeInteger(value)) {
    return scalarProblem(node.rule, value as string | number);
  }
  return `must be text or a whole number, not ${show(value)}${exampleOf(node)}`;
}

const exampleOf = (node: SchemaNode): string =>
  node.examples?.[0] === undefined ? '' : `; for example ${show(node.examples[0])}`;

const because = (node: SchemaNode): string => (node.reason === undefined ? '' : `: ${node.reason}`);

function enumFault(node: SchemaNode, values: (string | number)[], value: unknown): string | null {
  if (values.includes(value as string | number)) return null;
  if (values.length === 1) return `is ${show(value)}, must be ${values[0]}${because(node)}`;
  const near = typeof value === 'string' ? nearest(value, values.map(String)) : null;
  const hint = near === null ? '' : `; did you mean ${near}?`;
  return `is ${show(value)}, must be one of ${values.join(', ')}${hint}${because(node)}`;
}

function numberFault(node: SchemaNode, value: unknown): string | null {
  const whole = node.type === 'integer';
  const fits = typeof value === 'number' && (whole ? Number.isSafeInteger(value) : true);
  if (!fits || !Number.isFinite(value)) {
    return `must be a ${whole ? 'whole ' : ''}number, not ${show(value)}${exampleOf(node)}`;
  }
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node;
  const low = value < (minimum ?? -Infinity) || value <= (exclusiveMinimum ?? -Infinity);
  const high = value > (maximum ?? Infinity) || value >= (exclusiveMaximum ?? Infinity);
  if (!low && !high) return null;
  if (minimum !== undefined && minimum === maximum) {
    return `is ${value}, must be ${minimum}${because(node)}`;
  }
  const range =
    exclusiveMinimum === undefined
      ? `${minimum} to ${maximum}`
      : `more than ${exclusiveMinimum} and less than ${exclusiveMaximum}`;
  return `is ${value}, must be ${range}${because(node)}`;
}

function textFault(node: SchemaNode, value: unknown): string | null {
  if (typeof value !== 'string') {
    const number = typeof value === 'number' || typeof value === 'boolean';
    const fix = number && node.rule?.kind !== 'duration' ? ': put it in quotes' : exampleOf(node);
    return `must be text, not ${show(value)}${fix}`;
  }
  if (value.length < (node.minLength ?? 0)) return `is empty: give a value${exampleOf(node)}`;
  if (value.length > (node.maxLength ?? Number.POSITIVE_INFINITY)) {
    return `has ${value.length} characters, at most ${node.maxLength}${because(node)}`;
  }
  if (node.pattern !== undefined && !new RegExp(node.pattern).test(value)) {
    return `is ${show(value)}${because(node)}${exampleOf(node)}`;
  }
  return node.rule ? scalarProblem(node.rule, value) : null;
}
