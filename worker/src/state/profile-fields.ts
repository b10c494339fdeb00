/**
 * The few fields of a profile that a script names, small enough to lie in the user's head row: most
 * verdicts then need no other row. With the profile read for each of them, users that do not fit
 * the cache cost a third more.
 */
import { createHash } from 'node:crypto';
import type { JsonObject, JsonValue } from '../runtime/json.ts';

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

/** As a head row holds them: of which names, and their values as JSON. */
export interface StoredFields {
  digest: string;
  text: string;
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
export function projected(
  profile: JsonValue,
  { names, digest }: FieldSet,
): { values: JsonObject; stored: StoredFields } | null {
  if (typeof profile !== 'object' || profile === null || Array.isArray(profile)) return null;
  const values: JsonObject = {};
  for (const name of names) {
    if (!Object.hasOwn(profile, name)) continue;
    const value = profile[name]!;
    if (!fits(value)) return null;
    // A plain assignment of `__proto__` would set the prototype.
    Object.defineProperty(values, name, { value, enumerable: true, writable: true });
  }
  const text = JSON.stringify(values);
  if (Buffer.byteLength(text) > MAX_TEXT_BYTES) return null;
  return { values, stored: { digest, text } };
}
