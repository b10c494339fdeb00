/**
 * `triggerjob savepoint`: asks a running job for one, lists and inspects what the job has taken.
 * What needs no job is savepoint-store.ts.
 */
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject } from '../runtime/json.ts';
import { formatAge, formatBytes } from './amounts.ts';
import { Progress } from './progress.ts';
import { callRest } from './rest-client.ts';
import type { Terminal } from './terminal.ts';

const POLL_MS = 200;

export interface SavepointOptions {
  env: Env;
  terminal: Terminal;
  /** Base URL of the JobManager, no trailing slash. */
  rest: string;
  json?: true;
}

/** The one job of the JobManager: one TriggerJob is one cluster with one job. */
export async function jobId({ env, rest }: { env: Env; rest: string }): Promise<string> {
  const { jobs } = await callRest(env, `${rest}/jobs/overview`);
  const [job] = Array.isArray(jobs) ? jobs : [];
  if (isJsonObject(job) && typeof job['jid'] === 'string') return job['jid'];
  throw new TriggerJobError('NO_JOB', `the JobManager at ${rest} runs no job`);
}

/** Triggers a savepoint and waits for it; prints its location. Throws SAVEPOINT_FAILED. */
export async function createSavepoint(
  options: SavepointOptions,
  directory: string | undefined,
  limitMs: number,
): Promise<void> {
  const job = `${options.rest}/jobs/${await jobId(options)}`;
  const body: JsonObject = { 'cancel-job': false };
  if (directory !== undefined) body['target-directory'] = directory;
  await triggered(options, { job, path: 'savepoints', body, limitMs });
}

/** Stops the job with a savepoint; prints its location. Throws SAVEPOINT_FAILED. */
export async function stopWithSavepoint(
  options: SavepointOptions,
  request: { directory?: string; drain: boolean; limitMs: number },
): Promise<void> {
  const { directory, drain, limitMs } = request;
  const job = `${options.rest}/jobs/${await jobId(options)}`;
  const body: JsonObject = { drain };
  if (directory !== undefined) body['targetDirectory'] = directory;
  await triggered(options, { job, path: 'stop', body, limitMs });
}

async function triggered(
  options: SavepointOptions,
  request: { job: string; path: string; body: JsonObject; limitMs: number },
): Promise<void> {
  const { env, terminal } = options;
  const progress = new Progress({ env, terminal, what: 'savepoint' });
  // The bar goes before the location comes.
  const location = await completed(options, request, progress).finally(() => progress.end());
  terminal.print(options.json === true ? JSON.stringify({ location }) : location);
}

async function completed(
  { env }: SavepointOptions,
  request: { job: string; path: string; body: JsonObject; limitMs: number },
  bar: Progress,
): Promise<string> {
  const { job, path, body, limitMs } = request;
  const post = { method: 'POST', body } as const;
  const { 'request-id': trigger } = await callRest(env, `${job}/${path}`, post);
  const startedAt = env.monotonic();
  while (env.monotonic() - startedAt < limitMs) {
    const answer = await callRest(env, `${job}/savepoints/${String(trigger)}`);
    const { status, operation, progress } = answer;
    if (isJsonObject(status) && status['id'] === 'COMPLETED') {
      const location = isJsonObject(operation) ? operation['location'] : undefined;
      if (typeof location !== 'string') throw failedWith(operation);
      return location;
    }
    if (isJsonObject(progress)) {
      const copied = Number(progress['copied-bytes']);
      const total = Number(progress['total-bytes']);
      const share = total > 0 ? copied / total : null;
      bar.update(share, `copying ${formatBytes(copied)} of ${formatBytes(total)}`);
    } else bar.update(null, 'waiting for a checkpoint');
    await sleep(env, POLL_MS);
  }
  throw new TriggerJobError(
    'SAVEPOINT_FAILED',
    `the savepoint was not complete after ${limitMs / 1000} s; ` +
      'it may still complete (savepoint list)',
  );
}

function failedWith(operation: unknown): TriggerJobError {
  const cause = isJsonObject(operation) ? operation['failure-cause'] : undefined;
  const trace = isJsonObject(cause) ? cause['stack-trace'] : undefined;
  const text = typeof trace === 'string' ? trace.split('\n')[0] : 'the JobManager gave no cause';
  return new TriggerJobError('SAVEPOINT_FAILED', `the savepoint failed: ${text}`);
}

async function savepointsOf(options: SavepointOptions): Promise<JsonObject[]> {
  const { env, rest } = options;
  const { history } = await callRest(env, `${rest}/jobs/${await jobId(options)}/checkpoints`);
  const entries = Array.isArray(history) ? history : [];
  return entries.filter(isJsonObject).filter((entry) => entry['is_savepoint'] === true);
}

/** One line per savepoint that the JobManager remembers, newest first. */
export async function listSavepoints(options: SavepointOptions): Promise<void> {
  const savepoints = await savepointsOf(options);
  if (options.json === true) {
    options.terminal.print(JSON.stringify(savepoints, null, 2));
    return;
  }
  if (savepoints.length === 0) options.terminal.print('no savepoints');
  for (const entry of savepoints) {
    const age = formatAge(options.env.now() - Number(entry['trigger_timestamp'] ?? 0));
    const size = formatBytes(Number(entry['state_size'] ?? 0));
    const place = String(entry['external_path'] ?? '-');
    options.terminal.print(
      `${String(entry['id'])}  ${String(entry['status'])}  ${age} ago  ${size}  ${place}`,
    );
  }
}

/** Everything the JobManager knows of one savepoint, by its number. */
export async function inspectSavepoint(options: SavepointOptions, wanted: string): Promise<void> {
  const found = (await savepointsOf(options)).find((entry) => String(entry['id']) === wanted);
  if (found === undefined) {
    throw new TriggerJobError('NO_SAVEPOINT', `no savepoint ${wanted}; see: savepoint list`);
  }
  options.terminal.print(JSON.stringify(found, null, 2));
}
