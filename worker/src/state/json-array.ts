/**
 * Splits a JSON array into the exact texts of its elements, for history that is kept as it was
 * sent.
 */
import { TriggerJobError } from '../runtime/errors.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/**
 * The top-level elements in order, without the white space around them. `text` must be a JSON
 * array that JSON.parse has accepted: that is what makes a scan for quotes and brackets enough.
 * Parsing and stringifying the elements was rejected: it alters numbers (1.0,
 * 12345678901234567890), escapes and repeated names. Throws TriggerJobError JSON_ARRAY when `text`
 * is no array.
 */
export function splitJsonArray(text: string): string[] {
  let at = skipSpace(text, 0);
  if (text.charCodeAt(at) !== OPEN_BRACKET) throw noArray();
  at = skipSpace(text, at + 1);
  if (text.charCodeAt(at) === CLOSE_BRACKET) return [];
  const copy = copier(text);
  const elements: string[] = [];
  let start = at;
  let depth = 0;
  for (; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at);
        break;
      case OPEN_BRACKET:
      case OPEN_BRACE:
        depth += 1;
        break;
      case CLOSE_BRACE:
        depth -= 1;
        break;
      case CLOSE_BRACKET:
        if (depth === 0) {
          elements.push(copy(start, at));
          return elements;
        }
        depth -= 1;
        break;
      case COMMA:
        if (depth === 0) {
          elements.push(copy(start, at));
          start = at + 1;
        }
        break;
    }
  }
  throw noArray();
}

/** Index of the closing quote of the string that opens at `at`. */
function endOfString(text: string, at: number): number {
  for (let next = at + 1; next < text.length; next++) {
    const code = text.charCodeAt(next);
    if (code === QUOTE) return next;
    if (code === BACKSLASH) next += 1;
  }
  throw noArray();
}

function skipSpace(text: string, at: number): number {
  let next = at;
  while (isSpace(text.charCodeAt(next))) next += 1;
  return next;
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}

/**
 * A slice of a string keeps the whole parent alive: one remembered event of 150 bytes would hold an
 * answer of 16 MB. Through a buffer each element becomes a string of its own.
 */
function copier(text: string): (start: number, end: number) => string {
  // UTF-8 can't hold lone surrogates; UTF-16 holds anything, but as two bytes per character for
  // good.
  const encoding = text.isWellFormed() ? 'utf8' : 'utf16le';
  return (start, end) => {
    const first = skipSpace(text, start);
    let last = end;
    while (last > first && isSpace(text.charCodeAt(last - 1))) last -= 1;
    return Buffer.from(text.slice(first, last), encoding).toString(encoding);
  };
}

function noArray(): TriggerJobError {
  return new TriggerJobError('JSON_ARRAY', 'the text is no JSON array');
}
