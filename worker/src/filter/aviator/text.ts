/** Values as text, in Java's spelling: 1.0E10, [a, b], {k=v}, null. */
import type { Frame } from './frame.ts';
import {
  Dictionary,
  Double,
  Entry,
  Fault,
  FunctionValue,
  isPlainObject,
  List,
  Pattern,
  Range,
  ScriptValue,
  SetValue,
  typeName,
  type Value,
} from './values.ts';

/** Collections inside collections that are still written out. */
const MAX_TEXT_DEPTH = 16;

export function toText(frame: Frame, value: Value, depth = 0): string {
  if (typeof value === 'string') return value;
  if (value === null) return 'null';
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'number') {
    if (!Number.isInteger(value)) return doubleText(value);
    if (Number.isSafeInteger(value)) return String(value);
    throw new Fault('integer beyond 2^53-1: it lost digits when its JSON was read');
  }
  if (depth > MAX_TEXT_DEPTH)
    throw new Fault(`collections nested deeper than ${MAX_TEXT_DEPTH} have no text`);
  if (value instanceof ScriptValue) return scriptText(frame, value, depth);
  if (isPlainObject(value)) return pairsText(frame, Object.entries(value), depth);
  return joined(frame, value as readonly Value[], '[', ']', depth);
}

function scriptText(frame: Frame, value: ScriptValue, depth: number): string {
  if (value instanceof Double) return doubleText(value.value);
  if (value instanceof List) return joined(frame, value.items, '[', ']', depth);
  if (value instanceof SetValue) return joined(frame, [...value.items.values()], '[', ']', depth);
  if (value instanceof Pattern) return value.source;
  if (value instanceof Dictionary) {
    const pairs = [...value.entries.values()].map((e): [Value, Value] => [e.key, e.value]);
    return pairsText(frame, pairs, depth);
  }
  if (value instanceof Range) {
    const [start, end, step] = [value.start, value.end, value.step].map((v) => toText(frame, v));
    return `<Range, [${start}, ${end}], ${step}>`;
  }
  if (value instanceof Entry)
    return pairsText(frame, [[value.key, value.value]], depth).slice(1, -1);
  if (value instanceof FunctionValue) throw new Fault('a function has no text');
  throw new Fault(`a ${typeName(value)} has no text`);
}

function pairsText(
  frame: Frame,
  pairs: readonly (readonly [Value, Value])[],
  depth: number,
): string {
  const parts = pairs.map(([key, value]) => {
    frame.charge(1);
    return `${toText(frame, key, depth + 1)}=${toText(frame, value, depth + 1)}`;
  });
  return bracketed(frame, parts, '{', '}');
}

function joined(
  frame: Frame,
  items: readonly Value[],
  open: string,
  close: string,
  depth: number,
): string {
  const parts = items.map((item) => {
    frame.charge(1);
    return toText(frame, item, depth + 1);
  });
  return bracketed(frame, parts, open, close);
}

function bracketed(frame: Frame, parts: readonly string[], open: string, close: string): string {
  let length = 2;
  for (const part of parts) length += part.length + 2;
  frame.checkString(length);
  return open + parts.join(', ') + close;
}

/**
 * Java's Double.toString: at least one digit after the point; an exponent below 1E-3 and from 1E7.
 */
function doubleText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e7) {
    const text = String(value);
    return text.includes('.') ? text : `${text}.0`;
  }
  const [digits = '', exponent = ''] = value.toExponential().split('e');
  return `${digits.includes('.') ? digits : `${digits}.0`}E${exponent.replace('+', '')}`;
}
