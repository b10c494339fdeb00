/**
 * The few fields of a profile that a script names, small enough to lie in the user's head row: most
 * verdicts then need no other row. With the profile read for each of them, users that do not fit
 * the cache cost a third more.
 */
import { createHash } from 'node:crypto';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { SharedValues } from './shared-values.ts';

/** Longer texts of a field are not kept apart from the profile. */
const MAX_FIELD_CHARS = 64;
/** Of all fields together, as JSON: its length is one byte of the head row. */
const MAX_TEXT_BYTES = 255;
export const DIGEST_BYTES = 8;

/** What a script names. `digest`: 8 characters of latin1 that stand for the names. */
export interface FieldSet {
  readonly names: readonly string[];
  readonly digest: string;
}

/** As a head row holds them: of which names, and their values as JSON. Shared by users. */
export class StoredFields {
  readonly digest: string;
  readonly text: string;
  #values: JsonObject | null = null;

  constructor(digest: string, text: string) {
    this.digest = digest;
    this.text = text;
  }

  /** Of all users that share them: nobody may change it. */
  get values(): JsonObject {
    this.#values ??= JSON.parse(this.text) as JsonObject;
    return this.#values;
  }
}

/**
 * By digest and text in latin1. What scripts name has few values over all users; with their own
 * texts and objects live users took a fifth more of the heap.
 */
export const sharedFields = new SharedValues<StoredFields>();

/** From the bytes of a head row, as latin1: digest, and the values' JSON in UTF-8. */
export function storedFields(bytes: string): StoredFields {
  const known = sharedFields.get(bytes);
  if (known !== undefined) return known;
  const text = Buffer.from(bytes.slice(DIGEST_BYTES), 'latin1').toString('utf8');
  const made = new StoredFields(bytes.slice(0, DIGEST_BYTES), text);
  sharedFields.set(bytes, made);
  return made;
}

export function fieldSetOf(names: readonly string[]): FieldSet {
  const hash = createHash('sha256').update(JSON.stringify(names)).digest();
  return { names, digest: hash.toString('latin1', 0, DIGEST_BYTES) };
}

function fits(value: JsonValue): boolean {
  if (typeof value === 'string') return value.length <= MAX_FIELD_CHARS;
  // JSON has no way back to -0, nor to the Infinity that 1e400 is read as.
  if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0);
  return typeof value !== 'object' || value === null;
}

/** null: the profile is no object, or what is asked of it is too large to lie in the head. */
export function projected(profile: JsonValue, { names, digest }: FieldSet): StoredFields | null {
  if (typeof profile !== 'object' || profile === null || Array.isArray(profile)) return null;
  const values: JsonObject = {};
  for (const name of names) {
    if (!Object.hasOwn(profile, name)) continue;
    const value = profile[name]!;
    if (!fits(value)) return null;
    // A plain assignment of `__proto__` would set the prototype.
    Object.defineProperty(values, name, { value, enumerable: true, writable: true });
  }
  const text = Buffer.from(JSON.stringify(values));
  if (text.length > MAX_TEXT_BYTES) return null;
  return storedFields(digest + text.toString('latin1'));
}
