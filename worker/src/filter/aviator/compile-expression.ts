/**
 * Expressions to closures. Each closure is made for its very operands (a constant string, a path
 * of two
 * names), so that the common filter runs without a generic step, an allocation or a counter: what a
 * script costs without loops and calls is known at load and checked there.
 */
import type { ScopeName } from '../filter.ts';
import {
  add,
  bitwise,
  divide,
  double,
  invert,
  multiply,
  negate,
  power,
  remainder,
  subtract,
} from './arithmetic.ts';
import type { BinaryOperator, Constant, Lambda, Node } from './ast.ts';
import { compare, equal } from './compare.ts';
import { compileBody, compileStatement, statementOf } from './compile-statement.ts';
import { type Frame, RUNNING, type Variables } from './frame.ts';
import { builtinOf, functionValue } from './functions.ts';
import { elementAt } from './functions-collection.ts';
import { SIZE_FUNCTIONS } from './functions-seq.ts';
import { compilePattern, matchCost } from './regex.ts';
import { toText } from './text.ts';
import { Fault, FunctionValue, Pattern, property, typeName, type Value } from './values.ts';

export type Evaluate = (frame: Frame) => Value;

/**
 * Put around each node's closure while a script is compiled to be traced; null: the closures are
 * bare, and the path of every event knows nothing of tracing. Compiling is synchronous and no
 * script compiles another.
 */
export type Watch = (node: Node, evaluate: Evaluate) => Evaluate;
let watching: Watch | null = null;

/** The body of a script, statement by statement as it is written, each node watched. */
export function compileWatched(body: Node, watch: Watch): Evaluate {
  watching = watch;
  try {
    return compileStatement(body);
  } finally {
    watching = null;
  }
}

export function watched(node: Node, evaluate: Evaluate): Evaluate {
  return watching === null ? evaluate : watching(node, evaluate);
}

export function compileExpression(node: Node): Evaluate {
  return watched(node, expressionOf(node));
}

export function expressionOf(node: Node): Evaluate {
  switch (node.kind) {
    case 'constant': {
      const value = constantValue(node.value);
      return () => value;
    }
    case 'pattern': {
      const pattern = new Pattern(node.source, compilePattern(node.source));
      return () => pattern;
    }
    case 'function': {
      const value = functionValue(node.name);
      return () => value;
    }
    case 'scope':
      return compilePath(node.root, node.path);
    case 'variable':
      return compileVariable(node.ref.hops, node.ref.slot);
    case 'capture': {
      const { group } = node;
      return (frame) => frame.captures?.[group] ?? null;
    }
    case 'property': {
      const target = compileExpression(node.target);
      const { name } = node;
      return (frame) => property(target(frame), name);
    }
    case 'index': {
      const target = compileExpression(node.target);
      const index = compileExpression(node.index);
      const name = `[] at ${node.where}`;
      return (frame) => elementAt(target(frame), index(frame), name);
    }
    case 'unary':
      return compileUnary(node.op, compileExpression(node.operand), node.where);
    case 'binary':
      return compileBinary(node);
    case 'logic':
      return compileLogic(node.op, node.items.map(compileExpression), node.where);
    case 'choice':
      return compileChoice(node.test, node.then, node.otherwise, compileExpression);
    case 'text':
      return compileText(node.parts.map(compileExpression));
    case 'call':
      return compileCall(node.name, node.args);
    case 'invoke':
      return compileInvoke(node.target, node.args, node.where);
    case 'lambda':
      return compileLambda(node.lambda, node.where);
    default:
      return statementOf(node);
  }
}

function constantValue(constant: Constant): Value {
  if (constant === null || typeof constant !== 'object') return constant;
  return 'long' in constant ? constant.long : double(constant.double);
}

const ROOTS: Record<ScopeName, Evaluate> = {
  event: (frame) => frame.event,
  user: (frame) => frame.user,
  visit: (frame) => frame.visit,
  history: (frame) => frame.history,
};

function compilePath(root: ScopeName, path: readonly string[]): Evaluate {
  const [first, second, ...rest] = path;
  if (first === undefined) return ROOTS[root];
  if (second === undefined) {
    // One closure per root: a shared one would make the property load megamorphic.
    if (root === 'event') return (frame) => property(frame.event, first);
    if (root === 'user') return (frame) => property(frame.user, first);
    return (frame) => property(frame[root], first);
  }
  if (rest.length === 0) return (frame) => property(property(frame[root], first), second);
  return (frame) => path.reduce(property, frame[root]);
}

function compileVariable(hops: number, slot: number): Evaluate {
  if (hops === 0) return (frame) => frame.variables.slots[slot] as Value;
  return (frame) => {
    let variables: Variables = frame.variables;
    for (let i = 0; i < hops; i++) variables = variables.outer as Variables;
    return variables.slots[slot] as Value;
  };
}

function compileUnary(op: string, operand: Evaluate, where: string): Evaluate {
  if (op === '-') return (frame) => negate(operand(frame), where);
  if (op === '~') return (frame) => invert(operand(frame), where);
  return (frame) => {
    const value = operand(frame);
    if (value === true) return false;
    if (value === false) return true;
    return notBoolean('!', value, where);
  };
}

export function notBoolean(what: string, value: Value, where: string): never {
  throw new Fault(`${what} needs a boolean, not ${typeName(value)}, at ${where}`);
}

function compileLogic(op: '&&' | '||', items: readonly Evaluate[], where: string): Evaluate {
  const stop = op === '||';
  const [first, second] = items;
  if (items.length === 2 && first !== undefined && second !== undefined) {
    return (frame) => {
      const left = first(frame);
      if (left === stop) return stop;
      if (left !== !stop) return notBoolean(op, left, where);
      const right = second(frame);
      return right === true || right === false ? right : notBoolean(op, right, where);
    };
  }
  return (frame) => {
    for (const item of items) {
      const value = item(frame);
      if (value === stop) return stop;
      if (value !== !stop) return notBoolean(op, value, where);
    }
    return !stop;
  };
}

export function compileChoice(
  test: Node,
  then: Node,
  otherwise: Node | null,
  compile: (node: Node) => Evaluate,
): Evaluate {
  const condition = compileExpression(test);
  const yes = compile(then);
  const no: Evaluate = otherwise === null ? () => null : compile(otherwise);
  const { where } = test;
  return (frame) => {
    const value = condition(frame);
    if (value === true) return yes(frame);
    if (value === false) return no(frame);
    return notBoolean('the condition', value, where);
  };
}

function compileBinary(node: Extract<Node, { kind: 'binary' }>): Evaluate {
  const left = compileExpression(node.left);
  const right = compileExpression(node.right);
  const { op, where } = node;
  if (op === '==' || op === '!=') return compileEquality(node, op === '==', left, right);
  if (op === '=~') return compileMatch(left, right, node.where);
  const ordering = compileOrdering(op, left, right, where);
  if (ordering !== null) return ordering;
  if (op === '+') return (frame) => add(frame, left(frame), right(frame), where);
  const apply = ARITHMETIC[op] ?? bitwise(op);
  return (frame) => apply(left(frame), right(frame), where);
}

const ARITHMETIC: Partial<Record<BinaryOperator, ReturnType<typeof bitwise>>> = {
  '-': subtract,
  '*': multiply,
  '/': divide,
  '%': remainder,
  '**': power,
};

function compileEquality(
  node: Extract<Node, { kind: 'binary' }>,
  wanted: boolean,
  left: Evaluate,
  right: Evaluate,
): Evaluate {
  const constant = node.right.kind === 'constant' ? constantValue(node.right.value) : undefined;
  // Against a string, a boolean or nil identity is equality: nothing else ever equals one of those.
  const isExact =
    constant === null || typeof constant === 'string' || typeof constant === 'boolean';
  // It is a list, always.
  if (constant === null && isUnwatchedHistory(node.left)) return () => !wanted;
  if (isExact && wanted) return (frame) => left(frame) === constant;
  if (isExact) return (frame) => left(frame) !== constant;
  return (frame) => equal(left(frame), right(frame)) === wanted;
}

function compileOrdering(
  op: BinaryOperator,
  left: Evaluate,
  right: Evaluate,
  where: string,
): Evaluate | null {
  switch (op) {
    case '<':
      return (frame) => compare(left(frame), right(frame), where) < 0;
    case '<=':
      return (frame) => compare(left(frame), right(frame), where) <= 0;
    case '>':
      return (frame) => compare(left(frame), right(frame), where) > 0;
    case '>=':
      return (frame) => compare(left(frame), right(frame), where) >= 0;
    default:
      return null;
  }
}

/**
 * A full match. A match sets $0..$n for the rest of the evaluation; a miss leaves the older ones.
 */
function compileMatch(left: Evaluate, right: Evaluate, where: string): Evaluate {
  return (frame) => {
    const subject = left(frame);
    const pattern = right(frame);
    if (!(pattern instanceof Pattern) || pattern.compiled.regex === null) {
      throw new Fault(`=~ needs a /pattern/ on its right, not ${typeName(pattern)}, at ${where}`);
    }
    if (subject === null) return false;
    if (typeof subject !== 'string') {
      throw new Fault(`=~ needs a string on its left, not ${typeName(subject)}, at ${where}`);
    }
    const { regex, groups, size } = pattern.compiled;
    frame.charge(matchCost(size, subject.length));
    if (groups === 0) {
      if (!regex.matches(subject)) return false;
      frame.captures = [subject];
      return true;
    }
    const matcher = regex.matcher(subject);
    if (!matcher.matches()) return false;
    frame.captures = Array.from({ length: groups + 1 }, (_, i) => matcher.group(i));
    return true;
  };
}

function compileText(parts: readonly Evaluate[]): Evaluate {
  return (frame) => {
    let text = '';
    for (const part of parts) {
      text += toText(frame, part(frame));
      frame.checkString(text.length);
    }
    return text;
  };
}

/**
 * The events themselves are not read where only their number is asked: 13 KB would be parsed for
 * it. Who watches is shown the history as it stands in the script.
 */
function isUnwatchedHistory(node: Node | undefined): boolean {
  return (
    watching === null && node?.kind === 'scope' && node.root === 'history' && node.path.length === 0
  );
}

function compileCall(name: string, nodes: readonly Node[]): Evaluate {
  const ofSize = SIZE_FUNCTIONS.get(name);
  if (ofSize !== undefined && isUnwatchedHistory(nodes[0])) {
    return (frame) => ofSize(frame, frame.historyCount);
  }
  const { invoke } = builtinOf(name);
  const args = nodes.map(compileExpression);
  const [first, second] = args;
  if (args.length === 1 && first !== undefined) return (frame) => invoke(frame, [first(frame)]);
  if (args.length === 2 && first !== undefined && second !== undefined) {
    return (frame) => invoke(frame, [first(frame), second(frame)]);
  }
  return (frame) =>
    invoke(
      frame,
      args.map((argument) => argument(frame)),
    );
}

function compileInvoke(callee: Node, args: readonly Node[], where: string): Evaluate {
  const target = compileExpression(callee);
  const values = args.map(compileExpression);
  return (frame) => {
    const value = target(frame);
    if (!(value instanceof FunctionValue)) {
      throw new Fault(`a ${typeName(value)} is no function at ${where}`);
    }
    return value.invoke(
      frame,
      values.map((argument) => argument(frame)),
    );
  };
}

/** A copy: `seq.and` hands the same arguments to several functions, each with its own variables. */
function slotsOf(args: readonly Value[], slots: number): Value[] {
  // Most lambdas; to make and fill an array takes five times as long (49 ns against 10).
  if (slots === 1 && args.length === 1) return [args[0]!];
  const own = new Array<Value>(slots).fill(null);
  for (let i = 0; i < args.length; i++) own[i] = args[i]!;
  return own;
}

function compileLambda(lambda: Lambda, where: string): Evaluate {
  const body = (watching === null ? compileBody : compileStatement)(lambda.body);
  const { parameters, slots, cost } = lambda;
  return (frame) => {
    const outer = frame.variables;
    return new FunctionValue('lambda', (running, args) => {
      if (args.length !== parameters) {
        throw new Fault(`the lambda at ${where} takes ${parameters} arguments, not ${args.length}`);
      }
      running.enter(cost);
      const caller = running.variables;
      running.variables = { slots: slotsOf(args, slots), outer };
      const result = body(running);
      running.variables = caller;
      running.signal = RUNNING;
      running.leave();
      return result;
    });
  };
}
