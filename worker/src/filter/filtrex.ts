/**
 * The filtrex language, with its open ends closed. filtrex compiles to JavaScript (`new
 * Function`): its
 * grammar only ever emits calls of the functions and operators given here, and every name passes
 * through
 * `readPath`, which sees own properties only. Where `new Function` is forbidden, use aviator.
 */
import { compileExpression } from 'filtrex';
import { MAX_STRING_CHARS } from './aviator/limits.ts';
import { PatternCache } from './aviator/regex.ts';
import { Fault } from './aviator/values.ts';
import type { FilterScope, ScopeName } from './filter.ts';
import { type SourceText, syntaxError } from './syntax-error.ts';

/** filtrex has no loops: time is bounded by the length of the script and of the values it names. */
const MAX_FILTREX_CHARS = 4_096;
/** `in` compares every element with every other. */
const MAX_LIST_LENGTH = 4_096;

const SCOPE_NAMES: readonly ScopeName[] = ['event', 'user', 'visit', 'history'];
/**
 * A string, a quoted symbol or a symbol; and the deprecated operators, which write to the console.
 */
export const FILTREX_TOKEN =
  /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[a-zA-Z$_][.a-zA-Z0-9$_]*|&&|\|\||[?:%!=~<>]+/g;

const OPERATOR_HINTS: ReadonlyMap<string, string> = new Map([
  ['?', 'write `if condition then value else value`'],
  [':', 'write `if condition then value else value`'],
  ['%', 'write `a mod b`'],
  ['&&', 'filtrex writes `and`; or set language: aviator'],
  ['||', 'filtrex writes `or`; or set language: aviator'],
  ['!', 'filtrex writes `not`; or set language: aviator'],
  ['=~', 'filtrex writes ~= with a string; or set language: aviator'],
]);

interface FiltrexProgram {
  readonly reads: ReadonlySet<ScopeName>;
  readonly userPaths: readonly (readonly string[])[];
  /** The value, or an Error object: filtrex returns its errors. Throws when the scope does. */
  run(scope: FilterScope): unknown;
}

/** `onRead`: told each name the script reads and its value, when a run is to be explained. */
export function compileFiltrex(
  source: SourceText,
  onRead: ((name: string, value: unknown) => void) | null = null,
): FiltrexProgram {
  const { script } = source;
  if (script.length > MAX_FILTREX_CHARS) {
    throw syntaxError(source, 0, `a filtrex script has at most ${MAX_FILTREX_CHARS} characters`);
  }
  const { reads, userPaths } = inspect(source);
  const patterns = new PatternCache();
  let current: FilterScope | null = null;
  const plain = (name: string, _get: unknown, target: unknown, type: string): unknown =>
    readPath(name, target, type, current);
  const told: typeof plain = (name, get, target, type) => {
    const value = plain(name, get, target, type);
    onRead?.(name, value);
    return value;
  };
  const reader = onRead === null ? plain : told;
  let run: (scope: FilterScope) => unknown;
  try {
    // The package's types know only its own unknown type.
    run = compileExpression(script, {
      customProp: reader as never,
      operators: {
        '~=': (a: unknown, b: unknown) => matches(patterns, a, b),
        '+': join,
      } as never,
    }) as (scope: FilterScope) => unknown;
  } catch (error) {
    throw translated(source, error);
  }
  return {
    reads,
    userPaths,
    run(scope) {
      current = scope;
      try {
        return run(scope);
      } finally {
        current = null;
      }
    },
  };
}

/**
 * Collects the scope names and refuses what must not run, with a better message than the parser's.
 */
function inspect(source: SourceText): Pick<FiltrexProgram, 'reads' | 'userPaths'> {
  const reads = new Set<ScopeName>();
  const userPaths: string[][] = [];
  for (const { 0: token, index } of source.script.matchAll(FILTREX_TOKEN)) {
    if (token.startsWith('"')) continue;
    if (token === 'random') {
      const reason = 'a filter must give the same answer when a record is replayed';
      throw syntaxError(source, index, `function random is not available in a filter: ${reason}`);
    }
    const hint = OPERATOR_HINTS.get(token);
    if (hint !== undefined) throw syntaxError(source, index, `filtrex has no ${token}`, hint);
    const [name = '', ...path] = token.replaceAll("'", '').split('.');
    if (SCOPE_NAMES.includes(name as ScopeName)) reads.add(name as ScopeName);
    if (name === 'user') userPaths.push(path);
  }
  return { reads, userPaths };
}

/** `a.b.c`, or one name when it was quoted; from the scope, or from `x of value`. */
function readPath(name: string, target: unknown, type: string, scope: FilterScope | null): unknown {
  const path = type === 'single-quoted' ? [name] : name.split('.');
  let value = target;
  for (const [index, key] of path.entries()) {
    if (index === 0 && target === scope) {
      if (!SCOPE_NAMES.includes(key as ScopeName)) throw new ReferenceError('unknown name');
      value = scope?.[key as ScopeName];
    } else {
      const isOwn = typeof value === 'object' && value !== null && Object.hasOwn(value, key);
      value = isOwn ? (value as Record<string, unknown>)[key] : undefined;
    }
  }
  if (Array.isArray(value) && value.length > MAX_LIST_LENGTH) {
    throw new RangeError(`list longer than ${MAX_LIST_LENGTH} elements`);
  }
  return value;
}

function matches(patterns: PatternCache, subject: unknown, pattern: unknown): boolean {
  if (typeof subject !== 'string' || typeof pattern !== 'string') {
    throw new TypeError('~= needs two strings');
  }
  const { regex, problem } = patterns.get(pattern);
  if (regex === null) throw new SyntaxError(problem);
  return regex.test(subject);
}

function join(a: unknown, b: unknown): number | string {
  const isValue = (x: unknown): x is number | string =>
    typeof x === 'number' || typeof x === 'string';
  if (!isValue(a) || !isValue(b)) throw new TypeError('+ needs numbers or strings');
  const result = typeof a === 'number' && typeof b === 'number' ? a + b : `${a}${b}`;
  if (typeof result === 'string' && result.length > MAX_STRING_CHARS) {
    throw new Fault(`string longer than ${MAX_STRING_CHARS} characters`);
  }
  return result;
}

/** filtrex shows the text before the fault, cut at 20 characters, above a row of dashes. */
function translated(source: SourceText, error: unknown): Error {
  const [, shown = '', dashes = '', expected] = (error instanceof Error ? error.message : '').split(
    '\n',
  );
  const before = shown.slice(0, dashes.indexOf('^')).replace(/^\.\.\./, '');
  // The parser takes line breaks out of what it shows, so the place is found in text without them.
  const positions = [...source.script.matchAll(/[^\r\n]/g)].map((match) => match.index);
  const flat = positions.map((index) => source.script[index]).join('');
  const found = before === '' ? -1 : flat.indexOf(before);
  const offset = found < 0 ? 0 : (positions[found + before.length] ?? source.script.length);
  return syntaxError(source, offset, expected?.trim() || 'filtrex cannot compile this script');
}
