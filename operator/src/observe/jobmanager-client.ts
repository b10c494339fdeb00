/**
 * The JobManager's REST API for the operator. A standby answers 307 with its leader's address,
 * which is followed once, by us: fetch would drop the token on the way.
 */
import type { Env } from '../env.ts';
import { messageOf } from '../kube/kube-error.ts';
import {
  type CheckpointView,
  type JobManagerApi,
  JobManagerError,
  type JobManagerStatus,
  type JobRef,
  type TriggerKind,
  type TriggerProgress,
} from './jobmanager-api.ts';

export interface JobManagerClientOptions {
  env: Env;
  /** http://HOST:PORT, without a slash at the end. */
  baseUrl(job: JobRef): string;
  /** Bearer tokens, the newest first: while a key is rotated, a pod may know only a later one. */
  tokens(job: JobRef): readonly string[];
  timeoutMs?: number;
}

const TIMEOUT_MS = 3_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

type Fields = Record<string, unknown>;

interface Call {
  method: 'GET' | 'POST' | 'PUT';
  path: string;
  body?: Fields;
}

export class JobManagerClient implements JobManagerApi {
  readonly #options: JobManagerClientOptions;

  constructor(options: JobManagerClientOptions) {
    this.#options = options;
  }

  async status(job: JobRef): Promise<JobManagerStatus> {
    const { body } = await this.#call(job, { method: 'GET', path: '/api/v1/status' });
    return readStatus(body);
  }

  async progress(
    job: JobRef,
    kind: TriggerKind,
    triggerId: string,
  ): Promise<TriggerProgress | null> {
    const path = `${await this.#jobPath(job)}/${BOOKS[kind]}/${encodeURIComponent(triggerId)}`;
    const { status, body } = await this.#call(job, { method: 'GET', path }, [404]);
    return status === 404 ? null : readProgress(body);
  }

  async trigger(job: JobRef, kind: TriggerKind, triggerId: string): Promise<void> {
    const path = `${await this.#jobPath(job)}/${kind === 'stop' ? 'stop' : BOOKS[kind]}`;
    await this.#call(job, { method: 'POST', path, body: { triggerId } });
  }

  async rescale(job: JobRef, parallelism: number): Promise<void> {
    const path = `${await this.#jobPath(job)}/resource-requirements`;
    const { body } = await this.#call(job, { method: 'GET', path });
    const bounds = { parallelism: { lowerBound: 1, upperBound: parallelism } };
    const wanted = Object.fromEntries(Object.keys(body).map((vertex) => [vertex, bounds]));
    await this.#call(job, { method: 'PUT', path, body: wanted });
  }

  /** The job's id is its lineage's: only the JobManager knows it. */
  async #jobPath(job: JobRef): Promise<string> {
    const { body } = await this.#call(job, { method: 'GET', path: '/jobs' });
    const [first] = Array.isArray(body['jobs']) ? (body['jobs'] as unknown[]) : [];
    const id = isFields(first) ? first['id'] : undefined;
    if (typeof id === 'string') return `/jobs/${encodeURIComponent(id)}`;
    throw new JobManagerError('JOBMANAGER_UNREACHABLE', 'the JobManager has no job yet');
  }

  /** Any answer below 300, or of `also`; another one is refused. */
  async #call(
    job: JobRef,
    call: Call,
    also: readonly number[] = [],
  ): Promise<{ status: number; body: Fields }> {
    const base = this.#options.baseUrl(job);
    const tokens = call.method === 'GET' ? [null] : this.#options.tokens(job);
    for (const [index, token] of tokens.entries()) {
      const answer = await this.#followed(base, call, token);
      const { status, body } = answer;
      if (status < 300 || also.includes(status)) return answer;
      if ((status === 401 || status === 403) && index < tokens.length - 1) continue;
      const said = `${call.method} ${call.path}: ${status} ${reasonIn(body)}`.trim();
      const gone = status >= 500 || status === 429 || status === 408;
      throw new JobManagerError(gone ? 'JOBMANAGER_UNREACHABLE' : 'JOBMANAGER_REFUSED', said);
    }
    throw new JobManagerError('JOBMANAGER_REFUSED', `${call.path}: there is no token`);
  }

  async #followed(base: string, call: Call, token: string | null) {
    const first = await this.#fetch(`${base}${call.path}`, call, token);
    if (first.status !== 307 || first.location === null) return first;
    const target = new URL(first.location, base);
    if (target.protocol !== 'http:') return first;
    return await this.#fetch(target.href, call, token);
  }

  async #fetch(url: string, { method, body }: Call, token: string | null) {
    const { env, timeoutMs = TIMEOUT_MS } = this.#options;
    const abort = new AbortController();
    const late = () => abort.abort(new Error(`no answer in ${timeoutMs} ms`));
    const limit = env.timer(timeoutMs, late);
    try {
      const response = await fetch(url, {
        method,
        redirect: 'manual',
        signal: abort.signal,
        headers: {
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await boundedText(response);
      const location = response.headers.get('location');
      return { status: response.status, location, body: fieldsOf(text) };
    } catch (error) {
      const message = `no JobManager answers at ${new URL(url).origin}: ${messageOf(error)}`;
      throw new JobManagerError('JOBMANAGER_UNREACHABLE', message, error);
    } finally {
      limit.cancel();
    }
  }
}

/** Flink keeps stops with the savepoints. */
const BOOKS: Readonly<Record<TriggerKind, string>> = {
  savepoint: 'savepoints',
  stop: 'savepoints',
  checkpoint: 'checkpoints',
  disposal: 'disposal',
};

/** Pods belong to users: an answer without an end must not fill the operator. */
async function boundedText(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    if (bytes > MAX_ANSWER_BYTES)
      throw new Error(`an answer of more than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function fieldsOf(text: string): Fields {
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) ? value : {};
  } catch {
    return {};
  }
}

function reasonIn({ errors }: Fields): string {
  return Array.isArray(errors) ? errors.map(String).join('; ').slice(0, 1000) : '';
}

const textOf = (value: unknown): string | null =>
  typeof value === 'string' && value !== '' ? value : null;
const countOf = (value: unknown): number =>
  typeof value === 'number' && Number.isFinite(value) ? value : 0;
const msOf = (value: unknown): number =>
  typeof value === 'string' ? Date.parse(value) || 0 : countOf(value);
const partOf = (value: unknown): Fields => (isFields(value) ? value : {});

/** Pure; what a JobManager leaves out is 0 or null, but never the run. */
function readStatus(body: Fields): JobManagerStatus {
  const run = body['run'];
  const state = textOf(body['state']);
  if (typeof run !== 'number' || state === null) {
    throw new JobManagerError('JOBMANAGER_UNREACHABLE', 'the answer names no run and no state');
  }
  const workers = partOf(body['taskManagers']);
  const script = partOf(body['scriptVersion']);
  const refused = partOf(script['refused']);
  const error = textOf(refused['error']);
  return {
    run,
    state,
    since: msOf(body['since']),
    parallelism: countOf(body['parallelism']),
    desiredParallelism: countOf(body['desiredParallelism']),
    taskManagers: {
      registered: countOf(workers['registered']),
      slotsTotal: countOf(workers['slotsTotal']),
      slotsFree: countOf(workers['slotsFree']),
    },
    numRestarts: countOf(body['numRestarts']),
    lastCheckpoint: readCheckpoint(body['lastCheckpoint']),
    failedCheckpoints: countOf(body['failedCheckpoints']),
    lastSavepoint: readSavepoint(body['lastSavepoint']),
    scriptVersion: textOf(script['running']) ?? '',
    refusedScript: error === null ? null : { version: textOf(refused['version']) ?? '', error },
    lag: typeof body['lag'] === 'number' ? body['lag'] : null,
    error: textOf(body['error']),
  };
}

function readSavepoint(value: unknown): JobManagerStatus['lastSavepoint'] {
  const location = textOf(partOf(value)['location']);
  return location === null ? null : { location, bytes: countOf(partOf(value)['bytes']) };
}

function readCheckpoint(value: unknown): CheckpointView | null {
  if (!isFields(value) || typeof value['id'] !== 'number') return null;
  return {
    id: value['id'],
    completedAt: msOf(value['completedAt']),
    durationMs: countOf(value['durationMs']),
    bytes: countOf(value['bytes']),
    location: textOf(value['location']) ?? '',
  };
}

/** Flink's asynchronous operation: {status: {id}, operation}. Pure. */
function readProgress(body: Fields): TriggerProgress {
  if (partOf(body['status'])['id'] !== 'COMPLETED') return { phase: 'InProgress' };
  const operation = partOf(body['operation']);
  const failure = operation['failure-cause'] ?? operation['failureCause'];
  if (failure !== undefined && failure !== null) {
    return { phase: 'Failed', error: textOf(partOf(failure)['stack-trace']) ?? 'no reason given' };
  }
  const bytes = operation['bytes'];
  const location = textOf(operation['location']);
  const left = Array.isArray(operation['left']) ? operation['left'].map(String).join('; ') : '';
  return {
    phase: 'Completed',
    location,
    bytes: typeof bytes === 'number' ? bytes : null,
    ...(left === '' ? {} : { left }),
  };
}
