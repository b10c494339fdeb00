/**
 * UserEvent: one record's value as the state task sees it. Only the key is required; event_name,
 * triggerable and timestamp are typed when present; everything else is kept as it came. Anything
 * else is poison: it costs that record (I8), never the job.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { isJsonObject, type JsonObject } from '../runtime/json.ts';
import { MAX_KEY_BYTES } from '../source/key-scan.ts';

export interface UserEvent {
  userId: string;
  /** The value's exact text: history and bodies embed it verbatim. */
  raw: string;
  bytes: number;
  parsed: JsonObject;
}

export interface PoisonEvent {
  poison: string;
}

/** Checks one value. `raw` of the result holds no reference to `value`. */
export function decodeUserEvent(
  value: Buffer | null,
  keyBy: string,
  maxBytes: number,
): UserEvent | PoisonEvent {
  if (value === null) return { poison: 'tombstone: the record has no value' };
  if (value.length > maxBytes) {
    return { poison: `value of ${value.length} bytes, source.maxRecordBytes is ${maxBytes}` };
  }
  const ascii = isAscii(value);
  if (!ascii && !isUtf8(value)) return { poison: 'value is not valid UTF-8' };
  const raw = value.toString(ascii ? 'latin1' : 'utf8');
  let parsed: unknown;
  try {
    parsed = JSON.parse(raw);
  } catch (fault) {
    return { poison: `value is not JSON: ${(fault as Error).message.slice(0, 200)}` };
  }
  if (!isJsonObject(parsed)) return { poison: 'value is not a JSON object' };
  const userId = parsed[keyBy];
  if (typeof userId !== 'string' || userId === '') {
    return { poison: `field ${keyBy} is not a non-empty string` };
  }
  // Half a surrogate pair becomes U+FFFD in a row key: two such users would share their rows.
  if (!userId.isWellFormed()) return { poison: `field ${keyBy} is not valid Unicode` };
  if (userId.length * 3 > MAX_KEY_BYTES && Buffer.byteLength(userId) > MAX_KEY_BYTES) {
    return { poison: `field ${keyBy} is longer than ${MAX_KEY_BYTES} bytes` };
  }
  const wrong = wrongType(parsed);
  return wrong === null ? { userId, raw, bytes: value.length, parsed } : { poison: wrong };
}

function wrongType(event: JsonObject): string | null {
  const { event_name: name, triggerable, timestamp } = event;
  if (name != null && typeof name !== 'string') return 'field event_name is not a string';
  if (triggerable != null && typeof triggerable !== 'boolean') {
    return 'field triggerable is not a boolean';
  }
  if (timestamp != null && typeof timestamp !== 'number' && typeof timestamp !== 'string') {
    return 'field timestamp is neither a number nor a string';
  }
  return null;
}
