/**
 * The routing key of a raw event (P24): found in the bytes where that provably equals the parsed
 * value, else parsed. Two routes for one user would be two states, so "probably the same" is never
 * an answer.
 *
 * The proof. The scan walks the top level of one object and gives up (`undefined`) at any byte that
 * JSON does not allow there, at a key with an escape or a byte above 0x7f, at a second key of the
 * wanted name, and where the wanted value is anything but a string of printable ASCII without
 * escapes. What is left is a key whose bytes are its text, once, at depth one. Values of other
 * fields are stepped over: inside a string only `"` and `\` matter, inside a nested value only
 * strings and the depth.
 *
 * What it does not prove is that the text is JSON: `{"user_id":"a","n":nul}` yields `a` although a
 * parse fails. That is sound only because the state task parses every event again and dead-letters
 * it; a broken text has no user whose state could split.
 */
import { isUtf8 } from 'node:buffer';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';

/** Longer user ids are dead letters: the key is in every row of the user (bytes of UTF-8). */
export const MAX_KEY_BYTES = 1024;
/**
 * From this many bytes after the key on, a native search replaces the walk: above it the two calls
 * into native code cost less than the loop (bench/key-scan.ts).
 */
const NATIVE_SEARCH_BYTES = 384;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

export type RoutingKey = { key: string } | { poison: string };

/**
 * The value of the top-level `field` of a JSON object: the string that a parse would give; null = a
 * parse would find no such field; undefined = unknown, parse it. Never throws.
 */
export function scanKey(value: Buffer, field: string): string | null | undefined {
  const end = value.length;
  let at = skipSpace(value, 0, end);
  if (value[at] !== OPEN_BRACE) return undefined;
  at = skipSpace(value, at + 1, end);
  let keyStart = -1;
  let keyEnd = -1;
  if (value[at] === CLOSE_BRACE) return closesText(value, at, end) ? null : undefined;
  while (at < end) {
    if (value[at] !== QUOTE) return undefined;
    const nameStart = at + 1;
    const nameEnd = plainStringEnd(value, nameStart, end);
    if (nameEnd < 0) return undefined;
    const wanted = isName(value, nameStart, nameEnd, field);
    if (wanted && keyStart >= 0) return undefined;
    at = skipSpace(value, nameEnd + 1, end);
    if (value[at] !== COLON) return undefined;
    at = skipSpace(value, at + 1, end);
    if (wanted) {
      if (value[at] !== QUOTE) return undefined;
      keyStart = at + 1;
      keyEnd = plainStringEnd(value, keyStart, end);
      if (keyEnd < 0) return undefined;
      at = keyEnd + 1;
      if (end - at > NATIVE_SEARCH_BYTES && isAbsent(value, field, at)) {
        return value.toString('latin1', keyStart, keyEnd);
      }
    } else {
      at = valueEnd(value, at, end);
      if (at < 0) return undefined;
    }
    at = skipSpace(value, at, end);
    if (value[at] === COMMA) {
      at = skipSpace(value, at + 1, end);
    } else {
      if (value[at] !== CLOSE_BRACE || !closesText(value, at, end)) return undefined;
      return keyStart < 0 ? null : value.toString('latin1', keyStart, keyEnd);
    }
  }
  return undefined;
}

/**
 * The key to route by, or why the record cannot be routed (a short stable text for the dead
 * letter).
 */
export function routingKey(value: Buffer, field: string): RoutingKey {
  const scanned = scanKey(value, field);
  if (typeof scanned === 'string' && scanned.length > 0 && scanned.length <= MAX_KEY_BYTES) {
    return { key: scanned };
  }
  return parsedKey(value, field);
}

function parsedKey(value: Buffer, field: string): RoutingKey {
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

/**
 * True if no further key can spell `field`: without a backslash from here on, a key spells it only
 * by these very bytes. False means no more than "walk on".
 */
function isAbsent(value: Buffer, field: string, from: number): boolean {
  return value.indexOf(BACKSLASH, from) < 0 && value.indexOf(`"${field}"`, from, 'latin1') < 0;
}

function skipSpace(value: Buffer, from: number, end: number): number {
  let at = from;
  while (at < end) {
    const byte = value[at]!;
    if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) break;
    at++;
  }
  return at;
}

/** Index of the closing quote of a string of printable ASCII without escapes; -1 for any other. */
function plainStringEnd(value: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = value[at]!;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH || byte < 0x20 || byte > 0x7e) return -1;
  }
  return -1;
}

/** Index of the closing quote of any string; -1 if there is none. */
function stringEnd(value: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = value[at]!;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) at++;
  }
  return -1;
}

/** Index after a value of another field; -1 where the text ends too early or does not nest. */
function valueEnd(value: Buffer, from: number, end: number): number {
  const first = value[from];
  if (first === QUOTE) return stringEnd(value, from + 1, end) + 1 || -1;
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return nestedEnd(value, from, end);
  for (let at = from; at < end; at++) {
    const byte = value[at]!;
    // A number or literal ends at the next separator; a quote or bracket inside it is no JSON.
    if (byte === COMMA || byte === CLOSE_BRACE || byte <= 0x20) return at > from ? at : -1;
    if (byte === QUOTE || byte === OPEN_BRACE || byte === OPEN_BRACKET) return -1;
  }
  return -1;
}

function nestedEnd(value: Buffer, from: number, end: number): number {
  let depth = 0;
  for (let at = from; at < end; at++) {
    const byte = value[at]!;
    if (byte === QUOTE) {
      at = stringEnd(value, at + 1, end);
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
function isName(value: Buffer, start: number, end: number, field: string): boolean {
  if (end - start !== field.length) return false;
  for (let index = 0; index < field.length; index++) {
    if (value[start + index] !== field.charCodeAt(index)) return false;
  }
  return true;
}

function closesText(value: Buffer, brace: number, end: number): boolean {
  return skipSpace(value, brace + 1, end) === end;
}
