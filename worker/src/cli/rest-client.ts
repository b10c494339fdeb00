/** Talks to a JobManager's REST API, for the commands and the live view. */
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject } from '../runtime/json.ts';

const TIMEOUT_MS = 5_000;

/** Not an option of the commands: those are seen by every user of the machine. */
export const REST_TOKEN_VARIABLE = 'TRIGGERJOB_TOKEN';

/** The bearer token of this process's user; undefined: none. */
export function restToken(): string | undefined {
  return (process.env[REST_TOKEN_VARIABLE] ?? process.env['TRIGGERJOB_REST_TOKEN'])?.trim();
}

/** The fields of /api/v1/details that the commands show; absent ones are 0 or null. */
export interface JobStatus {
  state: string;
  eventsPerSecond: number;
  processed: number;
  matched: number;
  delivered: number;
  deadLettered: number;
  users: number;
  parked: number;
  outbox: number;
  /** Every split has ended for good: a file was read to its end. */
  inputEnded: boolean;
  restoredCheckpoint: number | null;
  parallelism: number;
  /** Subtasks whose state is restored. */
  restoredSubtasks: number;
  lastCheckpoint: { id: number; at: number; bytes: number; durationMs: number } | null;
  restarts: number;
  failure: string | null;
}

/**
 * Any answer of the API as JSON. Throws REST_UNREACHABLE, or REST_REFUSED with the server's reason.
 */
export async function callRest(
  env: Env,
  url: string,
  request: { method?: 'GET' | 'POST' | 'PUT'; body?: JsonObject } = {},
): Promise<JsonObject> {
  const token = restToken();
  const abort = new AbortController();
  const limit = env.timer(TIMEOUT_MS, () =>
    abort.abort(new Error(`no answer in ${TIMEOUT_MS} ms`)),
  );
  try {
    const response = await fetch(url, {
      method: request.method ?? 'GET',
      signal: abort.signal,
      headers: {
        ...(request.body !== undefined && { 'content-type': 'application/json' }),
        ...(token && { authorization: `Bearer ${token}` }),
      },
      ...(request.body !== undefined && { body: JSON.stringify(request.body) }),
    });
    const text = await response.text();
    if (!response.ok) {
      throw new TriggerJobError('REST_REFUSED', `${url}: ${response.status} ${reasonIn(text)}`);
    }
    const value: unknown = JSON.parse(text);
    if (isJsonObject(value)) return value;
    throw new TriggerJobError('REST_REFUSED', `${url}: the answer is no JSON object`);
  } catch (error) {
    if (error instanceof TriggerJobError) throw error;
    throw new TriggerJobError(
      'REST_UNREACHABLE',
      `no JobManager answers at ${url} (${messageOf(error)}): is the job running, is --rest right?`,
    );
  } finally {
    limit.cancel();
  }
}

/** Flink's error bodies are {"errors": [text, ...]}. */
export function reasonIn(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (isJsonObject(value) && Array.isArray(value['errors'])) return value['errors'].join('; ');
  } catch {
    // Not JSON: shown as it is.
  }
  return text.slice(0, 500);
}

export async function fetchStatus(env: Env, restUrl: string): Promise<JobStatus> {
  const body = await callRest(env, `${restUrl}/api/v1/details`);
  const number = (name: string): number => {
    const value = body[name];
    return typeof value === 'number' ? value : 0;
  };
  return {
    state: typeof body['state'] === 'string' ? body['state'] : 'UNKNOWN',
    eventsPerSecond: number('eventsPerSecond'),
    processed: number('processed'),
    matched: number('matched'),
    delivered: number('delivered'),
    deadLettered: number('deadLettered'),
    users: number('users'),
    parked: number('parked'),
    outbox: number('outbox'),
    inputEnded: body['inputEnded'] === true,
    restoredCheckpoint: restoredIn(body['restoredCheckpoint']),
    parallelism: number('parallelism'),
    restoredSubtasks: restoredSubtasksIn(body['subtasks']),
    lastCheckpoint: checkpointIn(body['lastCheckpoint']),
    restarts: number('restarts'),
    failure: typeof body['failure'] === 'string' ? body['failure'] : null,
  };
}

/** A subtask gets its splits when its state is there; before that, openSplits is -1. */
function restoredSubtasksIn(value: unknown): number {
  const all = Array.isArray(value) ? value.filter(isJsonObject) : [];
  return all.filter(({ openSplits }) => Number(openSplits) >= 0).length;
}

function restoredIn(value: unknown): number | null {
  return isJsonObject(value) && typeof value['id'] === 'number' ? value['id'] : null;
}

function checkpointIn(value: unknown): JobStatus['lastCheckpoint'] {
  if (!isJsonObject(value) || typeof value['id'] !== 'number') return null;
  const { id, at, bytes, durationMs } = value;
  return {
    id,
    at: Number(at ?? 0),
    bytes: Number(bytes ?? 0),
    durationMs: Number(durationMs ?? 0),
  };
}
