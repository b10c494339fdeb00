/**
 * Checks JSON in its bytes, and splits an array into the exact texts of its objects, in one pass
 * that builds nothing. JSON.parse of a history of 13 KB and a second walk over its text for the
 * elements took half of the client's time; parsing and printing the elements again was rejected in
 * any case: it alters numbers (1.0, 12345678901234567890), escapes and repeated names.
 *
 * All functions take bytes that are valid UTF-8 and an index; those that look for an end return the
 * index after it, or BAD. Reading beyond the end gives undefined, which is no byte of the grammar.
 */
import { isAscii } from 'node:buffer';

/**
 * Objects and arrays within each other. JSON.parse sets no limit, but what prints or walks the
 * value later recurses: one user nested 10,000 deep would end the slot at each of its events.
 */
export const MAX_JSON_DEPTH = 1_000;

const BAD = -1;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;
const PLUS = 0x2b;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const LETTER_E = 0x65;
const LETTER_U = 0x75;
/** ASCII letters differ from their upper case in this bit. */
const LOWER_CASE = 0x20;
/** Also the first character that may stand in a string as it is. */
const SPACE = 0x20;
const TRUE = Buffer.from('true');
const FALSE = Buffer.from('false');
const NULL = Buffer.from('null');
/** What may follow a backslash, besides `u` and four digits. */
const ESCAPES = new Set([QUOTE, BACKSLASH, SLASH, ...Buffer.from('bfnrt')]);

/** Whether `bytes`, valid UTF-8, are the text of one JSON object and of nothing else. */
export function isJsonObjectText(bytes: Buffer): boolean {
  const start = afterSpace(bytes, 0);
  if (bytes[start] !== OPEN_BRACE) return false;
  const end = endOfObject(bytes, start + 1, 1);
  return end !== BAD && afterSpace(bytes, end) === bytes.length;
}

/**
 * The exact texts of the objects of a JSON array, in order; null when `bytes`, valid UTF-8, are not
 * the text of an array of objects.
 */
export function jsonObjectTexts(bytes: Buffer): string[] | null {
  let at = afterSpace(bytes, 0);
  if (bytes[at] !== OPEN_BRACKET) return null;
  at = afterSpace(bytes, at + 1);
  // Each text is made from its own bytes: a slice of one string would keep all of it alive, 16 MB
  // for one remembered event of 150 bytes.
  const encoding = isAscii(bytes) ? 'latin1' : 'utf8';
  const texts: string[] = [];
  if (bytes[at] === CLOSE_BRACKET) at += 1;
  else {
    for (;;) {
      if (bytes[at] !== OPEN_BRACE) return null;
      const end = endOfObject(bytes, at + 1, 2);
      if (end === BAD) return null;
      texts.push(bytes.toString(encoding, at, end));
      at = afterSpace(bytes, end);
      const code = bytes[at];
      at += 1;
      if (code === CLOSE_BRACKET) break;
      if (code !== COMMA) return null;
      at = afterSpace(bytes, at);
    }
  }
  return afterSpace(bytes, at) === bytes.length ? texts : null;
}

function endOfValue(bytes: Buffer, at: number, depth: number): number {
  switch (bytes[at]) {
    case QUOTE:
      return endOfString(bytes, at + 1);
    case OPEN_BRACE:
      return endOfObject(bytes, at + 1, depth + 1);
    case OPEN_BRACKET:
      return endOfArray(bytes, at + 1, depth + 1);
    case TRUE[0]:
      return endOfWord(bytes, at, TRUE);
    case FALSE[0]:
      return endOfWord(bytes, at, FALSE);
    case NULL[0]:
      return endOfWord(bytes, at, NULL);
    default:
      return endOfNumber(bytes, at);
  }
}

/** `at` is after the opening brace. */
function endOfObject(bytes: Buffer, at: number, depth: number): number {
  if (depth > MAX_JSON_DEPTH) return BAD;
  let next = afterSpace(bytes, at);
  if (bytes[next] === CLOSE_BRACE) return next + 1;
  for (;;) {
    if (bytes[next] !== QUOTE) return BAD;
    next = endOfString(bytes, next + 1);
    if (next === BAD) return BAD;
    next = afterSpace(bytes, next);
    if (bytes[next] !== COLON) return BAD;
    next = endOfValue(bytes, afterSpace(bytes, next + 1), depth);
    if (next === BAD) return BAD;
    next = afterSpace(bytes, next);
    const code = bytes[next];
    if (code === CLOSE_BRACE) return next + 1;
    if (code !== COMMA) return BAD;
    next = afterSpace(bytes, next + 1);
  }
}

/** `at` is after the opening bracket. */
function endOfArray(bytes: Buffer, at: number, depth: number): number {
  if (depth > MAX_JSON_DEPTH) return BAD;
  let next = afterSpace(bytes, at);
  if (bytes[next] === CLOSE_BRACKET) return next + 1;
  for (;;) {
    next = endOfValue(bytes, next, depth);
    if (next === BAD) return BAD;
    next = afterSpace(bytes, next);
    const code = bytes[next];
    if (code === CLOSE_BRACKET) return next + 1;
    if (code !== COMMA) return BAD;
    next = afterSpace(bytes, next + 1);
  }
}

/** `at` is after the opening quote. */
function endOfString(bytes: Buffer, at: number): number {
  const { length } = bytes;
  for (let next = at; next < length; next++) {
    const code = bytes[next]!;
    if (code === QUOTE) return next + 1;
    if (code < SPACE) return BAD;
    if (code !== BACKSLASH) continue;
    next += 1;
    const escaped = bytes[next] ?? 0;
    if (escaped === LETTER_U) {
      for (const end = next + 4; next < end; next++) if (!isHexDigit(bytes[next + 1])) return BAD;
    } else if (!ESCAPES.has(escaped)) return BAD;
  }
  return BAD;
}

function endOfWord(bytes: Buffer, at: number, word: Buffer): number {
  for (let i = 1; i < word.length; i++) if (bytes[at + i] !== word[i]) return BAD;
  return at + word.length;
}

function endOfNumber(bytes: Buffer, at: number): number {
  let next = bytes[at] === MINUS ? at + 1 : at;
  // No digit may follow a leading zero; what comes instead is for the caller to judge.
  next = bytes[next] === ZERO ? next + 1 : endOfDigits(bytes, next);
  if (next !== BAD && bytes[next] === DOT) next = endOfDigits(bytes, next + 1);
  if (next === BAD || ((bytes[next] ?? 0) | LOWER_CASE) !== LETTER_E) return next;
  const sign = bytes[next + 1];
  return endOfDigits(bytes, sign === PLUS || sign === MINUS ? next + 2 : next + 1);
}

/** At least one digit. */
function endOfDigits(bytes: Buffer, at: number): number {
  let next = at;
  while (isDigit(bytes[next])) next += 1;
  return next === at ? BAD : next;
}

function isDigit(code: number | undefined): boolean {
  return code !== undefined && code >= ZERO && code <= NINE;
}

function isHexDigit(code: number | undefined): boolean {
  if (code === undefined || isDigit(code)) return code !== undefined;
  const lower = code | LOWER_CASE;
  return lower >= 0x61 && lower <= 0x66;
}

function afterSpace(bytes: Buffer, at: number): number {
  let next = at;
  while (next < bytes.length) {
    const code = bytes[next]!;
    // Asked first: without it, and with reads beyond the end, a whole pass took 1.7 times as long.
    if (code > SPACE) break;
    if (code !== SPACE && code !== 0x0a && code !== 0x0d && code !== 0x09) break;
    next += 1;
  }
  return next;
}
