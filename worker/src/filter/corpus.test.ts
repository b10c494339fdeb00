/**
 * Our AviatorScript against the real one: every case of testdata/aviator-corpus.json, whose values
 * e2e/aviator/generate.ts took from the jar.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compileAviator } from './aviator/aviator.ts';
import { FUNCTION_NAMES } from './aviator/functions.ts';
import { lex, type Token } from './aviator/lexer.ts';
import {
  Dictionary,
  Double,
  Entry,
  FunctionValue,
  isList,
  List,
  Pattern,
  Range,
  SetValue,
  type Value,
} from './aviator/values.ts';
import { type FilterScope, plainScope } from './filter.ts';

interface Case {
  expr: string;
  type?: string;
  value?: unknown;
  error?: string;
  differs?: string;
}

const MAX_DIFFERENCES = 10;
const MIN_CASES_EACH = 8;
const STEP_BUDGET = 100_000;

const corpus = JSON.parse(
  readFileSync(new URL('testdata/aviator-corpus.json', import.meta.url), 'utf8'),
) as { aviator: string; env: Omit<FilterScope, 'historyCount'>; cases: Case[] };

/** The encoding of AviatorCorpus.java: longs end in L, doubles in D, strings start with a quote. */
function encode(value: Value): unknown {
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'string') return `'${value}`;
  if (typeof value === 'number') return Number.isInteger(value) ? `${value}L` : javaDouble(value);
  if (value instanceof Double) return javaDouble(value.value);
  if (value instanceof List) return value.items.map(encode);
  if (isList(value)) return value.map(encode);
  if (value instanceof SetValue) return sortedByText([...value.items.values()].map(encode));
  if (value instanceof Entry) return [encode(value.key), encode(value.value)];
  if (value instanceof Pattern) return 'pattern';
  if (value instanceof FunctionValue) return value.ordering === null ? 'function' : 'other:';
  if (value instanceof Range) return 'other:Range';
  if (value instanceof Dictionary) return encodePairs([...value.entries.values()]);
  return encodePairs(Object.entries(value).map(([key, item]) => new Entry(key, item as Value)));
}

function encodePairs(pairs: readonly Entry[]): unknown {
  const encoded = pairs.map((p) => [JSON.stringify(encode(p.key)), encode(p.value)] as const);
  return Object.fromEntries(encoded.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function sortedByText(items: unknown[]): unknown[] {
  return items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

/** Compared as numbers: Java and JavaScript need not spell a double alike. */
function javaDouble(value: number): string {
  return Number.isInteger(value) ? `${value}.0D` : `${value}D`;
}

function normal(encoded: unknown): unknown {
  if (typeof encoded === 'string' && /^[^'].*D$/.test(encoded)) {
    return javaDouble(Number(encoded.slice(0, -1)));
  }
  if (Array.isArray(encoded)) return encoded.map(normal);
  if (typeof encoded !== 'object' || encoded === null) return encoded;
  return Object.fromEntries(Object.entries(encoded).map(([key, value]) => [key, normal(value)]));
}

function ours(expr: string): { value?: unknown; error?: string } {
  try {
    const program = compileAviator({ script: expr, origin: 'corpus' }, STEP_BUDGET);
    return { value: encode(program.run(plainScope(corpus.env))) };
  } catch (thrown) {
    return { error: (thrown as { message: string }).message };
  }
}

function agrees(testCase: Case): boolean {
  const result = ours(testCase.expr);
  if (testCase.error !== undefined) return result.error !== undefined;
  if (result.error !== undefined) return false;
  return JSON.stringify(normal(result.value)) === JSON.stringify(normal(testCase.value));
}

test('every case has the value of the real AviatorScript', () => {
  const wrong = corpus.cases
    .filter((testCase) => testCase.differs === undefined && !agrees(testCase))
    .map((testCase) => `${JSON.stringify(testCase)} -> ${JSON.stringify(ours(testCase.expr))}`);
  assert.deepEqual(wrong, []);
});

test('the differences are few, explained, and still there', () => {
  const differing = corpus.cases.filter((testCase) => testCase.differs !== undefined);
  assert.ok(differing.length <= MAX_DIFFERENCES, `${differing.length} differ`);
  for (const testCase of differing) {
    assert.ok((testCase.differs ?? '').length > 10, testCase.expr);
    assert.equal(agrees(testCase), false, `no longer differs: ${testCase.expr}`);
  }
});

const OPERATORS = ('|| && ! == != < <= > >= =~ + - * / % ** & | ^ ~ << >> >>> ? [ ( = ' + '{ ; . $')
  .split(/\s+/)
  .filter((word) => word !== '');
const KEYWORDS =
  'true false nil lambda end let if elsif else for in while break continue return'.split(' ');

function tokensOf(expr: string): Token[] {
  try {
    return lex({ script: expr, origin: 'corpus' }, { text: expr, offsetOf: (index) => index });
  } catch {
    return [];
  }
}

/** What a case is about: its operators and words, functions by their dotted name. */
function topics(expr: string): Set<string> {
  const found = new Set<string>();
  const tokens = tokensOf(expr);
  for (const [i, token] of tokens.entries()) {
    if (token.kind === 'op') found.add(token.text);
    if (token.kind !== 'name') continue;
    found.add(token.text);
    if (/^\$\d/.test(token.text)) found.add('$');
    const member = tokens[i + 1]?.text === '.' ? tokens[i + 2]?.text : undefined;
    if (member !== undefined) found.add(`${token.text}.${member}`);
  }
  if (expr.includes('##')) found.add('##');
  if (/#\{/.test(expr)) found.add('#{');
  return found;
}

/** Legal in Aviator, surely not meant in a filter: the engine agrees, compileFilter refuses. */
const REFUSED_AS_FILTERS = 13;

test('legal scripts that a filter refuses all the same are few and listed', (t) => {
  const complaints = corpus.cases.flatMap(({ expr, differs }) => {
    if (differs !== undefined) return [];
    try {
      const { complaint } = compileAviator({ script: expr, origin: 'corpus' }, STEP_BUDGET);
      return complaint === null ? [] : [`${expr}  <- ${complaint.problem}`];
    } catch {
      return [];
    }
  });
  for (const line of complaints) t.diagnostic(line);
  assert.equal(complaints.length, REFUSED_AS_FILTERS);
});

test('every operator, keyword and function has at least eight cases', () => {
  const counts = new Map<string, number>();
  for (const { expr } of corpus.cases) {
    for (const topic of topics(expr)) counts.set(topic, (counts.get(topic) ?? 0) + 1);
  }
  const wanted = [...OPERATORS, ...KEYWORDS, '##', '#{', ...FUNCTION_NAMES];
  const thin = wanted.filter((topic) => (counts.get(topic) ?? 0) < MIN_CASES_EACH);
  assert.deepEqual(
    thin.map((topic) => `${topic}: ${counts.get(topic) ?? 0}`),
    [],
  );
  assert.ok(corpus.cases.length >= 300);
});
