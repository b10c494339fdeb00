/**
 * Numbers: longs that must stay safe integers, doubles, and the error where Java would wrap or
 * round.
 */
import { failUnsafe } from './compare.ts';
import type { Frame } from './frame.ts';
import { toText } from './text.ts';
import { Double, Fault, isNumeric, Pattern, typeName, type Value } from './values.ts';

export function double(value: number): Value {
  return Number.isInteger(value) || Number.isNaN(value) ? new Double(value) : value;
}

/** Never a rounded long: beyond 2^53-1 is an error. */
export function long(value: number, where: string): number {
  if (Number.isSafeInteger(value)) return value + 0;
  throw new Fault(`integer overflow beyond 2^53-1 at ${where}`);
}

export function numberOf(value: number | Double): number {
  if (typeof value !== 'number') return value.value;
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) failUnsafe();
  return value;
}

function isLong(value: Value): value is number {
  return typeof value === 'number' && Number.isInteger(value);
}

function fail(op: string, a: Value, b: Value, where: string): never {
  throw new Fault(`${op} of ${typeName(a)} and ${typeName(b)} at ${where}`);
}

export function add(frame: Frame, a: Value, b: Value, where: string): Value {
  if (isNumeric(a) && isNumeric(b)) {
    const sum = numberOf(a) + numberOf(b);
    return isLong(a) && isLong(b) ? long(sum, where) : double(sum);
  }
  if (typeof a === 'string') {
    const right = toText(frame, b);
    frame.checkString(a.length + right.length);
    return a + right;
  }
  const joins = a === null || typeof a === 'boolean' || isNumeric(a) || a instanceof Pattern;
  if (typeof b !== 'string' || !joins) return fail('+', a, b, where);
  const left = toText(frame, a);
  frame.checkString(left.length + b.length);
  return left + b;
}

type Arithmetic = (a: Value, b: Value, where: string) => Value;

export const subtract: Arithmetic = (a, b, where) => {
  if (!isNumeric(a) || !isNumeric(b)) return fail('-', a, b, where);
  const result = numberOf(a) - numberOf(b);
  return isLong(a) && isLong(b) ? long(result, where) : double(result);
};

export const multiply: Arithmetic = (a, b, where) => {
  if (!isNumeric(a) || !isNumeric(b)) return fail('*', a, b, where);
  const result = numberOf(a) * numberOf(b);
  return isLong(a) && isLong(b) ? long(result, where) : double(result);
};

export const divide: Arithmetic = (a, b, where) => {
  if (!isNumeric(a) || !isNumeric(b)) return fail('/', a, b, where);
  const x = numberOf(a);
  const y = numberOf(b);
  if (!isLong(a) || !isLong(b)) return double(x / y);
  if (y === 0) throw new Fault(`division by zero at ${where}`);
  // Not Math.trunc(x / y): the quotient of two safe integers may round up to the next one.
  return (x - (x % y)) / y + 0;
};

export const remainder: Arithmetic = (a, b, where) => {
  if (!isNumeric(a) || !isNumeric(b)) return fail('%', a, b, where);
  const x = numberOf(a);
  const y = numberOf(b);
  if (!isLong(a) || !isLong(b)) return double(x % y);
  if (y === 0) throw new Fault(`division by zero at ${where}`);
  return (x % y) + 0;
};

export const power: Arithmetic = (a, b, where) => {
  if (!isNumeric(a) || !isNumeric(b)) return fail('**', a, b, where);
  const result = numberOf(a) ** numberOf(b);
  return isLong(a) && isLong(b) && b >= 0 ? long(result, where) : double(result);
};

export function negate(value: Value, where: string): Value {
  if (typeof value === 'number') return isLong(value) ? 0 - numberOf(value) : -value;
  if (value instanceof Double) return new Double(-value.value);
  throw new Fault(`- of ${typeName(value)} at ${where}`);
}

export function invert(value: Value, where: string): Value {
  if (isLong(value)) return long(-numberOf(value) - 1, where);
  throw new Fault(`~ of ${typeName(value)} at ${where}`);
}

/** 64-bit operations on BigInt: JavaScript's own are 32-bit. */
const BITWISE: Record<string, (a: bigint, b: bigint) => bigint> = {
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<<': (a, b) => a << (b & 63n),
  '>>': (a, b) => a >> (b & 63n),
  '>>>': (a, b) => BigInt.asUintN(64, a) >> (b & 63n),
};

export function bitwise(op: string): Arithmetic {
  const apply = BITWISE[op] as (a: bigint, b: bigint) => bigint;
  return (a, b, where) => {
    if (!isLong(a) || !isLong(b)) return fail(op, a, b, where);
    const result = apply(BigInt(numberOf(a)), BigInt(numberOf(b)));
    return long(Number(BigInt.asIntN(64, result)), where);
  };
}
