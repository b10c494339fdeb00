/**
 * The judgement of one of the three answers that make up a user. 404 is an answer; a body must be
 * UTF-8 JSON of the right kind and below the size limit; all else is a fault.
 */
import { isUtf8 } from 'node:buffer';
import type { GetResult } from '../http/bounded-get.ts';
import { retryAfterMs } from '../http/http-retry.ts';
import { isJsonObject } from '../runtime/json.ts';
import { isJsonObjectText, jsonObjectTexts, MAX_JSON_DEPTH } from './json-array.ts';

export type PartName = 'profile' | 'visit' | 'history';

/**
 * `server`: it is down or overloaded; counts for the circuit breaker. `answer`: it answers, but not
 * with what was asked. `tooLarge`: with more than the limit. `ours`: the slot cut it off.
 */
export type Blame = 'server' | 'answer' | 'tooLarge' | 'ours';

export interface PartFault {
  kind: 'fault';
  error: string;
  blame: Blame;
  /** Wait that the server asked for; null none. */
  afterMs: number | null;
}

export interface FoundPart {
  kind: 'found';
  /** One text for profile and visit, one per event for history. */
  texts: string[];
  absent: boolean;
}

/** Between `found` and `fault` nothing is ambiguous: `found` is what the user starts with. */
export function judgePart(
  part: PartName,
  answer: GetResult,
  maxBytes: number,
  nowMs: number,
): FoundPart | PartFault {
  const fault = (what: string, blame: Blame, afterMs: number | null = null): PartFault => ({
    kind: 'fault',
    error: `/${part}: ${what}`,
    blame,
    afterMs,
  });
  switch (answer.kind) {
    case 'fault':
      return fault(answer.error, 'server');
    case 'cut':
      return fault('given up with another part', 'ours');
    case 'crowded':
      return fault('no room for a large answer yet', 'ours');
    case 'tooLarge': {
      const limit = `${maxBytes} bytes (state.profileApi.maxResponseBytes)`;
      return fault(`the answer is larger than ${limit}`, 'tooLarge');
    }
    case 'answer':
      break;
  }
  const { status, body } = answer;
  if (status === 404) {
    return { kind: 'found', texts: part === 'history' ? [] : ['{}'], absent: true };
  }
  if (status < 200 || status >= 300) {
    const blame = status >= 500 || status === 429 ? 'server' : 'answer';
    const redirect = status >= 300 && status < 400 ? ': redirects are not followed' : '';
    return fault(`HTTP ${status}${redirect}`, blame, retryAfterMs(answer.retryAfter, nowMs));
  }
  const texts = isUtf8(body) ? textsOf(part, body) : null;
  if (texts === null) return fault(`the answer is ${whyNot(part, body)}`, 'answer');
  return { kind: 'found', texts, absent: false };
}

function textsOf(part: PartName, body: Buffer): string[] | null {
  if (part === 'history') return jsonObjectTexts(body);
  return isJsonObjectText(body) ? [body.toString('utf8')] : null;
}

/** For an answer that is known to be wrong, so the cost does not matter. */
function whyNot(part: PartName, body: Buffer): string {
  if (!isUtf8(body)) return 'not valid UTF-8';
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    return 'not valid JSON';
  }
  if (part === 'history') {
    if (!Array.isArray(value) || !value.every(isJsonObject)) return 'not a JSON array of objects';
  } else if (!isJsonObject(value)) return 'not a JSON object';
  return `nested deeper than ${MAX_JSON_DEPTH}`;
}
