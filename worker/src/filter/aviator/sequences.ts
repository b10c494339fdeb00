/** Iteration over everything Aviator calls a sequence. */
import { add, numberOf } from './arithmetic.ts';
import { order } from './compare.ts';
import type { Frame } from './frame.ts';
import {
  Dictionary,
  type Double,
  Entry,
  Fault,
  isList,
  isPlainObject,
  List,
  Range,
  SetValue,
  typeName,
  type Value,
} from './values.ts';

/**
 * Calls `visit` for each element, charging a step, until it answers false. nil is an empty
 * sequence.
 */
export function forEach(
  frame: Frame,
  over: Value,
  what: string,
  visit: (item: Value) => boolean,
): void {
  if (over === null) return;
  if (over instanceof Range) {
    forRange(frame, over, visit);
    return;
  }
  if (isList(over)) {
    // Event data, which nobody changes: an iterator's objects would cost as much as a lambda.
    for (let i = 0; i < over.length; i++) {
      frame.charge(1);
      if (!visit(over[i]!)) return;
    }
    return;
  }
  for (const item of iterable(over, what)) {
    frame.charge(1);
    if (!visit(item)) return;
  }
}

function iterable(over: Value, what: string): Iterable<Value> {
  // A copy would hide what the loop body adds; an index keeps Java's elements without its
  // exception.
  if (over instanceof List) return over.items;
  if (over instanceof SetValue) return over.items.values();
  if (over instanceof Dictionary) return over.entries.values();
  if (typeof over === 'string') return codeUnits(over);
  if (isPlainObject(over)) return objectEntries(over);
  throw new Fault(`${what}: a ${typeName(over)} is not a sequence`);
}

function* codeUnits(text: string): Iterable<Value> {
  for (let i = 0; i < text.length; i++) yield text[i] as string;
}

function* objectEntries(map: Record<string, Value>): Iterable<Value> {
  for (const key of Object.keys(map)) yield new Entry(key, map[key] ?? null);
}

function forRange(frame: Frame, range: Range, visit: (item: Value) => boolean): void {
  const forward = order(range.step, 0) >= 0;
  let current = range.start;
  while (forward ? order(current, range.end) < 0 : order(current, range.end) > 0) {
    frame.charge(1);
    if (!visit(current)) return;
    current = add(frame, current, range.step, 'range');
  }
}

/** Number of elements, as count() says: of a range without walking it. */
export function sizeOf(value: Value): number {
  if (value === null) return 0;
  if (typeof value === 'string' || isList(value)) return value.length;
  if (value instanceof List) return value.items.length;
  if (value instanceof SetValue) return value.items.size;
  if (value instanceof Dictionary) return value.entries.size;
  if (isPlainObject(value)) return Object.keys(value).length;
  if (value instanceof Range) return rangeSize(value);
  throw new Fault(`count: a ${typeName(value)} is not a sequence`);
}

export function rangeSize(range: Range): number {
  const number = (v: Value): number => numberOf(v as number | Double);
  const step = number(range.step);
  const isWhole = [range.start, range.end, range.step].every((v) => Number.isInteger(v));
  if (isWhole && step === 0) throw new Fault('count: a range with step 0 has no size');
  return Math.max(0, Math.trunc((number(range.end) - number(range.start)) / step));
}
