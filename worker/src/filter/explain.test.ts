import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { FilterLanguage, FilterPlan } from '../plan/job-plan.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { compileAviator, watchAviator } from './aviator/aviator.ts';
import { shownValue } from './aviator/shown-value.ts';
import { type Step, TraceRecorder } from './aviator/trace.ts';
import { Dictionary, Entry } from './aviator/values.ts';
import { type Explanation, explainFilter, type TraceNode } from './explain.ts';
import { type FilterScope, plainScope } from './filter.ts';

const STEP_BUDGET = 100_000;

function planOf(script: string, language: FilterLanguage = 'aviator'): FilterPlan {
  return { language, script, origin: 'test', stepBudget: STEP_BUDGET };
}

const SCOPE = plainScope({
  event: { triggerable: true, amount: 70, name: 'buy' },
  user: { country: 'DE', tags: ['vip'] },
  visit: { event_count: 3 },
  history: [
    { name: 'view', amount: 1 },
    { name: 'buy', amount: 90 },
  ],
});

function explain(script: string, scope = SCOPE, language: FilterLanguage = 'aviator'): Explanation {
  return explainFilter(planOf(script, language), scope);
}

/** Script, its verdict, and the clause that decided as `line:column text = value`. */
const DECISIONS: readonly [string, Explanation['verdict'], string][] = [
  [
    'if (event.triggerable && user.country == "US") { return true; } return false;',
    'no-match',
    '1:26 user.country == "US" = false',
  ],
  ['event.triggerable && user.country == "US"', 'no-match', '1:22 user.country == "US" = false'],
  [
    'event.triggerable && (user.country == "DE")',
    'match',
    '1:1 event.triggerable && (user.country == "DE") = true',
  ],
  ['event.amount > 100 || user.country == "DE"', 'match', '1:23 user.country == "DE" = true'],
  [
    'event.amount > 100 || user.country == "US"',
    'no-match',
    '1:1 event.amount > 100 || user.country == "US" = false',
  ],
  [
    '!(event.triggerable && event.amount > 50)',
    'no-match',
    '1:1 !(event.triggerable && event.amount > 50) = false',
  ],
  ['!event.triggerable', 'no-match', '1:1 !event.triggerable = false'],
  [
    'if (event.amount > 100) { return true; }\n' +
      'if (user.country == "US") { return true; }\nreturn false;',
    'no-match',
    '3:1 return false; = false',
  ],
  [
    'if (event.triggerable) {\n  if (event.amount > 50) { return false; }\n' +
      '  return true;\n}\nreturn true;',
    'no-match',
    '2:7 event.amount > 50 = true',
  ],
  [
    'for x in history { if (x.amount > 50 && x.name == "buy") { return true; } } return false;',
    'match',
    '1:24 x.amount > 50 && x.name == "buy" = true',
  ],
  [
    'for x in history { if (x.amount > 95) { return true; } } return false;',
    'no-match',
    '1:58 return false; = false',
  ],
  [
    'event.amount > 50 ? user.country == "US" : true',
    'no-match',
    '1:21 user.country == "US" = false',
  ],
  ['let ok = event.amount > 5;\nok && user.country > 5', 'error', '2:7 user.country > 5 = null'],
  ['include(user.tags, "vip")', 'match', '1:1 include(user.tags, "vip") = true'],
  ['true', 'match', '1:1 true = true'],
];

test('the deciding clause is the innermost condition or return that fixed the verdict', () => {
  for (const [script, verdict, decided] of DECISIONS) {
    const { deciding, ...rest } = explain(script);
    assert.equal(rest.verdict, verdict, script);
    const { line, column, text, value } = deciding!;
    assert.equal(`${line}:${column} ${text} = ${JSON.stringify(value)}`, decided, script);
  }
});

test('the trace has the value of each part that ran, and no other', () => {
  const { trace } = explain('event.amount > 100 && user.country == "US" || visit.event_count > 2');
  assert.deepEqual(lines(trace!), [
    'event.amount > 100 && user.country == "US" || visit.event_count > 2 = true',
    '  event.amount > 100 && user.country == "US" = false',
    '    event.amount > 100 = false',
    '      event.amount = 70',
    '  visit.event_count > 2 = true',
    '    visit.event_count = 3',
  ]);
  const failed = explain('event.amount + 1 > user.country');
  assert.match(failed.error ?? '', /1:18/);
  assert.deepEqual(lines(failed.trace!), [
    'event.amount + 1 > user.country = null failed',
    '  event.amount + 1 = 71',
    '    event.amount = 70',
    '  user.country = "DE"',
  ]);
});

function lines(node: TraceNode, indent = ''): string[] {
  const line = `${indent}${node.text} = ${JSON.stringify(node.value)}`;
  const children = node.children.flatMap((child) => lines(child, `${indent}  `));
  return [node.failed ? `${line} failed` : line, ...children];
}

test('filtrex: the value and the names that were read', () => {
  const scope = { ...SCOPE, event: { ...SCOPE.event, 'a b': 1 } };
  const { trace, ...rest } = explain(
    'event.amount > 50 and user.country == "US"',
    scope,
    'filtrex',
  );
  assert.deepEqual(rest.verdict, 'no-match');
  assert.equal(rest.deciding, null);
  assert.deepEqual(
    trace!.children.map(({ text, column, value }) => [text, column, value]),
    [
      ['event.amount', 1, 70],
      ['user.country', 23, 'DE'],
    ],
  );
  const failed = explain('user.country + event', SCOPE, 'filtrex');
  assert.equal(failed.verdict, 'error');
  assert.equal(failed.trace!.failed, true);
});

test('long loops, long values and long traces are cut and say so', () => {
  const history: JsonValue[] = Array.from({ length: 1_000 }, (_, i) => ({ i, s: 'x'.repeat(999) }));
  const grown = plainScope({ ...SCOPE, history });
  const loop = explain('let n = 0; for x in history { n = n + x.i; } n > 5', grown);
  assert.equal(loop.truncated, false);
  assert.equal(loop.deciding?.text, 'n > 5');
  const rounds = find(loop.trace!, (node) => node.omitted !== undefined);
  assert.equal(rounds?.omitted, 1_001 - 40);
  assert.ok(JSON.stringify(loop).length < 100_000);

  const nested = 'let n = 0; for a in history { for b in range(0, 50) { n = n + a.i + b; } } n > 5';
  const plan = { ...planOf(nested), stepBudget: 100_000_000 };
  const long = explainFilter(plan, grown);
  assert.deepEqual([long.verdict, long.truncated, long.deciding], ['match', true, null]);
  assert.ok(JSON.stringify(long).length < 2_000_000);
});

function find(node: TraceNode, wanted: (node: TraceNode) => boolean): TraceNode | undefined {
  if (wanted(node)) return node;
  for (const child of node.children) {
    const found = find(child, wanted);
    if (found !== undefined) return found;
  }
  return undefined;
}

const corpus = JSON.parse(
  readFileSync(new URL('testdata/aviator-corpus.json', import.meta.url), 'utf8'),
) as { env: Omit<FilterScope, 'historyCount'>; cases: { expr: string }[] };
const corpusScope = plainScope(corpus.env);

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (thrown) {
    return { thrown: (thrown as JsonObject).message };
  }
}

test('a traced script does what the plain one does, and its steps are whole texts of it', () => {
  let steps = 0;
  for (const { expr } of corpus.cases) {
    const source = { script: expr, origin: 'corpus' };
    const recorder = new TraceRecorder(expr);
    const traced = outcome(() =>
      shownValue(
        watchAviator(source, STEP_BUDGET, (node, evaluate) => recorder.watch(node, evaluate))(
          corpusScope,
        ),
      ),
    );
    const plain = outcome(() => shownValue(compileAviator(source, STEP_BUDGET).run(corpusScope)));
    assert.deepEqual(traced, plain, expr);
    if (recorder.root !== null) steps += checked(recorder.root, expr);
  }
  assert.ok(steps > 2_000, `${steps}`);
});

test('the length of the history: as many steps, errors and the same trace as of the events', () => {
  const history = Array.from({ length: 100 }, (_, i) => ({ i }));
  const scope = plainScope({ ...SCOPE, history });
  const script = 'let n = 0; for x in range(0, 4) { n = n + count(history); } is_empty(history)';
  const ends = new Set<string>();
  for (let budget = 30; budget < 200; budget++) {
    const source = { script, origin: 'test' };
    const plain = outcome(() => compileAviator(source, budget).run(scope));
    const traced = outcome(() => watchAviator(source, budget, (_, evaluate) => evaluate)(scope));
    assert.deepEqual(plain, traced, `${budget}`);
    ends.add(JSON.stringify(plain));
  }
  assert.deepEqual([...ends], ['{"thrown":"step budget exceeded"}', 'false']);

  const { trace, deciding } = explain('count(history) > 1 && is_empty(history)');
  assert.equal(deciding?.text, 'is_empty(history)');
  assert.deepEqual(lines(trace!), [
    'count(history) > 1 && is_empty(history) = false',
    '  count(history) > 1 = true',
    '    count(history) = 2',
    `      history = ${JSON.stringify(SCOPE.history)}`,
    '  is_empty(history) = false',
    `    history = ${JSON.stringify(SCOPE.history)}`,
  ]);
});

/** Each step lies within its parent's text and has as many opening brackets as closing ones. */
function checked(step: Step, expr: string): number {
  const { from, to, kind } = step.node;
  if (kind === 'constant') return 1;
  const bare = expr.slice(from, to).replace(/'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\/[^/]*\//g, '');
  for (const pair of ['()', '[]', '{}']) {
    const [open, close] = [...pair].map((bracket) => bare.split(bracket).length);
    assert.equal(open, close, `${expr}: ${expr.slice(from, to)}`);
  }
  let count = 1;
  for (const inner of step.steps) {
    const isOwn = inner.node.from >= from && inner.node.to <= to;
    // A lambda runs where it is called, which may be behind the place where it stands.
    assert.ok(isOwn || expr.includes('lambda'), `${expr}: ${inner.text} in ${step.text}`);
    count += checked(inner, expr);
  }
  return count;
}

test('what is shown of a large value does not cost its size each time', () => {
  let listed = 0;
  const fields = Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`f${n}`, n]));
  const user = new Proxy(fields, {
    ownKeys: (target) => {
      listed++;
      return Reflect.ownKeys(target);
    },
  });
  const shown = [1, 2, 3].map(() => shownValue(user) as JsonObject);
  assert.equal(listed, 1);
  assert.deepEqual([shown[2]!['f9'], shown[2]!['f10'], shown[2]!['…']], [9, undefined, '290 more']);

  let read = 0;
  class Counted extends Map<unknown, Entry> {
    override *values(): MapIterator<Entry> {
      for (const entry of super.values()) {
        read++;
        yield entry;
      }
    }
  }
  const made = { entries: new Counted() };
  for (let n = 0; n < 300; n++) made.entries.set(n, new Entry(n, n));
  const dictionary = Object.assign(new Dictionary(), made);
  assert.equal((shownValue(dictionary) as JsonObject)['…'], '290 more');
  assert.ok(read < 20, `${read}`);
});
