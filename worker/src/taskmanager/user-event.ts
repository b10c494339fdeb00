/**
 * UserEvent: one record's value as the state task sees it. Only the key is required; event_name,
 * triggerable and timestamp are typed when present; everything else is kept as it came. Anything
 * else is poison: it costs that record (I8), never the job.
 */
import { isUtf8 } from 'node:buffer';
import { isJsonObject, type JsonObject } from '../runtime/json.ts';
import { MAX_KEY_BYTES } from '../source/key-scan.ts';

export interface UserEvent {
  userId: string;
  parsed: JsonObject;
}

export interface PoisonEvent {
  poison: string;
}

/** What a decoder puts in place of bytes that are no UTF-8; it may also stand there itself. */
const REPLACEMENT = '\ufffd';

/** Checks the value that lies in `source`; end < 0: a tombstone. Keeps no reference to it. */
export function decodeUserEvent(
  source: Buffer,
  start: number,
  end: number,
  keyBy: string,
  maxBytes: number,
): UserEvent | PoisonEvent {
  if (end < 0) return { poison: 'tombstone: the record has no value' };
  if (end - start > maxBytes) {
    return { poison: `value of ${end - start} bytes, source.maxRecordBytes is ${maxBytes}` };
  }
  const text = source.toString('utf8', start, end);
  // One look at the text in place of a second pass over the bytes of every event.
  if (text.includes(REPLACEMENT) && !isUtf8(source.subarray(start, end))) {
    return { poison: 'value is not valid UTF-8' };
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
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
  return wrong === null ? { userId, parsed } : { poison: wrong };
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
