/**
 * A script says the same of whole events and of columns with what it names of them: over generated
 * scripts and histories. The second test takes one path away and sees the first one's check fail.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compileFilter } from '../filter/compile.ts';
import { type CompiledFilter, plainScope } from '../filter/filter.ts';
import { planOf } from '../plan/job-for-tests.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { HistoryView } from '../state/history-view.ts';

const PLAN = planOf({}).filter;
const RUNS = { seed: 11, numRuns: 4_000 };

const PATHS = ['a', 'b', 'n.x', 'n.y', 'n', 'constructor', 'list'];
const path = fc.constantFrom(...PATHS);
const leaf = fc.constantFrom<JsonValue>(null, true, false, 0, 1, 2.5, -1, 'a', 'b', 'US');
const value = fc.oneof({ weight: 6, arbitrary: leaf }, fc.constant<JsonValue>([1]));
const nested = fc.dictionary(fc.constantFrom('x', 'y'), leaf, { maxKeys: 2 });
const event: fc.Arbitrary<JsonObject> = fc.record(
  {
    a: value,
    b: leaf,
    n: fc.oneof({ weight: 4, arbitrary: nested as fc.Arbitrary<JsonValue> }, leaf),
    constructor: leaf,
    list: fc.constant<JsonValue>([]),
    other: leaf,
  },
  { requiredKeys: [] },
) as fc.Arbitrary<JsonObject>;

const constant = fc.constantFrom('nil', 'true', '1', '0', '2.5', '"a"', '"US"', 'event.a');
const operator = fc.constantFrom('==', '!=', '<', '>=');

const test1 = (e: string) =>
  fc.oneof(
    fc.tuple(path, operator, constant).map(([p, op, c]) => `${e}.${p} ${op} ${c}`),
    fc.tuple(path, path).map(([p, q]) => `${e}.${p} == ${e}.${q}`),
    path.map((p) => `string.length("#{${e}.${p}}") > 1`),
    fc.constant(`${e} != nil`),
  );
const condition = (e: string) =>
  fc
    .array(test1(e), { minLength: 1, maxLength: 2 })
    .chain((parts) => fc.constantFrom(' && ', ' || ').map((by) => parts.join(by)));

const list = fc.oneof(
  { weight: 3, arbitrary: fc.constant('history') },
  condition('e').map((c) => `filter(history, lambda(e) -> ${c} end)`),
  path.map((p) => `filter(history, seq.neq(1, "${p}"))`),
  condition('m').map((c) => `map(filter(history, lambda(m) -> ${c} end), lambda(m) -> m end)`),
);

const script = fc.oneof(
  list.map((l) => `count(${l}) > 1`),
  fc.tuple(list, condition('s')).map(([l, c]) => `seq.some(${l}, lambda(s) -> ${c} end) == nil`),
  fc.tuple(list, condition('s'), test1('found')).map(([l, c, t]) => {
    return `let found = seq.some(${l}, lambda(s) -> ${c} end); ${t}`;
  }),
  fc.tuple(list, condition('s')).map(([l, c]) => `seq.every(${l}, lambda(s) -> ${c} end)`),
  fc.tuple(list, condition('e')).map(([l, c]) => {
    return `for e in ${l} { if (${c}) { return true; } } return false;`;
  }),
  fc.tuple(list, path).map(([l, p]) => {
    const body = `if (l != nil && l.${p} == e.${p}) { return true; } l = e;`;
    return `let l = nil; for e in ${l} { ${body} } false`;
  }),
  fc.tuple(list, path).map(([l, p]) => `reduce(${l}, lambda(s, e) -> s + e.${p} end, 0) > 1`),
  fc.tuple(list, path, path).map(([l, p, q]) => {
    return `reduce(${l}, lambda(s, e) -> e.${p} == 1 ? e : s end, history[0]).${q} == 1`;
  }),
  fc.tuple(list, path, constant).map(([l, p, c]) => `${l}[0].${p} == ${c}`),
  fc
    .tuple(list, path, constant)
    .map(([l, p, c]) => `include(map(${l}, lambda(e) -> e.${p} end), ${c})`),
);

interface Counts {
  judged: number;
  matched: number;
  failed: number;
  different: number;
}

/** `paths`: those of the filter, or fewer. */
function compared(
  filter: CompiledFilter,
  paths: readonly (readonly string[])[],
  given: { event: JsonObject; history: JsonObject[]; later: JsonObject[] },
  counts: Counts,
): void {
  const fields = { paths, retired: false };
  const view = new HistoryView();
  view.take([...given.history], fields);
  let events = given.history;
  for (const next of given.later) {
    events = [...events, next].slice(-4);
    view.push(next, events.length);
  }
  const history = view.known(fields);
  // A value does not fit: the rows are read, and whole events judged.
  if (history === null || view.hasParsed) return;
  const scope = { event: given.event, user: null, visit: null };
  const whole = filter.evaluate(plainScope({ ...scope, history: events }));
  const seen = filter.evaluate(plainScope({ ...scope, history }));
  counts.judged++;
  if (whole.match) counts.matched++;
  else if (whole.error !== null) counts.failed++;
  if (JSON.stringify(whole) !== JSON.stringify(seen)) counts.different++;
}

const cases = fc.record({
  script,
  event: fc.record({ a: leaf }) as fc.Arbitrary<JsonObject>,
  history: fc.array(event, { maxLength: 4 }),
  later: fc.array(event, { maxLength: 3 }),
});

function judgeAll(fewer: boolean): Counts {
  const counts = { judged: 0, matched: 0, failed: 0, different: 0 };
  const run = fc.property(cases, ({ script: text, ...given }) => {
    const filter = compileFilter({ ...PLAN, script: text });
    assert.ok(filter.historyPaths !== null, text);
    const paths = fewer ? filter.historyPaths.slice(1) : filter.historyPaths;
    const before = counts.different;
    compared(filter, paths, given, counts);
    if (!fewer) assert.equal(counts.different, before, text);
  });
  fc.assert(run, RUNS);
  return counts;
}

test('columns with what a script names give the verdict, and the error, of whole events', () => {
  const { judged, matched, failed } = judgeAll(false);
  for (const [what, count] of Object.entries({ judged, matched, failed })) {
    assert.ok(count > RUNS.numRuns / 20, `${what}: ${count} of ${RUNS.numRuns}`);
  }
});

test('with a path less they do not: the check can see it', () => {
  assert.ok(judgeAll(true).different > RUNS.numRuns / 20);
});
