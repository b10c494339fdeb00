/** math.*, conversions, and what compares scalars. */
import { double, long, numberOf } from './arithmetic.ts';
import { arg, type Builtins, builtin, functionArg, numberArg } from './builtin.ts';
import { compare } from './compare.ts';
import type { Frame } from './frame.ts';
import { toText } from './text.ts';
import { Fault, FunctionValue, type Invoke, isNumeric, typeName, type Value } from './values.ts';

const DECIMAL = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|Infinity|NaN)[fFdD]?$/;

function real(name: string, apply: (x: number) => number) {
  return builtin(1, 1, (_frame, args) => double(apply(numberArg(args, 0, name))));
}

function abs(_frame: Frame, args: readonly Value[]): Value {
  const value = arg(args, 0);
  const size = Math.abs(numberArg(args, 0, 'math.abs'));
  return typeof value === 'number' && Number.isInteger(value) ? size : double(size);
}

function toLong(_frame: Frame, args: readonly Value[]): Value {
  const value = arg(args, 0);
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (isNumeric(value)) {
    const number = numberOf(value);
    return Number.isNaN(number) ? 0 : long(Math.trunc(number), 'long()');
  }
  if (typeof value === 'string' && /^[+-]?\d+$/.test(value)) return long(Number(value), 'long()');
  throw new Fault(`long: cannot convert this ${typeName(value)}`);
}

function toDouble(_frame: Frame, args: readonly Value[]): Value {
  const value = arg(args, 0);
  if (typeof value === 'boolean') return double(value ? 1 : 0);
  if (isNumeric(value)) return double(numberOf(value));
  const text = typeof value === 'string' ? value.trim() : '';
  if (!DECIMAL.test(text)) throw new Fault(`double: cannot convert this ${typeName(value)}`);
  return double(Number(text.replace(/[fFdD]$/, '')));
}

/** Java's class names, for scripts that compare with them. */
function typeOf(_frame: Frame, args: readonly Value[]): Value {
  const type = typeName(arg(args, 0));
  const classes: Record<string, string> = {
    list: 'java.util.ArrayList',
    map: 'java.util.HashMap',
    set: 'java.util.HashSet',
  };
  return classes[type] ?? type;
}

/** nil wins min() and is skipped by max(), as in Aviator. */
function extreme(name: string, sign: 1 | -1): Invoke {
  return (frame, args) => {
    let result: Value = null;
    for (const [index, value] of args.entries()) {
      frame.charge(1);
      if (value === null) {
        if (sign < 0) return null;
      } else if (index === 0 || compare(value, result, name) * sign > 0) {
        result = value;
      }
    }
    return result;
  };
}

function comparator(_frame: Frame, args: readonly Value[]): Value {
  const before = functionArg(args, 0, 'comparator');
  const isBefore = (frame: Frame, a: Value, b: Value): boolean => {
    const result = before.invoke(frame, [a, b]);
    if (typeof result === 'boolean') return result;
    throw new Fault(`comparator: the function gave a ${typeName(result)}, not a boolean`);
  };
  const ordering: Invoke = (frame, [a = null, b = null]) =>
    isBefore(frame, a, b) ? -1 : isBefore(frame, b, a) ? 1 : 0;
  return new FunctionValue('comparator', ordering, ordering);
}

export const MATH_FUNCTIONS: Builtins = {
  'math.abs': builtin(1, 1, abs),
  'math.round': builtin(1, 1, (_frame, args) => {
    const number = numberArg(args, 0, 'math.round');
    return Number.isNaN(number) ? 0 : long(Math.round(number), 'math.round');
  }),
  'math.floor': real('math.floor', Math.floor),
  'math.ceil': real('math.ceil', Math.ceil),
  'math.sqrt': real('math.sqrt', Math.sqrt),
  'math.log': real('math.log', Math.log),
  'math.log10': real('math.log10', Math.log10),
  'math.sin': real('math.sin', Math.sin),
  'math.cos': real('math.cos', Math.cos),
  'math.tan': real('math.tan', Math.tan),
  'math.asin': real('math.asin', Math.asin),
  'math.acos': real('math.acos', Math.acos),
  'math.atan': real('math.atan', Math.atan),
  'math.pow': builtin(2, 2, (_frame, args) =>
    double(numberArg(args, 0, 'math.pow') ** numberArg(args, 1, 'math.pow')),
  ),
  long: builtin(1, 1, toLong),
  double: builtin(1, 1, toDouble),
  str: builtin(1, 1, (frame, args) => toText(frame, arg(args, 0))),
  boolean: builtin(1, 1, (_frame, args) => {
    const value = arg(args, 0);
    return typeof value === 'boolean' ? value : value !== null;
  }),
  type: builtin(1, 1, typeOf),
  identity: builtin(1, 1, (_frame, args) => arg(args, 0)),
  min: builtin(0, Number.POSITIVE_INFINITY, extreme('min', -1)),
  max: builtin(0, Number.POSITIVE_INFINITY, extreme('max', 1)),
  cmp: builtin(2, 2, (_frame, args) => compare(arg(args, 0), arg(args, 1), 'cmp')),
  comparator: builtin(1, 1, comparator),
};
