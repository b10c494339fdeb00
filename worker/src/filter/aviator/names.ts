/** Words that mean something to a reader of other languages, and functions left out on purpose. */

const IMPURE = 'a filter must give the same answer when a record is replayed';
const JAVA = 'a filter has no access to Java classes';
const EFFECT = 'a filter has no effects';
const PRECISION = 'numbers are 53-bit integers and doubles';

/** Aviator functions that are refused at load, and why. */
export const REFUSED_FUNCTIONS: ReadonlyMap<string, string> = new Map([
  ['rand', IMPURE],
  ['now', IMPURE],
  ['sysdate', IMPURE],
  ['date_to_string', 'dates depend on the time zone of the machine'],
  ['string_to_date', 'dates depend on the time zone of the machine'],
  ['bigint', PRECISION],
  ['decimal', PRECISION],
  ['println', EFFECT],
  ['print', EFFECT],
  ['p', EFFECT],
  ['pst', EFFECT],
  ['assert', EFFECT],
  ['eval', 'a script cannot make another script'],
  ['load', 'a script cannot load another script'],
  ['require', 'a script cannot load another script'],
  ['seq.array', JAVA],
  ['seq.new_array', JAVA],
  ['is_a', JAVA],
  ['meta', JAVA],
  ['with_meta', JAVA],
  ['without_meta', JAVA],
]);

/** Aviator keywords outside the subset, and why. */
export const REFUSED_KEYWORDS: ReadonlyMap<string, string> = new Map([
  ['new', JAVA],
  ['use', JAVA],
  ['try', 'a run-time error is no match, so there is nothing to catch'],
  ['catch', 'a run-time error is no match, so there is nothing to catch'],
  ['finally', 'a run-time error is no match, so there is nothing to catch'],
  ['throw', 'return false instead'],
  ['fn', 'write `let name = lambda(x) -> ... end;`'],
]);

export const KEYWORDS: ReadonlySet<string> = new Set([
  'true',
  'false',
  'nil',
  'lambda',
  'end',
  'let',
  'if',
  'elsif',
  'else',
  'for',
  'in',
  'while',
  'break',
  'continue',
  'return',
  ...REFUSED_KEYWORDS.keys(),
]);

/** What a word of another language is called here. */
export const WORD_HINTS: ReadonlyMap<string, string> = new Map([
  ['and', 'write && instead of `and`'],
  ['AND', 'write && instead of `AND`'],
  ['or', 'write || instead of `or`'],
  ['OR', 'write || instead of `OR`'],
  ['not', 'write ! instead of `not`'],
  ['NOT', 'write ! instead of `NOT`'],
  ['null', 'write nil instead of `null`'],
  ['undefined', 'write nil instead of `undefined`'],
  ['None', 'write nil instead of `None`'],
  ['NULL', 'write nil instead of `NULL`'],
  ['True', 'write true'],
  ['False', 'write false'],
  ['TRUE', 'write true'],
  ['FALSE', 'write false'],
  ['elseif', 'write elsif'],
  ['elif', 'write elsif'],
  ['var', 'write let'],
  ['const', 'write let'],
  ['function', 'write lambda(x) -> ... end'],
  ['is', 'write =='],
  ['matches', 'write =~ /pattern/'],
]);

/** What an operator of another language is called here. */
export const OPERATOR_HINTS: ReadonlyMap<string, string> = new Map([
  ['=', 'write == to compare'],
  ['->', 'a lambda is `lambda(x) -> x > 1 end`'],
]);
