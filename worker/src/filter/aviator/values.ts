/**
 * What a script computes with. JSON is used as it is: a whole number is a long, any other number a
 * double. A double that happens to be whole is boxed (`Double`), or 6.0/4 would divide as integers.
 * Event data is never written to: collections a script may change are classes of their own.
 */
import type { JsonObject, JsonValue } from '../../runtime/json.ts';
import type { Frame } from './frame.ts';
import type { CompiledPattern } from './regex.ts';

/**
 * Base of all values that no JSON holds; also what keeps property access away from their fields.
 */
export abstract class ScriptValue {
  abstract readonly type: string;
}

export class Double extends ScriptValue {
  readonly type = 'double';
  readonly value: number;
  constructor(value: number) {
    super();
    this.value = value;
  }
}

export class List extends ScriptValue {
  readonly type = 'list';
  readonly items: Value[];
  /** A tuple: elements may be replaced, never added or removed. */
  readonly fixed: boolean;
  constructor(items: Value[], fixed = false) {
    super();
    this.items = items;
    this.fixed = fixed;
  }
}

export class Entry extends ScriptValue {
  readonly type = 'entry';
  readonly key: Value;
  readonly value: Value;
  constructor(key: Value, value: Value) {
    super();
    this.key = key;
    this.value = value;
  }
}

/** Keys compare as in Java: 1 and 1.0 are two keys. */
export class Dictionary extends ScriptValue {
  readonly type = 'map';
  readonly entries = new Map<unknown, Entry>();
}

export class SetValue extends ScriptValue {
  readonly type = 'set';
  readonly items = new Map<unknown, Value>();
}

/**
 * From `start` below (or, with a negative step, above) `end`; elements are made while iterating.
 */
export class Range extends ScriptValue {
  readonly type = 'range';
  readonly start: Value;
  readonly end: Value;
  readonly step: Value;
  constructor(start: Value, end: Value, step: Value) {
    super();
    this.start = start;
    this.end = end;
    this.step = step;
  }
}

export class Pattern extends ScriptValue {
  readonly type = 'pattern';
  readonly source: string;
  readonly compiled: CompiledPattern;
  constructor(source: string, compiled: CompiledPattern) {
    super();
    this.source = source;
    this.compiled = compiled;
  }
}

export type Invoke = (frame: Frame, args: readonly Value[]) => Value;

export class FunctionValue extends ScriptValue {
  readonly type = 'function';
  readonly name: string;
  readonly invoke: Invoke;
  /** Turns sort's comparator apart from a predicate; null for ordinary functions. */
  readonly ordering: Invoke | null;
  constructor(name: string, invoke: Invoke, ordering: Invoke | null = null) {
    super();
    this.name = name;
    this.invoke = invoke;
    this.ordering = ordering;
  }
}

export type Value = JsonValue | readonly JsonValue[] | ScriptValue;

/**
 * A run-time error of a script. Not an Error: it is common, and a stack trace would cost
 * microseconds.
 */
export class Fault {
  /** Stable: names types and places, never the user's data. */
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

export function isList(value: Value): value is readonly JsonValue[] {
  return Array.isArray(value);
}

export function isPlainObject(value: Value): value is JsonObject {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof ScriptValue)
  );
}

export function isNumeric(value: Value): value is number | Double {
  return typeof value === 'number' || value instanceof Double;
}

/** Own properties only: `constructor` or `__proto__` of an event is nil unless the event has it. */
export function property(value: Value, name: string): Value {
  if (typeof value !== 'object' || value === null) return null;
  if (value instanceof ScriptValue) return scriptProperty(value, name);
  if (Array.isArray(value) || !Object.hasOwn(value, name)) return null;
  return (value as JsonObject)[name] ?? null;
}

function scriptProperty(value: ScriptValue, name: string): Value {
  if (value instanceof Dictionary) return value.entries.get(name)?.value ?? null;
  if (value instanceof Entry && name === 'key') return value.key;
  if (value instanceof Entry && name === 'value') return value.value;
  return null;
}

export function typeName(value: Value): string {
  if (value === null) return 'nil';
  if (typeof value === 'number') return Number.isInteger(value) ? 'long' : 'double';
  if (typeof value === 'string' || typeof value === 'boolean') return typeof value;
  if (value instanceof ScriptValue) return value.type;
  return Array.isArray(value) ? 'list' : 'map';
}

/** The key under which a value stands in a map or set. Collections are no keys. */
export function keyOf(value: Value): unknown {
  if (value instanceof Double) return `\0double:${value.value}`;
  if (value instanceof ScriptValue || (typeof value === 'object' && value !== null)) {
    throw new Fault(`a ${typeName(value)} cannot be a key or an element of a set`);
  }
  return value;
}
