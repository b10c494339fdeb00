/** Order and equality, as Aviator has them. */
import {
  Dictionary,
  Double,
  Entry,
  Fault,
  isList,
  isNumeric,
  isPlainObject,
  List,
  Pattern,
  ScriptValue,
  SetValue,
  typeName,
  type Value,
} from './values.ts';

/** compare() of two values that have no order. */
const INCOMPARABLE = 2;
/** Elements one equality of two collections looks at. */
const MAX_COMPARED = 10_000;
/** Collections inside collections that equality follows: a list may hold itself. */
const MAX_COMPARED_DEPTH = 64;

interface Budget {
  left: number;
  depth: number;
}

function newBudget(): Budget {
  return { left: MAX_COMPARED, depth: 0 };
}

/** nil is below everything; unlike types have no order. */
export function order(a: Value, b: Value): number {
  if (a === null) return b === null ? 0 : -1;
  if (b === null) return 1;
  if (isNumeric(a) && isNumeric(b)) return orderNumbers(a, b);
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0;
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b);
  if (a instanceof Pattern && b instanceof Pattern) return order(a.source, b.source);
  return same(a, b) ? 0 : INCOMPARABLE;
}

/** As Java's Double.compare for doubles: NaN equals itself and is above all, -0.0 is below 0.0. */
function orderNumbers(a: number | Double, b: number | Double): number {
  if (typeof a === 'number' && typeof b === 'number') {
    if (a < b) return -1;
    if (a > b) return 1;
    if (!Number.isSafeInteger(a) && Number.isInteger(a)) failUnsafe();
    return 0;
  }
  const x = typeof a === 'number' ? a : a.value;
  const y = typeof b === 'number' ? b : b.value;
  if (x < y) return -1;
  if (x > y) return 1;
  if (x === y && x !== 0) return 0;
  const rank = (n: number): number => (Number.isNaN(n) ? 1 : Object.is(n, -0) ? -1 : 0);
  return rank(x) - rank(y);
}

export function failUnsafe(): never {
  throw new Fault('integer beyond 2^53-1: it lost digits when its JSON was read');
}

export function equal(a: Value, b: Value): boolean {
  if (a === b && typeof a !== 'number') return true;
  return order(a, b) === 0;
}

/** Throws when the two have no order; `==` uses equal(), which does not. */
export function compare(a: Value, b: Value, where: string): number {
  const result = order(a, b);
  if (result === INCOMPARABLE) {
    throw new Fault(`cannot compare ${typeName(a)} with ${typeName(b)} at ${where}`);
  }
  return result;
}

/**
 * Java's equals: element by element, 1 and 1.0 differ. Tuples, as Java arrays, equal only
 * themselves.
 */
export function same(a: Value, b: Value, budget = newBudget()): boolean {
  if (--budget.left < 0) throw new Fault(`more than ${MAX_COMPARED} elements to compare`);
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (++budget.depth > MAX_COMPARED_DEPTH)
    throw new Fault('collections nested too deep to compare');
  const result = sameObjects(a, b, budget);
  budget.depth--;
  return result;
}

function sameObjects(a: Value, b: Value, budget: Budget): boolean {
  if (a instanceof Double) return b instanceof Double && Object.is(a.value, b.value);
  if (a instanceof Entry) return b instanceof Entry && samePair(a, b, budget);
  if (a instanceof SetValue) return b instanceof SetValue && sameSet(a, b);
  const left = elements(a);
  const right = elements(b);
  if (left !== null || right !== null) {
    if (left === null || right === null || left.length !== right.length) return false;
    return left.every((item, i) => same(item, right[i] ?? null, budget));
  }
  return isMap(a) && isMap(b) && sameMap(a, b, budget);
}

function samePair(a: Entry, b: Entry, budget: Budget): boolean {
  return same(a.key, b.key, budget) && same(a.value, b.value, budget);
}

function elements(value: Value): readonly Value[] | null {
  if (isList(value)) return value;
  return value instanceof List && !value.fixed ? value.items : null;
}

function isMap(value: Value): boolean {
  return value instanceof Dictionary || isPlainObject(value);
}

function sameSet(a: SetValue, b: SetValue): boolean {
  return a.items.size === b.items.size && [...a.items.keys()].every((key) => b.items.has(key));
}

function sameMap(a: Value, b: Value, budget: Budget): boolean {
  const left = pairs(a);
  const right = new Map(pairs(b));
  return (
    left.length === right.size &&
    left.every(([key, value]) => right.has(key) && same(value, right.get(key) ?? null, budget))
  );
}

function pairs(map: Value): [unknown, Value][] {
  if (map instanceof Dictionary) return [...map.entries].map(([key, entry]) => [key, entry.value]);
  if (map instanceof ScriptValue || !isPlainObject(map)) return [];
  return Object.entries(map);
}
