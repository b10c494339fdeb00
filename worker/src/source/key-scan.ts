/**
 * The routing key in the bytes of a raw event (P24): found where that provably equals the parsed
 * value, else left to a parse. Two routes for one user would be two states, so "probably the same"
 * is never an answer.
 *
 * The proof for a JSON text without a backslash, which is nearly every one (`find`). A quote begins
 * or ends a string there and nothing else, and between two strings stands a comma, a colon or a
 * bracket, which a SIMPLE_FIELD has not. So `"field"` is a string of its own; a colon after it
 * makes it a key; it is on the top level if no bracket but that of the first byte opens before it;
 * its value is the bytes between two quotes. A second key of that name would be a second `"field"`,
 * so if there is only one, this is what a parse gives, and if none, a parse finds no such field.
 *
 * The proof for all others (`#walk`). The walk steps through the top level of one object and gives
 * up ("unknown") at any byte that JSON does not allow there, at a key with an escape or a byte
 * above 0x7e, at a second key of the wanted name, and where the wanted value is anything but a
 * string of printable ASCII without escapes. What is left is a key whose bytes are its text, once,
 * at depth one. Values of other fields are stepped over: inside a string only `"` and `\` matter,
 * inside a nested value only strings and the depth.
 *
 * Neither proves that the text is JSON: `{"user_id":"a","n":nul}` has the key `a` although a parse
 * fails. That is sound only because the state task parses every event again and dead-letters it; a
 * broken text has no user whose state could split. The same holds for bytes that are no UTF-8.
 */
import { isUtf8 } from 'node:buffer';
import type { ValueBytes } from '../exchange/frame.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import { NameSearch, NONE } from './name-search.ts';

/** Longer user ids are dead letters: the key is in every row of the user (bytes of UTF-8). */
export const MAX_KEY_BYTES = 1024;

/** Fields that the first proof holds for. */
const SIMPLE_FIELD = /^[\w$@-]{2,128}$/;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

export type RoutingKey = { key: string } | { poison: string };

/** absent: a parse would find no such field; unknown: parse it. */
export type KeyAnswer = 'found' | 'absent' | 'unknown';

export class KeyScan {
  readonly #field: string;
  readonly #search: NameSearch | null;
  /** After `found`: the key is the text of the bytes from here ... */
  keyStart = 0;
  /** ... to here. */
  keyEnd = 0;
  /** No backslash lies in `#bytes` between these two. */
  #bytes: Buffer | null = null;
  #searchedFrom = 0;
  #backslash = 0;

  constructor(field: string) {
    this.#field = field;
    this.#search = SIMPLE_FIELD.test(field) ? NameSearch.of(field) : null;
  }

  /** Looks for the field in the text from `start` to `end`. Never throws. */
  find(source: ValueBytes, start: number, end: number): KeyAnswer {
    const { bytes } = source;
    if (this.#search === null || this.#hasBackslash(bytes, start, end)) {
      return this.#walk(bytes, start, end, false);
    }
    const at = this.#search.only(source, start, end);
    if (at === NONE) return 'absent';
    if (at < 0) return this.#walk(bytes, start, end, false);
    if (hasOpening(source, start + 1, at)) return this.#walk(bytes, start, end, true);
    return this.#stringAt(bytes, at + this.#field.length + 2, end);
  }

  /**
   * One native search serves all events up to the next backslash: a few per batch, as record
   * headers between the events hold such a byte now and then.
   */
  #hasBackslash(bytes: Buffer, start: number, end: number): boolean {
    if (bytes !== this.#bytes || start < this.#searchedFrom || start > this.#backslash) {
      this.#bytes = bytes;
      this.#searchedFrom = start;
      const found = bytes.indexOf(BACKSLASH, start);
      this.#backslash = found < 0 ? bytes.length : found;
    }
    return this.#backslash < end;
  }

  /** The value after a key: a colon and a string without escapes. */
  #stringAt(bytes: Buffer, from: number, end: number): KeyAnswer {
    let at = skipSpace(bytes, from, end);
    if (at >= end || bytes[at] !== COLON) return 'unknown';
    at = skipSpace(bytes, at + 1, end);
    if (at >= end || bytes[at] !== QUOTE) return 'unknown';
    this.keyStart = ++at;
    while (at < end && bytes[at] !== QUOTE) at++;
    this.keyEnd = at;
    return at < end ? 'found' : 'unknown';
  }

  /** `isUnique`: the field's name is in the text once, and no escape can spell it. */
  #walk(bytes: Buffer, start: number, end: number, isUnique: boolean): KeyAnswer {
    let at = skipSpace(bytes, start, end);
    if (at >= end || bytes[at] !== OPEN_BRACE) return 'unknown';
    at = skipSpace(bytes, at + 1, end);
    let isFound = false;
    if (at < end && bytes[at] === CLOSE_BRACE) {
      return closesText(bytes, at, end) ? 'absent' : 'unknown';
    }
    while (at < end) {
      if (bytes[at] !== QUOTE) return 'unknown';
      const nameStart = at + 1;
      const nameEnd = plainStringEnd(bytes, nameStart, end);
      if (nameEnd < 0) return 'unknown';
      const wanted = isName(bytes, nameStart, nameEnd, this.#field);
      if (wanted && isFound) return 'unknown';
      at = skipSpace(bytes, nameEnd + 1, end);
      if (at >= end || bytes[at] !== COLON) return 'unknown';
      at = skipSpace(bytes, at + 1, end);
      if (wanted) {
        if (at >= end || bytes[at] !== QUOTE) return 'unknown';
        this.keyStart = at + 1;
        this.keyEnd = plainStringEnd(bytes, at + 1, end);
        if (this.keyEnd < 0) return 'unknown';
        if (isUnique) return 'found';
        isFound = true;
        at = this.keyEnd + 1;
      } else {
        at = valueEnd(bytes, at, end);
        if (at < 0) return 'unknown';
      }
      at = skipSpace(bytes, at, end);
      if (at < end && bytes[at] === COMMA) {
        at = skipSpace(bytes, at + 1, end);
        continue;
      }
      if (at >= end || bytes[at] !== CLOSE_BRACE || !closesText(bytes, at, end)) return 'unknown';
      return isFound ? 'found' : 'absent';
    }
    return 'unknown';
  }
}

/**
 * The key of one event as text, or why it has none. What the source makes of an event (KeyRouter),
 * for those who do not count nanoseconds.
 */
export function routingKey(value: Buffer, field: string): RoutingKey {
  const scan = new KeyScan(field);
  const answer = scan.find({ bytes: value, view: viewOf(value) }, 0, value.length);
  const { keyStart, keyEnd } = scan;
  const isKey = answer === 'found' && keyEnd > keyStart && keyEnd - keyStart <= MAX_KEY_BYTES;
  const key = isKey ? value.subarray(keyStart, keyEnd) : null;
  return key !== null && isUtf8(key) ? { key: key.toString() } : parsedKey(value, field);
}

/** The key, or a short stable text for the dead letter. */
export function parsedKey(value: Buffer, field: string): RoutingKey {
  if (!isUtf8(value)) return { poison: 'not valid UTF-8' };
  let event: JsonValue;
  try {
    event = JSON.parse(value.toString('utf8')) as JsonValue;
  } catch {
    return { poison: 'not valid JSON' };
  }
  if (!isJsonObject(event)) return { poison: 'not a JSON object' };
  if (!Object.hasOwn(event, field)) return { poison: `${field} is missing` };
  const key = event[field];
  if (typeof key !== 'string') return { poison: `${field} is not a string` };
  if (key === '') return { poison: `${field} is empty` };
  // A lone surrogate has no UTF-8 form: two such users would meet in one row of the state.
  if (!key.isWellFormed()) return { poison: `${field} is not well-formed Unicode` };
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) {
    return { poison: `${field} is longer than ${MAX_KEY_BYTES} bytes` };
  }
  return { key };
}

/** Whether an object or array opens between `from` and `end`, or a string holds such a byte. */
function hasOpening({ bytes, view }: ValueBytes, from: number, end: number): boolean {
  let at = from;
  for (const last = end - 4; at <= last; at += 4) {
    // One bit apart, both become zero bytes; the rest is the usual test for one in a word.
    const zeroed = (view.getInt32(at, true) | 0x20202020) ^ 0x7b7b7b7b;
    if (((zeroed - 0x01010101) & ~zeroed & 0x80808080) !== 0) return true;
  }
  for (; at < end; at++) if ((bytes[at]! | 0x20) === OPEN_BRACE) return true;
  return false;
}

function skipSpace(bytes: Buffer, from: number, end: number): number {
  let at = from;
  while (at < end) {
    const byte = bytes[at]!;
    if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) break;
    at++;
  }
  return at;
}

/** Index of the closing quote of a string of printable ASCII without escapes; -1 for any other. */
function plainStringEnd(bytes: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH || byte < 0x20 || byte > 0x7e) return -1;
  }
  return -1;
}

/** Index of the closing quote of any string; -1 if there is none. */
function stringEnd(bytes: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) at++;
  }
  return -1;
}

/** Index after a value of another field; -1 where the text ends too early or does not nest. */
function valueEnd(bytes: Buffer, from: number, end: number): number {
  const first = bytes[from];
  if (first === QUOTE) return stringEnd(bytes, from + 1, end) + 1 || -1;
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return nestedEnd(bytes, from, end);
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!;
    // A number or literal ends at the next separator; a quote or bracket inside it is no JSON.
    if (byte === COMMA || byte === CLOSE_BRACE || byte <= 0x20) return at > from ? at : -1;
    if (byte === QUOTE || byte === OPEN_BRACE || byte === OPEN_BRACKET) return -1;
  }
  return -1;
}

function nestedEnd(bytes: Buffer, from: number, end: number): number {
  let depth = 0;
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === QUOTE) {
      at = stringEnd(bytes, at + 1, end);
      if (at < 0) return -1;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      depth--;
      if (depth === 0) return at + 1;
    }
  }
  return -1;
}

/**
 * Compares bytes with UTF-16 units: equal only for ASCII, which `plainStringEnd` has made sure of.
 */
function isName(bytes: Buffer, start: number, end: number, field: string): boolean {
  if (end - start !== field.length) return false;
  for (let index = 0; index < field.length; index++) {
    if (bytes[start + index] !== field.charCodeAt(index)) return false;
  }
  return true;
}

function closesText(bytes: Buffer, brace: number, end: number): boolean {
  return skipSpace(bytes, brace + 1, end) === end;
}
