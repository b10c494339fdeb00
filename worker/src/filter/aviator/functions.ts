/** The library: every function a script may name, and operators handed over as functions. */
import {
  add,
  bitwise,
  divide,
  invert,
  multiply,
  negate,
  power,
  remainder,
  subtract,
} from './arithmetic.ts';
import { arg, type Builtin, type Builtins, builtin } from './builtin.ts';
import { COLLECTION_FUNCTIONS } from './functions-collection.ts';
import { MATH_FUNCTIONS } from './functions-math.ts';
import { SEQUENCE_FUNCTIONS } from './functions-seq.ts';
import { TEXT_FUNCTIONS } from './functions-text.ts';
import { Fault, FunctionValue, typeName } from './values.ts';

function binary(op: string, apply: ReturnType<typeof bitwise>): Builtin {
  return builtin(2, 2, (_frame, args) => apply(arg(args, 0), arg(args, 1), `function ${op}`));
}

const OPERATOR_FUNCTIONS: Builtins = {
  '+': builtin(2, 2, (frame, args) => add(frame, arg(args, 0), arg(args, 1), 'function +')),
  '-': builtin(1, 2, (_frame, args) => {
    if (args.length === 1) return negate(arg(args, 0), 'function -');
    return subtract(arg(args, 0), arg(args, 1), 'function -');
  }),
  '*': binary('*', multiply),
  '/': binary('/', divide),
  '%': binary('%', remainder),
  '**': binary('**', power),
  '&': binary('&', bitwise('&')),
  '|': binary('|', bitwise('|')),
  '^': binary('^', bitwise('^')),
  '~': builtin(1, 1, (_frame, args) => invert(arg(args, 0), 'function ~')),
  '!': builtin(1, 1, (_frame, args) => {
    const value = arg(args, 0);
    if (typeof value === 'boolean') return !value;
    throw new Fault(`! of ${typeName(value)} at function !`);
  }),
};

const LIBRARY: ReadonlyMap<string, Builtin> = new Map(
  Object.entries({
    ...TEXT_FUNCTIONS,
    ...MATH_FUNCTIONS,
    ...SEQUENCE_FUNCTIONS,
    ...COLLECTION_FUNCTIONS,
  }),
);

/** `is_def` is answered by the parser: it asks about a name, not a value. */
export const FUNCTION_NAMES: ReadonlySet<string> = new Set([...LIBRARY.keys(), 'is_def']);

export function builtinOf(name: string): Builtin {
  const found = LIBRARY.get(name) ?? OPERATOR_FUNCTIONS[name];
  if (found === undefined) throw new Fault(`${name} is no value`);
  return found;
}

export function arityProblem(name: string, count: number): string | null {
  const { min, max } = builtinOf(name);
  if (count >= min && count <= max) return null;
  const wanted =
    min === max
      ? `${min}`
      : max === Number.POSITIVE_INFINITY
        ? `${min} or more`
        : `${min} to ${max}`;
  return `${name} takes ${wanted} argument${wanted === '1' ? '' : 's'}, not ${count}`;
}

/** A library function as a value: `map(names, string.length)`. */
export function functionValue(name: string): FunctionValue {
  const { invoke } = builtinOf(name);
  return new FunctionValue(name, (frame, args) => {
    frame.charge(1);
    const problem = arityProblem(name, args.length);
    if (problem !== null) throw new Fault(problem);
    return invoke(frame, args);
  });
}
