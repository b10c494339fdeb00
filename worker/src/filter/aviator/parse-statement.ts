/** Statements and whole scripts. A block's value is its last expression, unless a `;` ends it. */
import { lineStarts, type SourceText, syntaxError } from '../syntax-error.ts';
import type { Node, Program } from './ast.ts';
import { Cursor, type ParseContext } from './cursor.ts';
import { lex, type Token } from './lexer.ts';
import { MAX_SCRIPT_CHARS } from './limits.ts';
import { WORD_HINTS } from './names.ts';
import { parseExpression } from './parse-expression.ts';

const NO_RESULT_HINT = 'drop the last ; or write `return ...;`';

type Closing = 'end of script' | '}' | 'end';

export function parseProgram(source: SourceText): Program {
  if (source.script.length > MAX_SCRIPT_CHARS) {
    throw syntaxError(source, 0, `a script has at most ${MAX_SCRIPT_CHARS} characters`);
  }
  const context: ParseContext = {
    source,
    lineStarts: lineStarts(source.script),
    reads: new Set(),
    userPaths: [],
    functions: [],
    forgotten: new Set(),
    complaint: null,
    cost: 0,
    nesting: 0,
    loops: 0,
  };
  const tokens = lex(source, { text: source.script, offsetOf: (index) => index });
  const p = new Cursor(context, tokens);
  if (p.peek().kind === 'end')
    p.fail(p.peek().at, 'the script is empty', 'write `true` to match all');
  const { result, slots } = p.inFunction(() => parseBlock(p, 'end of script'));
  if (result.kind === 'block' && !result.hasValue && !/\breturn\b/.test(source.script)) {
    const end = Math.max(0, source.script.trimEnd().length - 1);
    p.complain(end, 'this script has no result: it would never match', NO_RESULT_HINT);
  }
  const { complaint, cost, reads, userPaths } = context;
  return { body: result, slots, cost, reads, userPaths, complaint };
}

export function parseLambdaBody(p: Cursor): Node {
  const body = parseBlock(p, 'end');
  if (!p.takeName('end')) p.fail(p.peek(), 'expected end after the body of the lambda');
  return body;
}

function closes(p: Cursor, closing: Closing): boolean {
  if (p.peek().kind === 'end') return true;
  return closing === '}' ? p.isOp('}') : closing === 'end' && p.isName('end');
}

function parseBlock(p: Cursor, closing: Closing): Node {
  const { at } = p.peek();
  const body: Node[] = [];
  let hasValue = false;
  while (!closes(p, closing)) {
    const statement = parseStatement(p);
    body.push(statement);
    hasValue = finishStatement(p, statement, closing);
    if (leaves(statement) && !closes(p, closing)) {
      p.fail(p.peek().at, 'this can never run: the statement before it leaves');
    }
  }
  if (closing === 'end of script' && p.peek().kind !== 'end') failUnexpected(p, p.peek());
  return p.node(at, { kind: 'block', body, hasValue }, ...body);
}

/** Takes the `;` and says whether the statement's value is the block's, should it be the last. */
function finishStatement(p: Cursor, statement: Node, closing: Closing): boolean {
  switch (statement.kind) {
    case 'if':
    case 'for':
    case 'while':
    case 'block':
      return !p.takeOp(';');
    case 'return':
    case 'break':
    case 'continue':
      return true;
    case 'assign':
      if (statement.define) return false;
      break;
    default:
  }
  if (p.takeOp(';')) return false;
  if (!closes(p, closing)) failUnexpected(p, p.peek());
  return true;
}

function failUnexpected(p: Cursor, token: Token): never {
  const closing: Record<string, string> = { ')': '(', ']': '[', '}': '{' };
  const opener = token.kind === 'op' ? closing[token.text] : undefined;
  if (opener !== undefined)
    p.fail(token.at, `this ${token.text} closes nothing`, `there is no ${opener} before it`);
  p.fail(token, 'expected an operator, ; or the end of the expression');
}

function leaves(statement: Node): boolean {
  if (statement.kind === 'if') {
    return statement.otherwise !== null && leaves(statement.then) && leaves(statement.otherwise);
  }
  if (statement.kind === 'block') {
    const last = statement.body.at(-1);
    return last !== undefined && leaves(last);
  }
  return statement.kind === 'return' || statement.kind === 'break' || statement.kind === 'continue';
}

function parseStatement(p: Cursor): Node {
  const token = p.peek();
  if (token.kind === 'op' && token.text === '{') return parseBraces(p, 'this block');
  if (token.kind !== 'name') return parseExpressionStatement(p);
  switch (token.text) {
    case 'if':
      return parseIf(p);
    case 'for':
      return parseFor(p);
    case 'while':
      return parseWhile(p);
    case 'let':
      return parseLet(p);
    case 'return':
      return parseReturn(p);
    case 'break':
    case 'continue': {
      const kind = token.text;
      p.next();
      if (p.context.loops === 0) p.fail(token.at, `${kind} stands only inside a loop`);
      p.expectOp(';', `after ${kind}`);
      return p.node(token.at, { kind });
    }
    default:
      return parseExpressionStatement(p);
  }
}

function parseBraces(p: Cursor, owner: string): Node {
  const open = p.peek();
  p.expectOp('{', `to open ${owner}`);
  const body = p.nested(open.at, () => p.inBlock(() => parseBlock(p, '}')));
  p.expectOp('}', `to close ${owner}`);
  return body;
}

/**
 * The body of an if: braces, or (our addition) one statement, or nothing at all in `if
 * (condition)`.
 */
function parseIf(p: Cursor): Node {
  const { at } = p.next();
  const test = parseExpression(p);
  if (p.isOp('='))
    p.fail(p.peek().at, 'an assignment cannot be a condition', 'write == to compare');
  if (p.peek().kind === 'end') {
    const then = p.node(at, { kind: 'constant', value: true });
    const otherwise = p.node(at, { kind: 'constant', value: false });
    return p.node(at, { kind: 'if', test, then, otherwise }, test, then, otherwise);
  }
  const then = parseBranch(p, 'the if body');
  const otherwise = parseOtherwise(p);
  const children = otherwise === null ? [test, then] : [test, then, otherwise];
  return p.node(at, { kind: 'if', test, then, otherwise }, ...children);
}

function parseOtherwise(p: Cursor): Node | null {
  if (p.isName('elsif')) return p.nested(p.peek().at, () => parseIf(p));
  if (!p.isName('else')) return null;
  const { at } = p.next();
  if (p.isName('if')) p.fail(at, 'expected { after else', 'write elsif instead of `else if`');
  return parseBranch(p, 'the else body');
}

function parseBranch(p: Cursor, owner: string): Node {
  if (p.isOp('{')) return parseBraces(p, owner);
  const token = p.peek();
  if (token.kind !== 'name') p.fail(token, `expected { to open ${owner}`);
  const hint = WORD_HINTS.get(token.text);
  if (hint !== undefined && p.lookUp(token.text) === null)
    p.fail(token, `expected { to open ${owner}`, hint);
  return p.nested(token.at, () =>
    p.inBlock(() => {
      const statement = parseStatement(p);
      const ended = ['return', 'break', 'continue', 'if', 'for', 'while', 'block'].includes(
        statement.kind,
      );
      const hasValue = ended || !p.takeOp(';');
      return p.node(token.at, { kind: 'block', body: [statement], hasValue }, statement);
    }),
  );
}

function parseFor(p: Cursor): Node {
  const { at } = p.next();
  const variables = [p.next()];
  while (p.takeOp(',')) variables.push(p.next());
  if (variables.length > 2) p.fail(at, 'a for loop has one or two variables');
  if (!p.takeName('in'))
    p.fail(p.peek(), 'expected in after the loop variable', 'for x in history { ... }');
  const over = parseExpression(p);
  return p.inLoop(() => {
    const names = variables.map((token) => p.declare(token));
    const { result: body, cost } = p.measured(() => parseBraces(p, 'the loop body'));
    return p.node(at, { kind: 'for', names, over, loop: { body, cost } }, over, body);
  });
}

function parseWhile(p: Cursor): Node {
  const { at } = p.next();
  return p.inLoop(() => {
    const round = p.measured(() => {
      const test = parseExpression(p);
      return { test, body: parseBraces(p, 'the loop body') };
    });
    const { test, body } = round.result;
    return p.node(at, { kind: 'while', test, loop: { body, cost: round.cost } }, test, body);
  });
}

function parseLet(p: Cursor): Node {
  p.next();
  const name = p.next();
  if (!p.isOp('=')) p.fail(p.peek(), 'expected = after the variable name');
  p.next();
  const value = parseExpression(p);
  p.expectOp(';', 'after let');
  const target = p.node(name.at, { kind: 'variable', ref: p.declare(name) });
  return p.node(name.at, { kind: 'assign', target, value, define: true }, target, value);
}

function parseReturn(p: Cursor): Node {
  const { at } = p.next();
  if (p.takeOp(';')) return p.node(at, { kind: 'return', value: null });
  const value = parseExpression(p);
  p.expectOp(';', 'after the returned value');
  return p.node(at, { kind: 'return', value }, value);
}

function parseExpressionStatement(p: Cursor): Node {
  const first = p.peek();
  const isNew = first.kind === 'name' && p.isOp('=', 1) && p.lookUp(first.text) === null;
  if (isNew) {
    p.next();
    p.next();
    const value = p.nested(first.at, () => parseExpressionStatement(p));
    const target = p.node(first.at, { kind: 'variable', ref: p.declare(first) });
    return p.node(first.at, { kind: 'assign', target, value, define: false }, target, value);
  }
  const target = parseExpression(p);
  if (!p.isOp('=')) return target;
  const { at } = p.next();
  if (target.kind === 'scope') {
    p.fail(
      first.at,
      `${target.root} is given and cannot be changed`,
      'copy what you need with let; to compare, write ==',
    );
  }
  if (target.kind !== 'variable' && target.kind !== 'index' && target.kind !== 'property') {
    p.fail(first.at, 'this cannot be assigned to', 'write == to compare');
  }
  const value = p.nested(at, () => parseExpressionStatement(p));
  return p.node(at, { kind: 'assign', target, value, define: false }, target, value);
}
