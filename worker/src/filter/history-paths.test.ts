import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planOf } from '../plan/job-for-tests.ts';
import { compileFilter } from './compile.ts';

const PLAN = planOf({}).filter;

function pathsOf(script: string): string[] | null {
  const { historyPaths } = compileFilter({ ...PLAN, script });
  return historyPaths === null ? null : historyPaths.map((path) => path.join('.'));
}

/** Scripts, and the paths of events that they can see. */
const SEEN: readonly (readonly [string, readonly string[]])[] = [
  ['event.triggerable && user.country == "US"', []],
  ['count(history) > 3', []],
  ['history == nil || is_empty(history)', []],
  ['history.name == nil', []],
  ['count(filter(history, lambda(e) -> e.name == "buy" end)) > 2', ['name']],
  ['count(filter(history, lambda(e) -> e.a == event.a && e.b.c > 1 end)) > 2', ['a', 'b.c']],
  ['seq.some(history, lambda(e) -> e.name == "buy" end) != nil', ['name']],
  ['seq.some(history, lambda(e) -> e.name == "buy" end).cart.total > 5', ['cart.total', 'name']],
  ['seq.every(history, lambda(e) -> !e.bot end)', ['bot']],
  ['seq.not_any(history, lambda(e) -> e.bot end)', ['bot']],
  ['seq.every(history, seq.gt(0, "n"))', ['n']],
  ['count(filter(history, seq.and(seq.eq(1, "a.b"), seq.exists()))) == 1', ['a.b']],
  ['history[0].name == history[count(history) - 1].name', ['name']],
  ['seq.get(history, 0).name == "buy"', ['name']],
  ['reduce(history, lambda(sum, e) -> sum + e.price end, 0) > 100', ['price']],
  [
    'reduce(history, lambda(last, e) -> e.at > last.at ? e : last end, history[0]).x > 1',
    ['at', 'x'],
  ],
  ['seq.max(map(history, lambda(e) -> e.price end)) > 100', ['price']],
  ['count(map(filter(history, lambda(e) -> e.a end), lambda(e) -> e end)) > 1', ['a']],
  ['seq.some(map(history, lambda(e) -> e end), lambda(e) -> e.a end) == nil', ['a']],
  ['let past = history; let buys = filter(past, lambda(e) -> e.a end); count(buys) > 1', ['a']],
  ['for e in history { if (e.name == "buy") { return true; } } return false;', ['name']],
  ['let n = 0; for i, e in history { n = n + i * e.a; } n > 1', ['a']],
  // The loop's first statement reads what its last one assigned.
  [
    'let l = nil; for e in history { if (l.name == e.name) { return true; } l = e; } false',
    ['name'],
  ],
  ['let one = event.a ? history[0] : history[1]; one.b == 1', ['b']],
  ['let f = lambda(x) -> x > 1 end; count(filter(history, lambda(e) -> f(e.n) end)) > 0', ['n']],
  [
    'count(filter(history, lambda(e) -> seq.every(event.x, lambda(t) -> t == e.tag end) end)) > 0',
    ['tag'],
  ],
  ['"#{history[0].name}" == "buy"', ['name']],
  ['count(filter(history, lambda(e) -> string.contains(e.page, "x") end)) > 0', ['page']],
];

test('paths of events that a script can see', () => {
  for (const [script, paths] of SEEN) assert.deepEqual(pathsOf(script), paths, script);
});

/** What lets an event, or a list of them, out of sight. */
const WHOLE = [
  'history == event.list',
  'history[0] == history[1]',
  'include(history, event.x)',
  'count(history[0]) > 1',
  'count(seq.keys(history[0])) > 1',
  'seq.contains_key(history[0], "a")',
  'history[0]["name"] == "buy"',
  'history[0][event.field] == "buy"',
  'count(seq.list(history)) == 1',
  'count(sort(map(history, lambda(e) -> e end))) > 1',
  'let kept = seq.list(); for e in history { seq.add(kept, e); } count(kept) > 1',
  'let m = seq.map(); for e in history { m.last = e; } m.last.name == "buy"',
  'let f = lambda(e) -> e.name == "buy" end; f(history[0])',
  'let f = lambda(e) -> e.name == "buy" end; count(filter(history, f)) > 0',
  'let f = lambda() -> history[0] end; f().name == "buy"',
  'count(filter(history, seq.eq(event.x))) > 0',
  'count(filter(history, seq.eq(1, event.field))) > 0',
  'count(map(history, count)) > 0',
  'reduce(history, seq.eq(1, "n"), 0)',
  'reduce(history, lambda(l, e) -> e end, history) == nil',
  'count(map(history, lambda(e) -> history end)) > 1',
  'count(map(range(0, 2), lambda(i) -> history[i] end)) > 1',
  'for e in history { for k, v in e { if (v == 1) { return true; } } } return false;',
  '"#{history}" == "x"',
  'let x = history; x = history[0]; x.name == "buy"',
  'history[0].__proto__ == nil',
  'history && true',
];

test('where an event gets out of sight, a script may look at the whole of it', () => {
  for (const script of WHOLE) assert.equal(pathsOf(script), null, script);
});

test('calls within calls are looked at once each', () => {
  let script = 'history';
  for (let i = 0; i < 60; i++) script = `filter(${script}, lambda(e) -> count(history) > 0 end)`;
  assert.deepEqual(pathsOf(`count(${script}) > 0`), []);
});

test('filtrex has no way to look into an event', () => {
  const filter = compileFilter({ ...PLAN, language: 'filtrex', script: 'event.a == 1' });
  assert.equal(filter.historyPaths, null);
});
