/** What a library function is, and how its arguments are read. */
import { numberOf } from './arithmetic.ts';
import type { Frame } from './frame.ts';
import { Fault, FunctionValue, isNumeric, typeName, type Value } from './values.ts';

export interface Builtin {
  readonly min: number;
  /** Infinity for a variadic function. */
  readonly max: number;
  readonly invoke: (frame: Frame, args: readonly Value[]) => Value;
}

export type Builtins = Readonly<Record<string, Builtin>>;

export function builtin(min: number, max: number, invoke: Builtin['invoke']): Builtin {
  return { min, max, invoke };
}

export function arg(args: readonly Value[], index: number): Value {
  return args[index] ?? null;
}

export function textArg(args: readonly Value[], index: number, name: string): string {
  const value = args[index] ?? null;
  if (typeof value === 'string') return value;
  throw new Fault(`${name}: argument ${index + 1} is a ${typeName(value)}, not a string`);
}

export function numberArg(args: readonly Value[], index: number, name: string): number {
  const value = args[index] ?? null;
  if (isNumeric(value)) return numberOf(value);
  throw new Fault(`${name}: argument ${index + 1} is a ${typeName(value)}, not a number`);
}

export function functionArg(args: readonly Value[], index: number, name: string): FunctionValue {
  const value = args[index] ?? null;
  if (value instanceof FunctionValue) return value;
  throw new Fault(`${name}: argument ${index + 1} is a ${typeName(value)}, not a function`);
}

/** Calls a predicate; anything but a boolean is an error, as in Aviator. */
export function test(frame: Frame, predicate: FunctionValue, item: Value, name: string): boolean {
  const result = predicate.invoke(frame, [item]);
  if (typeof result === 'boolean') return result;
  throw new Fault(`${name}: the predicate gave a ${typeName(result)}, not a boolean`);
}
