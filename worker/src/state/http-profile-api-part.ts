/**
 * One of the three requests that make up a user, and the judgement of its answer. 404 is an answer;
 * a body must be UTF-8 JSON of the right kind and below the size limit; all else is a fault.
 */
import { isUtf8 } from 'node:buffer';
import type { Dispatcher } from 'undici';
import { exchange, type HttpBody, type HttpHead } from '../http/http-exchange.ts';
import { retryAfterMs } from '../http/http-retry.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject } from '../runtime/json.ts';
import { splitJsonArray } from './json-array.ts';

export type PartName = 'profile' | 'visit' | 'history';

/** An answer within this is read without asking; a larger one needs `claimLarge` (I7). */
const SMALL_ANSWER_BYTES = 64 * 1024;

/** Between `found` and `fault` nothing is ambiguous: `found` is what the user starts with. */
export type PartResult =
  | { kind: 'found'; texts: string[]; absent: boolean }
  | {
      kind: 'fault';
      error: string;
      /**
       * `server`: it is down or overloaded; counts for the circuit breaker. `answer`: it answers,
       * but not with what was asked. `ours`: this slot had no room for a large answer.
       */
      blame: 'server' | 'answer' | 'ours';
      /** Wait that the server asked for; null none. */
      afterMs: number | null;
    };

interface PartRequest {
  part: PartName;
  path: string;
  headers: Record<string, string>;
  timeoutMs: number;
  maxBytes: number;
  /** Resolves to true once this user may hold a large answer; false: no room in time. */
  claimLarge(): Promise<boolean>;
}

type Read = { kind: 'body'; content: Buffer } | { kind: 'tooLarge' } | { kind: 'crowded' };

/** Rejects only with the signal's reason. */
export async function fetchPart(
  pool: Dispatcher,
  request: PartRequest,
  env: Env,
  signal: AbortSignal,
): Promise<PartResult> {
  const { part, path, headers, timeoutMs } = request;
  let waitedMs = 0;
  const claim = async () => {
    const since = env.monotonic();
    const granted = await request.claimLarge();
    waitedMs += env.monotonic() - since;
    return granted;
  };
  const http = { method: 'GET' as const, path, headers, body: null, timeoutMs };
  const result = await exchange(pool, http, env, signal, (head, body) =>
    read(head, body, request.maxBytes, claim),
  );
  if (result.kind === 'fault') {
    // The deadline went on while we waited for room: mostly that is no fault of the server.
    const blame = result.timedOut && waitedMs * 2 >= timeoutMs ? 'ours' : 'server';
    return { kind: 'fault', error: `/${part}: ${result.error}`, blame, afterMs: null };
  }
  return judge(part, result.head, result.value, request.maxBytes, env.now());
}

async function read(
  head: HttpHead,
  body: HttpBody,
  maxBytes: number,
  claimLarge: () => Promise<boolean>,
): Promise<Read> {
  // Only a 200's bytes matter; of an error page a little is read so that the connection lives on.
  const wanted = head.status >= 200 && head.status < 300;
  const limit = wanted ? maxBytes : SMALL_ANSWER_BYTES;
  const chunks: Buffer[] = [];
  let bytes = 0;
  let free = Math.min(limit, SMALL_ANSWER_BYTES);
  const declared = Number(head.header('content-length') ?? 0);
  if (declared > limit) {
    body.destroy();
    body.on('error', () => {});
    return { kind: 'tooLarge' };
  }
  // Leaving the loop early destroys the body and with it the connection: the rest is never
  // received.
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limit) return { kind: 'tooLarge' };
    if (bytes > free) {
      if (!(await claimLarge())) return { kind: 'crowded' };
      free = limit;
    }
    if (wanted) chunks.push(chunk);
  }
  return { kind: 'body', content: Buffer.concat(chunks, wanted ? bytes : 0) };
}

function judge(
  part: PartName,
  head: HttpHead,
  answer: Read,
  maxBytes: number,
  nowMs: number,
): PartResult {
  const { status } = head;
  const fault = (
    what: string,
    blame: 'server' | 'answer' | 'ours',
    afterMs: number | null = null,
  ): PartResult => ({ kind: 'fault', error: `/${part}: ${what}`, blame, afterMs });
  if (status === 404) {
    return { kind: 'found', texts: part === 'history' ? [] : ['{}'], absent: true };
  }
  if (status < 200 || status >= 300) {
    const blame = status >= 500 || status === 429 ? 'server' : 'answer';
    const redirect = status >= 300 && status < 400 ? ': redirects are not followed' : '';
    const afterMs = retryAfterMs(head.header('retry-after'), nowMs);
    return fault(`HTTP ${status}${redirect}`, blame, afterMs);
  }
  if (answer.kind === 'crowded') return fault('no room for a large answer yet', 'ours');
  if (answer.kind === 'tooLarge') {
    const limit = `${maxBytes} bytes (state.profileApi.maxResponseBytes)`;
    return fault(`the answer is larger than ${limit}`, 'answer');
  }
  try {
    return { kind: 'found', texts: textsOf(part, answer.content), absent: false };
  } catch (thrown) {
    if (!(thrown instanceof TriggerJobError)) throw thrown;
    return fault(thrown.message, 'answer');
  }
}

/** One text for profile and visit, one per event for history. */
function textsOf(part: PartName, content: Buffer): string[] {
  const bad = (what: string, cause?: unknown) =>
    new TriggerJobError('PROFILE_API_ANSWER', `the answer is ${what}`, { cause });
  if (!isUtf8(content)) throw bad('not valid UTF-8');
  const text = content.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw bad('not valid JSON', cause);
  }
  if (part !== 'history') {
    if (!isJsonObject(value)) throw bad('not a JSON object');
    return [text];
  }
  if (!Array.isArray(value) || !value.every(isJsonObject)) {
    throw bad('not a JSON array of objects');
  }
  return splitJsonArray(text);
}
