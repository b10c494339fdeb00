/** Statements to closures. `frame.signal` says whether one left its block, loop or function. */
import type { Loop, Node, VariableRef } from './ast.ts';
import {
  compileChoice,
  compileExpression,
  type Evaluate,
  expressionOf,
  notBoolean,
  watched,
} from './compile-expression.ts';
import { BROKE, CONTINUED, type Frame, RETURNED, RUNNING, type Variables } from './frame.ts';
import { putElement } from './functions-collection.ts';
import { forEach } from './sequences.ts';
import { Dictionary, Entry, Fault, isPlainObject, type Value } from './values.ts';

/** The body of a script or lambda: a plain `return x;` at its end is just `x`. */
export function compileBody(node: Node): Evaluate {
  return compileStatement(asExpression(node) ?? node);
}

/** `if (a) { return x; } return y;` is `a ? x : y`: no signals, no loop over statements. */
function asExpression(node: Node): Node | null {
  if (node.kind === 'return') return node.value;
  if (node.kind === 'if' && node.otherwise !== null) {
    const then = asExpression(node.then);
    const otherwise = asExpression(node.otherwise);
    if (then === null || otherwise === null) return null;
    return { ...node, kind: 'choice', then, otherwise };
  }
  if (node.kind !== 'block') return isExpression(node) ? node : null;
  const [first, second] = node.body;
  if (node.body.length === 1 && first !== undefined && node.hasValue) return asExpression(first);
  if (node.body.length !== 2 || second === undefined || !node.hasValue) return null;
  if (first?.kind !== 'if' || first.otherwise !== null || !alwaysReturns(first.then)) return null;
  const then = asExpression(first.then);
  const otherwise = asExpression(second);
  if (then === null || otherwise === null) return null;
  return { ...first, kind: 'choice', then, otherwise };
}

function alwaysReturns(node: Node): boolean {
  if (node.kind === 'return') return true;
  const only = node.kind === 'block' && node.body.length === 1 ? node.body[0] : undefined;
  return only !== undefined && alwaysReturns(only);
}

const STATEMENTS = new Set([
  'assign',
  'block',
  'if',
  'for',
  'while',
  'return',
  'break',
  'continue',
]);

function isExpression(node: Node): boolean {
  return !STATEMENTS.has(node.kind);
}

export function compileStatement(node: Node): Evaluate {
  return watched(node, statementOf(node));
}

export function statementOf(node: Node): Evaluate {
  switch (node.kind) {
    case 'block':
      return compileBlock(node.body, node.hasValue);
    case 'if':
      return compileChoice(node.test, node.then, node.otherwise, compileStatement);
    case 'for':
      return compileFor(node.names, compileExpression(node.over), node.loop, node.where);
    case 'while':
      return compileWhile(node.test, node.loop);
    case 'assign':
      return compileAssign(node.target, compileExpression(node.value));
    case 'return': {
      const value: Evaluate = node.value === null ? () => null : compileExpression(node.value);
      return (frame) => {
        const result = value(frame);
        frame.signal = RETURNED;
        return result;
      };
    }
    case 'break':
      return leaveWith(BROKE);
    case 'continue':
      return leaveWith(CONTINUED);
    default:
      return expressionOf(node);
  }
}

function leaveWith(signal: number): Evaluate {
  return (frame) => {
    frame.signal = signal;
    return null;
  };
}

function compileBlock(body: readonly Node[], hasValue: boolean): Evaluate {
  const statements = body.map(compileStatement);
  return (frame) => {
    let value: Value = null;
    for (const statement of statements) {
      value = statement(frame);
      if (frame.signal !== RUNNING) return value;
    }
    return hasValue ? value : null;
  };
}

/**
 * The value of a for loop is that of its last round, as in Aviator; of one that was broken, nil.
 */
function compileFor(
  names: readonly VariableRef[],
  over: Evaluate,
  loop: Loop,
  where: string,
): Evaluate {
  const body = compileStatement(loop.body);
  const [first, second] = names;
  return (frame) => {
    let last: Value = null;
    let index = 0;
    const sequence = over(frame);
    const isMap = sequence instanceof Dictionary || isPlainObject(sequence);
    forEach(frame, sequence, `for at ${where}`, (item) => {
      frame.charge(loop.cost);
      const { slots } = frame.variables;
      if (second === undefined) {
        slots[first?.slot ?? 0] = item;
      } else {
        const entry = isMap && item instanceof Entry ? item : null;
        slots[first?.slot ?? 0] = entry === null ? index++ : entry.key;
        slots[second.slot] = entry === null ? item : entry.value;
      }
      last = body(frame);
      if (frame.signal === RUNNING) return true;
      return afterRound(frame);
    });
    return frame.signal === RUNNING || frame.signal === RETURNED ? last : null;
  };
}

/** Whether the loop goes on; `return` keeps its signal for the function around it. */
function afterRound(frame: Frame): boolean {
  if (frame.signal === RETURNED) return false;
  const goesOn = frame.signal === CONTINUED;
  frame.signal = RUNNING;
  return goesOn;
}

function compileWhile(test: Node, loop: Loop): Evaluate {
  const condition = compileExpression(test);
  const body = compileStatement(loop.body);
  return (frame) => {
    while (true) {
      frame.charge(loop.cost + 1);
      const value = condition(frame);
      if (value === false) return null;
      if (value !== true) return notBoolean('the condition', value, test.where);
      const result = body(frame);
      if (frame.signal === RUNNING) continue;
      if (!afterRound(frame)) return frame.signal === RETURNED ? result : null;
    }
  };
}

function compileAssign(target: Node, value: Evaluate): Evaluate {
  if (target.kind === 'variable') {
    const { hops, slot } = target.ref;
    return (frame) => {
      const result = value(frame);
      let variables: Variables = frame.variables;
      for (let i = 0; i < hops; i++) variables = variables.outer as Variables;
      variables.slots[slot] = result;
      return result;
    };
  }
  if (target.kind !== 'index' && target.kind !== 'property') {
    throw new Fault(`cannot assign at ${target.where}`);
  }
  const container = compileExpression(target.target);
  const name = target.kind === 'property' ? target.name : null;
  const index: Evaluate = target.kind === 'index' ? compileExpression(target.index) : () => name;
  const where = `assignment at ${target.where}`;
  return (frame) => {
    const holder = container(frame);
    const key = index(frame);
    const result = value(frame);
    putElement(frame, holder, key, result, where);
    return result;
  };
}
