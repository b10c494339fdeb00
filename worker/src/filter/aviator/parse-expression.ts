/** Expressions, by precedence climbing over Aviator's own levels. */
import { nearest } from '../syntax-error.ts';
import type { BinaryOperator, Lambda, Node, UnaryOperator } from './ast.ts';
import { type Cursor, isScopeName, SCOPE_NAMES } from './cursor.ts';
import { arityProblem, FUNCTION_NAMES } from './functions.ts';
import type { Token } from './lexer.ts';
import { MAX_PATTERN_CHARS } from './limits.ts';
import { KEYWORDS, REFUSED_FUNCTIONS, REFUSED_KEYWORDS, WORD_HINTS } from './names.ts';
import { parseLambdaBody } from './parse-statement.ts';
import { parseText } from './parse-text.ts';
import { compilePattern } from './regex.ts';

/**
 * Loosest first. `&&` and `||` are flattened, so that a long list of conditions stays a low tree.
 */
const LEVELS: readonly (readonly string[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^'],
  ['&'],
  ['==', '!=', '=~'],
  ['<', '<=', '>', '>='],
  ['<<', '>>', '>>>'],
  ['+', '-'],
  ['*', '/', '%'],
];

/** Operators that may be handed to a function: `reduce(xs, +, 0)`. */
const OPERATOR_VALUES = new Set(['+', '-', '*', '/', '%', '!', '&', '|']);

export function parseExpression(p: Cursor): Node {
  const { at } = p.peek();
  return p.nested(at, () => {
    const test = parseLevel(p, 0);
    if (!p.takeOp('?')) return test;
    const then = parseExpression(p);
    p.expectOp(':', 'between the two values of ?:');
    const otherwise = parseExpression(p);
    return p.node(at, { kind: 'choice', test, then, otherwise }, test, then, otherwise);
  });
}

function parseLevel(p: Cursor, level: number): Node {
  const operators = LEVELS[level];
  if (operators === undefined) return parseUnary(p);
  const { at } = p.peek();
  let left = parseLevel(p, level + 1);
  const first = operators[0];
  if (first === '||' || first === '&&') return parseLogic(p, level, first, left, at);
  while (p.peek().kind === 'op' && operators.includes(p.peek().text)) {
    const operator = p.next();
    const right = parseLevel(p, level + 1);
    const op = operator.text as BinaryOperator;
    checkDivision(p, operator, left, right);
    left = p.node(operator.at, { kind: 'binary', op, left, right }, left, right);
  }
  return left;
}

/** Aviator folds constants while it compiles, so this fails even where it would never run. */
function checkDivision(p: Cursor, operator: Token, left: Node, right: Node): void {
  const isLong = (node: Node): boolean =>
    node.kind === 'constant' &&
    typeof node.value === 'object' &&
    node.value !== null &&
    'long' in node.value;
  if ((operator.text !== '/' && operator.text !== '%') || !isLong(left) || !isLong(right)) return;
  const { value } = right as Extract<Node, { kind: 'constant' }>;
  if ((value as { long: number }).long === 0) p.fail(operator.at, 'division by zero');
}

function parseLogic(p: Cursor, level: number, op: '&&' | '||', first: Node, at: number): Node {
  if (!p.isOp(op)) return first;
  const items = [first];
  while (p.takeOp(op)) items.push(parseLevel(p, level + 1));
  return p.node(at, { kind: 'logic', op, items }, ...items);
}

function parseUnary(p: Cursor): Node {
  const token = p.peek();
  const isUnary = p.isOp('!') || p.isOp('-') || p.isOp('~');
  if (!isUnary || isOperatorValue(p)) return parsePower(p);
  p.next();
  const operand = p.nested(token.at, () => parseUnary(p));
  return p.node(token.at, { kind: 'unary', op: token.text as UnaryOperator, operand }, operand);
}

function parsePower(p: Cursor): Node {
  let left = parsePostfix(p);
  while (p.isOp('**') && !isOperatorValue(p)) {
    const operator = p.next();
    const right = p.nested(operator.at, () => parseUnary(p));
    left = p.node(operator.at, { kind: 'binary', op: '**', left, right }, left, right);
  }
  return left;
}

function isOperatorValue(p: Cursor): boolean {
  return (
    p.peek().kind === 'op' &&
    OPERATOR_VALUES.has(p.peek().text) &&
    (p.isOp(',', 1) || p.isOp(')', 1))
  );
}

function parsePostfix(p: Cursor): Node {
  let target = parsePrimary(p);
  while (true) {
    const { at } = p.peek();
    if (p.takeOp('[')) {
      const index = parseExpression(p);
      p.expectOp(']', 'after the index');
      target = p.node(at, { kind: 'index', target, index }, target, index);
    } else if (p.isOp('.') && p.peek(1).kind === 'name') {
      p.next();
      target = p.node(at, { kind: 'property', target, name: p.next().text }, target);
    } else if (p.isOp('(') && isCallable(target)) {
      const args = parseArguments(p);
      target = p.node(at, { kind: 'invoke', target, args }, target, ...args);
    } else {
      return target;
    }
  }
}

function isCallable(node: Node): boolean {
  return ['variable', 'property', 'index', 'invoke', 'lambda', 'call', 'choice'].includes(
    node.kind,
  );
}

function parsePrimary(p: Cursor): Node {
  const token = p.peek();
  const constant = (value: Parameters<typeof makeConstant>[2]): Node =>
    makeConstant(p, token, value);
  if (token.kind === 'name') return parseName(p);
  if (isOperatorValue(p)) return p.node(p.next().at, { kind: 'function', name: token.text });
  switch (token.kind) {
    case 'number':
      return constant(numberOf(p, p.next()));
    case 'string':
      return parseText(p, p.next());
    case 'regex':
      p.next();
      checkPattern(p, token);
      return p.node(token.at, { kind: 'pattern', source: token.text });
    default:
  }
  if (p.takeOp('(')) {
    const inner = parseExpression(p);
    if (p.isOp('='))
      p.fail(p.peek().at, 'an assignment cannot be a condition', 'write == to compare');
    p.expectOp(')', 'to close this bracket');
    return { ...inner, outer: token.at };
  }
  const hint = token.text === '->' ? 'a lambda is `lambda(x) -> x > 1 end`' : undefined;
  return p.fail(token, 'expected a value', hint);
}

function makeConstant(
  p: Cursor,
  token: Token,
  value: Extract<Node, { kind: 'constant' }>['value'],
): Node {
  return p.node(token.at, { kind: 'constant', value });
}

function numberOf(p: Cursor, token: Token): { long: number } | { double: number } {
  const value = Number(token.text);
  if (/^0x/i.test(token.text) || /^\d+$/.test(token.text)) {
    if (!Number.isSafeInteger(value)) {
      p.fail(token.at, 'this integer is beyond 2^53-1', 'write a double (1e18) or compare strings');
    }
    return { long: value };
  }
  return { double: value };
}

function checkPattern(p: Cursor, token: Token): void {
  if (token.text.length > MAX_PATTERN_CHARS) {
    p.fail(token.at, `this pattern is longer than ${MAX_PATTERN_CHARS} characters`);
  }
  const problem = compilePattern(token.text).problem;
  if (problem !== null) {
    const hint =
      'patterns are RE2: no look-around and no back-references, so that they run in linear time';
    p.fail(token.at, `this pattern does not compile: ${problem}`, hint);
  }
}

function parseName(p: Cursor): Node {
  const token = p.next();
  const { text, at } = token;
  if (text === 'true' || text === 'false') return makeConstant(p, token, text === 'true');
  if (text === 'nil') return makeConstant(p, token, null);
  if (text === 'lambda') return parseLambda(p, at);
  const refused = REFUSED_KEYWORDS.get(text);
  if (refused !== undefined) p.fail(at, `\`${text}\` is not in the supported subset`, refused);
  if (KEYWORDS.has(text)) p.fail(at, `\`${text}\` cannot stand here`, misplacedHint(text));
  if (/^\$\d{1,2}$/.test(text))
    return p.node(at, { kind: 'capture', group: Number(text.slice(1)) });
  const ref = isLibraryCall(p, text) ? null : p.lookUp(text);
  if (ref !== null) return p.node(at, { kind: 'variable', ref });
  if (isScopeName(text)) {
    p.context.reads.add(text);
    const path: string[] = [];
    while (p.isOp('.') && p.peek(1).kind === 'name') {
      p.next();
      path.push(p.next().text);
    }
    if (text === 'user') p.context.userPaths.push(path);
    if (p.isOp('.')) p.complain(p.next().at, 'expected a property name after the dot');
    if (p.isOp('('))
      p.fail(
        p.peek().at,
        'values have no methods',
        'functions are string.contains(text, part), ...',
      );
    return p.node(at, { kind: 'scope', root: text, path });
  }
  if (p.isForgotten(text) && !p.isOp('(')) {
    p.complain(at, `${text} is known only inside the block that declares it: here it is nil`);
    return makeConstant(p, token, null);
  }
  return parseFunctionName(p, token);
}

/** Aviator calls its own function whatever variable bears the name; as a value the latter wins. */
function isLibraryCall(p: Cursor, first: string): boolean {
  let name = first;
  let ahead = 0;
  while (!FUNCTION_NAMES.has(name) && p.isOp('.', ahead) && p.peek(ahead + 1).kind === 'name') {
    name += `.${p.peek(ahead + 1).text}`;
    ahead += 2;
  }
  return FUNCTION_NAMES.has(name) && p.isOp('(', ahead);
}

function misplacedHint(keyword: string): string | undefined {
  if (keyword === 'if') return 'inside an expression use `condition ? value : value`';
  return undefined;
}

/** A dotted name that is no variable: a call, or a function handed to another. */
function parseFunctionName(p: Cursor, token: Token): Node {
  let name = token.text;
  while (p.isOp('.') && p.peek(1).kind === 'name' && !FUNCTION_NAMES.has(name)) {
    p.next();
    name += `.${p.next().text}`;
  }
  const reason = REFUSED_FUNCTIONS.get(name);
  if (reason !== undefined)
    p.fail(token.at, `function ${name} is not available in a filter: ${reason}`);
  if (!FUNCTION_NAMES.has(name)) failUnknown(p, token, name);
  if (!p.isOp('(')) {
    if (p.isOp(',') || p.isOp(')')) return p.node(token.at, { kind: 'function', name });
    p.complain(token.at, `${name} is a function: without (...) it is nil here`);
    return makeConstant(p, token, null);
  }
  if (name === 'is_def') return parseIsDef(p, token);
  const args = parseArguments(p);
  const problem = arityProblem(name, args.length);
  if (problem !== null) p.fail(token.at, problem);
  return p.node(token.at, { kind: 'call', name, args }, ...args);
}

function failUnknown(p: Cursor, token: Token, name: string): never {
  const wordHint = WORD_HINTS.get(token.text);
  const isCall = p.isOp('(');
  const known = isCall ? FUNCTION_NAMES : [...SCOPE_NAMES, ...p.visibleNames(), ...FUNCTION_NAMES];
  const guess = nearest(name, known) ?? nearest(token.text, isCall ? [] : SCOPE_NAMES);
  const listed = isCall
    ? undefined
    : `a script sees ${SCOPE_NAMES.join(', ')} and its own variables`;
  const hint = wordHint ?? (guess === null ? listed : `did you mean ${guess}?`);
  p.fail(token.at, `unknown ${isCall ? 'function' : 'name'} ${name}`, hint);
}

/** `is_def(name)` asks about a name, so the name need not be known. */
function parseIsDef(p: Cursor, token: Token): Node {
  p.expectOp('(', 'after is_def');
  const names: string[] = [];
  do {
    const part = p.next();
    if (part.kind !== 'name' || KEYWORDS.has(part.text)) p.fail(part, 'is_def takes a name');
    names.push(part.text);
  } while (p.takeOp('.'));
  p.expectOp(')', 'after the name');
  const name = names.join('.');
  const isVariable = names.length === 1 && (isScopeName(name) || p.lookUp(name) !== null);
  return makeConstant(p, token, isVariable || FUNCTION_NAMES.has(name));
}

function parseArguments(p: Cursor): Node[] {
  p.expectOp('(', 'before the arguments');
  const args: Node[] = [];
  if (p.takeOp(')')) return args;
  do {
    if (p.isOp('*') && !isOperatorValue(p))
      p.fail(p.peek().at, 'unpacking with * is not in the supported subset');
    args.push(parseExpression(p));
  } while (p.takeOp(','));
  p.expectOp(')', 'after the arguments');
  return args;
}

function parseLambda(p: Cursor, at: number): Node {
  p.expectOp('(', 'after lambda');
  const { result, slots } = p.inFunction(() => {
    let parameters = 0;
    if (!p.isOp(')')) {
      do {
        p.declare(p.next());
        parameters++;
      } while (p.takeOp(','));
    }
    p.expectOp(')', 'after the parameters');
    p.expectOp('->', 'before the body of the lambda');
    const { result: body, cost } = p.measured(() => p.nested(at, () => parseLambdaBody(p)));
    return { parameters, body, cost };
  });
  const lambda: Lambda = { ...result, slots };
  return p.node(at, { kind: 'lambda', lambda }, result.body);
}
