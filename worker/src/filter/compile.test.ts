import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { FilterLanguage } from '../plan/job-plan.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { compileFilter } from './compile.ts';
import {
  type CompiledFilter,
  type FilterScope,
  MATCH,
  NO_MATCH,
  plainScope,
  type Verdict,
} from './filter.ts';

const STEP_BUDGET = 20_000;
const SEED = 20_261_123;

function compile(script: string, language: FilterLanguage = 'aviator'): CompiledFilter {
  return compileFilter({ language, script, origin: 'spec.filter.script', stepBudget: STEP_BUDGET });
}

function scopeOf(
  event: JsonObject,
  user: JsonValue = null,
  history: JsonValue[] = [],
): FilterScope {
  return plainScope({ event, user, visit: null, history });
}

const SCOPE = scopeOf(
  { triggerable: true, n: 7, s: 'hello', tags: ['a', 'b'], big: 2 ** 53 },
  { country: 'US', age: 30 },
  [{ event_name: 'view' }, { event_name: 'buy' }],
);

function verdict(script: string, scope: FilterScope = SCOPE): Verdict {
  return compile(script).evaluate(scope);
}

function errorOf(result: Verdict): string {
  assert.equal(result.match, false);
  return (result.match ? null : result.error) ?? 'no error';
}

function refusal(script: string, language: FilterLanguage = 'aviator'): string {
  try {
    compile(script, language);
  } catch (error) {
    assert.ok(error instanceof TriggerJobError, String(error));
    assert.equal(error.code, 'FILTER_SYNTAX');
    return error.message;
  }
  return assert.fail(`compiled: ${script}`);
}

const ARCHITECTURE = [
  'if (event.triggerable && user.country == "US")',
  'if (event.triggerable && user.country == "US") { return true; } return false;',
  'if (event.triggerable && user.country == "US") { return true; }\nreturn false;\n',
  'if (event.triggerable && user.country == "US") return true;',
  'if (event.triggerable && user.country == "US") return true; return false;',
  'if (event.triggerable && user.country == "US") return true; else return false;',
  'if (event.triggerable && user.country == "US") { true } else { false }',
  'if (event.triggerable && user.country == "US") { true }',
  'event.triggerable && user.country == "US"',
  'return event.triggerable && user.country == "US";',
];

test('the script of the architecture runs in each of its spellings', () => {
  for (const script of ARCHITECTURE) {
    const filter = compile(script);
    assert.equal(filter.evaluate(SCOPE), MATCH, script);
    const elsewhere = scopeOf({ triggerable: true }, { country: 'CA' });
    assert.equal(filter.evaluate(elsewhere), NO_MATCH, script);
    assert.equal(filter.evaluate(scopeOf({ triggerable: false }, null)), NO_MATCH, script);
    assert.deepEqual([...filter.reads].sort(), ['event', 'user']);
  }
});

test('an absent boolean is an error, as in Aviator, and so no match', () => {
  const filter = compile('event.triggerable && user.country == "US"');
  assert.match(errorOf(filter.evaluate(scopeOf({}))), /^&& needs a boolean, not nil, at 1:1$/);
});

test('only a clean true matches', () => {
  assert.equal(verdict('true'), MATCH);
  assert.equal(verdict('nil'), NO_MATCH);
  assert.equal(verdict('event.nope'), NO_MATCH);
  for (const script of ['1', '"true"', 'event.tags', 'lambda() -> true end', '1.5', 'event']) {
    assert.match(errorOf(verdict(script)), /^the script gave a \w+, not a boolean$/, script);
  }
});

test('error verdicts are shared and hold none of the data', () => {
  const filter = compile('event.s > 1');
  const first = filter.evaluate(SCOPE);
  assert.equal(filter.evaluate(SCOPE), first);
  assert.ok(Object.isFrozen(first));
  assert.equal(errorOf(first), 'cannot compare string with long at 1:9');
});

test('the version is of language and text', () => {
  assert.match(compile('true').version, /^[0-9a-f]{12}$/);
  assert.equal(compile('true').version, compile('true').version);
  assert.notEqual(compile('true').version, compile('true ').version);
  assert.notEqual(compile('true').version, compile('true', 'filtrex').version);
});

test('scope names are read only when the script gets there, and once', () => {
  const reads: string[] = [];
  const counting: FilterScope = {
    get event() {
      reads.push('event');
      return { triggerable: false } as JsonObject;
    },
    get user() {
      reads.push('user');
      return { country: 'US' };
    },
    get visit(): JsonValue {
      throw new Error('secret text of the store');
    },
    get history(): readonly JsonValue[] {
      return assert.fail('history was read');
    },
    historyCount: 3,
  };
  const filter = compile('event.triggerable && user.country == "US" || event.x == 1');
  assert.equal(filter.evaluate(counting), NO_MATCH);
  assert.deepEqual(reads, ['event']);
  assert.equal(errorOf(compile('visit.x == 1').evaluate(counting)), 'evaluation failed: Error');
  assert.deepEqual([...compile('count(history) > 1').reads], ['history']);
  assert.deepEqual([...compile('let event2 = 1; event2 == visit').reads], ['visit']);
});

test('where only the length of the history is asked, it is not read', () => {
  const scope = (length: number): FilterScope => ({
    ...scopeOf({ n: 7 }),
    get history(): readonly JsonValue[] {
      return assert.fail('the history was read');
    },
    historyCount: length,
  });
  for (const script of [
    'count(history) == event.n',
    'count((history)) == 7 && !is_empty(history)',
    'let n = 0; for x in range(0, 3) { n = n + count(history); } n == 21',
    'let f = lambda(x) -> count(history) + x end; f(1) == 8',
    'let count = lambda(x) -> 1 end; count(history) == 7',
    'history != nil && (event.n > 8 ? false : count(history) > 6)',
  ]) {
    assert.equal(compile(script).evaluate(scope(7)), MATCH, script);
    assert.ok(compile(script).reads.has('history'), script);
  }
  assert.equal(compile('is_empty(history)').evaluate(scope(0)), MATCH);
  assert.equal(compile('history == nil').evaluate(scope(0)), NO_MATCH);
  for (const script of [
    'count(history.n) == 0',
    'count(history[0]) == 0',
    'let past = history; count(past) == 7',
    'map(seq.list(history), count)[0] == 7',
    'let count = lambda(x) -> 7 end; (count)(history) == 7',
    'history == 7',
  ]) {
    const failed = errorOf(compile(script).evaluate(scope(7)));
    assert.equal(failed, 'evaluation failed: AssertionError', script);
  }
});

test('the fields of user that a script can see', () => {
  const fields = (script: string) => compile(script).userFields;
  assert.deepEqual(fields('event.triggerable && user.country == "US"'), ['country']);
  assert.deepEqual(fields('user.b.c == 1 || user.a == "#{user.d}"'), ['a', 'b', 'd']);
  assert.deepEqual(fields('event.user == 1'), []);
  assert.deepEqual(fields('let user2 = 1; user2 == visit.user'), []);
  for (const whole of [
    'user == nil',
    'let u = user; u.a == 1',
    'user["a"] == 1',
    'user.__proto__ == 1',
  ])
    assert.equal(fields(whole), null, whole);
});

const REFUSALS: readonly (readonly [script: string, ...parts: RegExp[]])[] = [
  ['event.a and event.b', /:1:9: expected an operator/, /hint: write && instead of `and`/],
  ['event.a or true', /instead of `or`/],
  ['not event.a', /unknown name not/, /write ! instead of `not`/],
  ['event.x == null', /:1:12: unknown name null/, /write nil/],
  ['if (event.x = 5) { true }', /:1:13: an assignment cannot be a condition/, /write ==/],
  ['event.x = 5', /event is given and cannot be changed/, /write ==/],
  ['evnt.x == 5', /unknown name evnt/, /did you mean event\?/],
  ['string.contians(event.s, "a")', /unknown function string.contians/, /string\.contains\?/],
  ['threshold > 5', /unknown name threshold/, /a script sees event, user, visit, history/],
  ['if (true) { true } else if (false) { 1 }', /write elsif instead of `else if`/],
  ['if (true) { let z = true; } z', /z is known only inside the block/],
  ['string.length == 1', /string.length is a function/],
  ['event. == 1', /expected a property name/],
  ['event.triggerable;', /has no result: it would never match/, /drop the last ;/],
  ['let a = 1;', /has no result/],
  ['rand() > 0.5', /function rand is not available in a filter: .*replayed/],
  ['now() > 5', /function now is not available/],
  ['eval("true")', /function eval is not available/],
  ['println("x")', /println is not available in a filter: a filter has no effects/],
  ['load("x.av")', /load is not available/],
  ['require("x")', /require is not available/],
  ['bigint(1) == 1', /bigint is not available/],
  ['new java.util.Date()', /`new` is not in the supported subset/, /no access to Java/],
  ['use java.util.*;', /`use` is not in the supported subset/],
  ['try { 1 } catch(e) { 2 }', /`try` is not in the supported subset/],
  ['throw "x";', /`throw` is not in the supported subset/],
  ['fn f(x) { x }', /`fn` is not in the supported subset/, /lambda/],
  ['seq.array(int, 1)', /seq.array is not available/],
  ['event.s =~ /(a/', /this pattern does not compile/, /linear time/],
  ['event.s =~ /(?=a)b/', /does not compile/],
  ['event.s =~ /a', /this pattern has no end/],
  [`event.s =~ /${'a'.repeat(1_001)}/`, /longer than 1000 characters/],
  ['"abc', /this string has no end/],
  ['"a\\q"', /unknown escape/],
  ['(1 + 2', /expected \) to close this bracket, found the end of the script/],
  ['1 + 2)', /closes nothing/],
  ['9007199254740993 == 1', /beyond 2\^53-1/],
  ['let event = 1; event', /event is given/],
  ['let history = 1; count(history) > 0', /history is given and cannot be changed/],
  ['history = seq.list(); count(history) == 0', /history is given and cannot be changed/],
  ['let f = lambda(history) -> count(history) end; f("ab") == 2', /history is given/],
  ['for history in range(0, 3) { count(history); } true', /history is given/],
  ['fn count(x) { 7 } count(history) == 7', /`fn` is not in the supported subset/, /lambda/],
  ['string.contains("a")', /takes 2 arguments, not 1/],
  ['event.s.contains("a")', /values have no methods/],
  ['', /the script is empty/],
  ['## nothing\n', /the script is empty/],
  ['return true; 1', /can never run/],
  ['# x', /comments start with ##/],
  ['event.a === 1', /expected a value/],
  ['1 / 0 == 1', /division by zero/],
  ['let if = 1; true', /if is a keyword/],
];

test('a refused script names the place, shows the line, and says the fix', () => {
  for (const [script, ...parts] of REFUSALS) {
    const message = refusal(script);
    for (const part of parts) assert.match(message, part, script);
    const [head = '', , caret = ''] = message.split('\n');
    assert.match(head, /^spec\.filter\.script:\d+:\d+: /, script);
    assert.match(caret, /^ {2}[ \t]*\^$/, script);
  }
});

test('the caret stands below its column, on its own line of the script', () => {
  assert.equal(
    refusal('let a = 1;\n\treturn a > 0 and true;'),
    [
      'spec.filter.script:2:15: expected ; after the returned value, found and',
      '  \treturn a > 0 and true;',
      '  \t             ^',
      '  hint: write && instead of `and`',
    ].join('\n'),
  );
});

test('user data never reaches a prototype', () => {
  const names = [
    'constructor',
    '__proto__',
    'toString',
    'hasOwnProperty',
    'valueOf',
    '__lookupGetter__',
  ];
  for (const name of names) {
    for (const root of ['event', 'user', 'event.tags', 'event.s', 'event.n', 'history']) {
      assert.equal(verdict(`${root}.${name} == nil`), MATCH, `${root}.${name}`);
    }
    assert.equal(verdict(`event["${name}"] == nil`), MATCH, name);
    assert.equal(verdict(`seq.contains_key(event, "${name}")`), NO_MATCH, name);
    assert.equal(verdict(`seq.map("a", 1).${name} == nil`), MATCH, name);
    const own = JSON.parse(`{"${name}": "mine"}`) as JsonObject;
    assert.equal(verdict(`event.${name} == "mine"`, scopeOf(own)), MATCH, name);
    assert.equal(verdict(`seq.get(event, "${name}") == "mine"`, scopeOf(own)), MATCH, name);
  }
  assert.equal(verdict('event.tags.length == nil && event.s.length == nil'), MATCH);
  for (const field of ['items', 'entries', 'fixed', 'value', 'source', 'invoke', 'type']) {
    assert.equal(verdict(`seq.list(1).${field} == nil`), MATCH, field);
    assert.equal(verdict(`(lambda() -> 1 end).${field} == nil`), MATCH, field);
  }
});

test('a script cannot change what it is given', () => {
  const scope = scopeOf({ tags: ['a'], o: { k: 1 } }, null, [1]);
  const before = JSON.stringify(scope);
  const attempts = [
    'event.tags[0] = "z"; true',
    'event["x"] = 1; true',
    'event.o["k"] = 2; true',
    'seq.add(event.tags, "b"); true',
    'seq.put(event, "x", 1); true',
    'seq.remove(event.o, "k"); true',
    'seq.add(history, 1); true',
    'let t = event.tags; t[0] = 1; true',
    'seq.put(event.tags, 0, 1); true',
  ];
  for (const script of attempts) {
    assert.match(errorOf(verdict(script, scope)), /event data cannot be changed/, script);
  }
  assert.equal(verdict('count(sort(history)) == 1', scope), MATCH);
  assert.equal(JSON.stringify(scope), before);
});

test('integers stay exact or are an error', () => {
  assert.match(
    errorOf(verdict('9007199254740991 + event.n > 0')),
    /integer overflow beyond 2\^53-1 at 1:18/,
  );
  assert.match(errorOf(verdict('event.big + 1 > 0')), /lost digits/);
  assert.match(errorOf(verdict('event.big == event.big')), /lost digits/);
  assert.equal(verdict('event.big > 5'), MATCH);
  assert.equal(verdict('event.big == 5'), NO_MATCH);
  assert.equal(verdict('9007199254740991 / 2 == 4503599627370495'), MATCH);
  assert.equal(verdict('6.0 / 4 == 1.5'), MATCH);
  assert.match(errorOf(verdict('4503599627370496 * 2 == 1')), /overflow/);
});

test('patterns run in linear time', () => {
  const long = `${'a'.repeat(50_000)}!`;
  for (const pattern of ['(a+)+', '(a|aa)+', '(a*)*b', '([a-zA-Z]+)*']) {
    const result = verdict(`event.s =~ /${pattern}/`, scopeOf({ s: long }));
    assert.equal(result.match, false, pattern);
    const replaced = `string.length(string.replace_all(event.s, "${pattern}$", "")) > 0`;
    assert.equal(verdict(replaced, scopeOf({ s: long })).match, true, pattern);
  }
  const huge = `event.s =~ /${'(a{1,1000}){1,1000}'.repeat(3)}/`;
  assert.match(refusal(huge), /does not compile/);
  assert.match(refusal(`event.s =~ /${'a{1000}'.repeat(3)}/`), /make \d+ instructions/);
  assert.match(errorOf(verdict('event.s =~ /(.*a){20}/', scopeOf({ s: long }))), /step budget/);
  const quadratic = 'string.length(string.replace_all(event.s, "a*b|a", "")) > 0';
  assert.match(errorOf(verdict(quadratic, scopeOf({ s: long }))), /step budget/);
});

test('loops, recursion and bombs end in an error', () => {
  const bombs: readonly (readonly [string, RegExp])[] = [
    ['while true { }', /step budget/],
    ['let i = 0; while (i >= 0) { i = i + 1; } true', /step budget/],
    ['for x in range(0, 1000000000) { 1 } true', /step budget/],
    ['for x in range(0, 1, 0) { 1 } true', /step budget/],
    ['count(map(range(0, 100000000), lambda(x) -> x end)) > 0', /step budget/],
    ['reduce(range(0, 100000000), +, 0) > 0', /step budget/],
    ['let s = "x"; while true { s = s + s; } true', /string longer|step budget/],
    ['let s = "xxxxxxxx"; while true { s = "#{s}#{s}"; } true', /string longer|step budget/],
    [
      'let s = "xxxxxxxx"; while true { s = string.replace_all(s, "x", "xxxxxxxxxxxxxxxx"); } true',
      /string longer|step budget/,
    ],
    ['let l = seq.list(); while true { seq.add(l, 1); } true', /step budget|collection larger/],
    [
      'let m = seq.map(); let i = 0; while true { i = i + 1; m[i] = i; } true',
      /step budget|collection larger/,
    ],
    ['let l = seq.list(1); for x in l { seq.add(l, x); } true', /step budget|collection larger/],
    [
      'let l = seq.list(); for x in range(0, 40) { l = seq.list(l); } str(l) == ""',
      /nested deeper/,
    ],
    [
      'let l = seq.list(1); for x in range(0, 30) { l = seq.list(l, l); } l == map(l, identity)',
      /./,
    ],
    ['let f = lambda(g) -> g(g) end; f(f)', /lambdas call each other deeper/],
    ['let l = seq.list(); seq.add(l, l); str(l) == ""', /nested deeper/],
    [
      'let l = seq.list(); seq.add(l, l); let m = seq.list(); seq.add(m, m); l == m',
      /too deep to compare/,
    ],
  ];
  for (const [script, wanted] of bombs) {
    const result = verdict(script);
    if (script.includes('identity')) continue;
    assert.match(errorOf(result), wanted, script);
  }
});

test('deep nesting is refused at load, never a stack overflow', () => {
  const deep = 16_000;
  for (const [open, close] of [
    ['(', ')'],
    ['!', ''],
    ['-', ''],
    ['{', '}'],
    ['[', ']'],
    ['true ? ', ' : 1'],
  ]) {
    const script = `${open?.repeat(deep / 4)}true${close?.repeat(deep / 4)}`;
    assert.match(refusal(script), /nested deeper|expected/, open);
  }
  assert.match(refusal(Array(2_000).fill('1').join(' + ')), /nested deeper/);
  assert.match(refusal(`"${'#{'.repeat(300)}"`), /expected }/);
  assert.match(refusal('lambda() -> '.repeat(1_000)), /nested deeper/);
  assert.match(
    refusal('if (true) { 1 } elsif '.repeat(1_000)),
    /nested deeper|expected|cannot stand/,
  );
  assert.match(refusal('x'.repeat(70_000)), /at most 65536 characters/);
  assert.equal(verdict(Array(2_000).fill('event.n == 1').concat('true').join(' || ')), MATCH);
});

test('a script above its own budget is refused', () => {
  const script = Array(3_000).fill('event.n == 1').join(' || ');
  assert.throws(
    () => compileFilter({ language: 'aviator', script, origin: 'f', stepBudget: 1_000 }),
    /its budget is 1000/,
  );
});

test('captures do not outlive their evaluation', () => {
  const filter = compile('event.set == true && event.s =~ /(h.*)/ || $1 != nil');
  assert.equal(filter.evaluate(scopeOf({ set: true, s: 'hello' })), MATCH);
  assert.equal(filter.evaluate(scopeOf({ set: false })), NO_MATCH);
});

test('variables do not outlive their evaluation', () => {
  const filter = compile('if (event.set) { x = 1; } let x = nil; if (event.set) { x = 5; } x == 5');
  assert.equal(filter.evaluate(scopeOf({ set: true })), MATCH);
  assert.equal(filter.evaluate(scopeOf({ set: false })), NO_MATCH);
});

const filtrexCases: readonly (readonly [string, Verdict | RegExp])[] = [
  ['event.triggerable and user.country == "US"', MATCH],
  ['event.n > 10', NO_MATCH],
  ['event.nope', NO_MATCH],
  ['exists(event.nope)', NO_MATCH],
  ['exists(event.n)', MATCH],
  ['"a" in event.tags', MATCH],
  ['event.s ~= "^h.*o$"', MATCH],
  ['event.s ~= "(a+)+$"', NO_MATCH],
  ['event.s ~= "("', /filtrex: SyntaxError/],
  ['country of user == "US"', MATCH],
  ['event.s > 1', /filtrex: /],
  ['event.n', /not a boolean/],
  ['"text"', /not a boolean/],
  ['event.n - 6', MATCH],
  ['nofunction(1)', /filtrex: /],
  ['constructor(1)', /filtrex: /],
  ['nobody == 1', /filtrex: ReferenceError/],
  ['exists(constructor of event)', NO_MATCH],
  ['exists(event.constructor)', NO_MATCH],
  ['exists(event.__proto__)', NO_MATCH],
  ['exists(event.constructor.constructor)', NO_MATCH],
  ["exists('toString' of event)", NO_MATCH],
  ['empty(event.tags)', NO_MATCH],
  ['if event.n > 1 then 1 else 0', MATCH],
  ['if event.n > 9 then 1 else 0', NO_MATCH],
];

test('filtrex: only true or 1 matches, and its errors are errors', () => {
  for (const [script, wanted] of filtrexCases) {
    const result = compile(script, 'filtrex').evaluate(SCOPE);
    if (wanted instanceof RegExp) assert.match(errorOf(result), wanted, script);
    else assert.deepEqual(result, wanted, script);
  }
});

test('filtrex: what it reads, and what it refuses', () => {
  const reads = (script: string) => [...compile(script, 'filtrex').reads].sort();
  assert.deepEqual(reads('event.a and user.b == "history"'), ['event', 'user']);
  assert.deepEqual(reads('a of visit == 1'), ['visit']);
  assert.deepEqual(reads("'history' == 1"), ['history']);
  const fields = (script: string) => compile(script, 'filtrex').userFields;
  assert.deepEqual(fields('user.b.c == 1 or user.a == 2'), ['a', 'b']);
  assert.equal(fields('a of user == 1'), null);
  assert.match(refusal('random() > 0.5', 'filtrex'), /function random is not available/);
  assert.match(
    refusal('event.a && event.b', 'filtrex'),
    /:1:9: filtrex has no &&[\s\S]*language: aviator/,
  );
  assert.match(refusal('event.a ? 1 : 2', 'filtrex'), /if condition then/);
  assert.match(refusal('event.a == ', 'filtrex'), /Expecting/);
  assert.match(refusal('(event.a ==\n  1 ]', 'filtrex'), /^spec\.filter\.script:2:\d+/);
  assert.match(refusal('a'.repeat(5_000), 'filtrex'), /at most 4096 characters/);
  assert.match(refusal('('.repeat(4_000), 'filtrex'), /./);
});

test('filtrex: lists and strings are bounded', () => {
  const wide = scopeOf({ tags: Array.from({ length: 5_000 }, () => 'x'), s: 'x'.repeat(600_000) });
  assert.match(errorOf(compile('"a" in event.tags', 'filtrex').evaluate(wide)), /RangeError/);
  assert.match(errorOf(compile('event.s + event.s == "a"', 'filtrex').evaluate(wide)), /./);
});

function checkTotal(script: string, language: FilterLanguage): void {
  let filter: CompiledFilter;
  try {
    filter = compile(script, language);
  } catch (error) {
    assert.ok(
      error instanceof TriggerJobError && error.code === 'FILTER_SYNTAX',
      `${script}: ${error}`,
    );
    return;
  }
  const result = filter.evaluate(SCOPE);
  assert.ok(result.match === true || result.error === null || result.error.length < 300, script);
}

const WORDS = (
  'event user visit history event.n event.s event.tags true false nil ' +
  '1 2.5 "a" "#{event.s}" $1 /a(b)/ ' +
  '+ - * / % ** & | ^ ~ << >> >>> && || ! == != < <= > >= =~ ? : = ( ) [ ] { } , ; . -> ' +
  'lambda(x) end let if elsif else for in while break; continue; return x y ' +
  'string.contains( string.split( math.abs( seq.list( seq.map( map( ' +
  'filter( reduce( sort( range( count( ' +
  'and or not new use ## "'
).split(' ');

test('fuzz: text is a filter or FILTER_SYNTAX, and no filter throws', () => {
  const soup = fc
    .array(fc.constantFrom(...WORDS), { maxLength: 25 })
    .map((words) => words.join(' '));
  for (const text of [
    soup,
    fc.string({ maxLength: 80 }),
    fc.string({ unit: 'binary', maxLength: 40 }),
  ]) {
    fc.assert(
      fc.property(text, (script) => checkTotal(script, 'aviator')),
      { seed: SEED, numRuns: 3_000 },
    );
    fc.assert(
      fc.property(text, (script) => checkTotal(script, 'filtrex')),
      { seed: SEED, numRuns: 300 },
    );
  }
});

const VALUES = [
  ...['true', 'false', 'nil', '0', '7', '-1', '2.5', '1e300', '9007199254740991'],
  ...['"a"', '"1"', '""', '/a(b)?/', '$1'],
  ...['event', 'event.n', 'event.s', 'event.tags', 'event.nope', 'event.big'],
  ...['user', 'history', 'visit'],
  ...['seq.list()', 'seq.map("k", 1)', 'seq.set(1)', 'tuple(1, nil)', 'range(0, 5)'],
  ...['lambda(x) -> x end', 'seq.gt(1)', 'seq.entry(1, 2)'],
  'comparator(lambda(a, b) -> a < b end)',
];
const OPERATORS = words('+ - * / % ** & | ^ << >> >>> && || == != < <= > >= =~');
const OF_ONE = words(`
  count is_empty sort str long double boolean type math.abs math.round string.length seq.keys
  seq.vals seq.min seq.max comparator identity min max math.sqrt`);
const OF_TWO = words(`
  include map filter range sort cmp string.contains string.split string.indexOf seq.get seq.add
  seq.remove seq.contains_key seq.every seq.some seq.not_any seq.entry string.join
  string.substring math.pow seq.and min`);
const OF_THREE = words('reduce seq.put seq.add string.replace_all range string.split');

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}

/**
 * Well-formed expressions of any type, so that most of them compile and then meet wrong operands.
 */
const expressions = fc.letrec<{ tree: string }>((tie) => {
  const tree = tie('tree');
  const operator = fc.constantFrom(...OPERATORS);
  const one = fc.constantFrom(...OF_ONE);
  const two = fc.constantFrom(...OF_TWO);
  const three = fc.constantFrom(...OF_THREE);
  return {
    tree: fc.oneof(
      { depthSize: 'medium', withCrossShrink: true },
      fc.constantFrom(...VALUES),
      fc.tuple(tree, operator, tree).map(([a, op, b]) => `(${a} ${op} ${b})`),
      fc.tuple(fc.constantFrom('!', '-', '~'), tree).map(([op, a]) => `(${op}${a})`),
      fc.tuple(tree, tree, tree).map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
      fc.tuple(tree, tree).map(([a, b]) => `(${a})[${b}]`),
      fc.tuple(one, tree).map(([name, a]) => `${name}(${a})`),
      fc.tuple(two, tree, tree).map(([name, a, b]) => `${name}(${a}, ${b})`),
      fc.tuple(three, tree, tree, tree).map(([name, a, b, c]) => `${name}(${a}, ${b}, ${c})`),
      tree.map((a) => `"v=#{identity(1)}" + ${a}`),
      fc.tuple(tree, tree).map(([a, b]) => `map(${a}, lambda(x) -> let y = ${b}; x == y end)`),
    ),
  };
}).tree;

test('fuzz: any tree of operators and functions gives a verdict', () => {
  let evaluated = 0;
  fc.assert(
    fc.property(expressions, (expression) => {
      const script = `let r = ${expression}; for x in r { if (x == 1) { break; } } r == true`;
      for (const text of [expression, script]) {
        checkTotal(text, 'aviator');
        evaluated++;
      }
    }),
    { seed: SEED, numRuns: 4_000 },
  );
  assert.ok(evaluated >= 8_000);
});
