/** `triggerjob state get`: one user, of a running job or of what lies in a store. */

import type { ObjectStore } from '../checkpoint/object-store.ts';
import { openStore } from '../checkpoint/open-store.ts';
import { readSavepoint } from '../checkpoint/savepoint.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import { formatAge, formatBytes, formatCount } from './amounts.ts';
import { EXIT } from './exit-codes.ts';
import { callRest } from './rest-client.ts';
import { jobId } from './savepoint.ts';
import { storeUrlOf } from './savepoint-store.ts';
import type { OutputFormat } from './shared-options.ts';
import { StateDir } from './state-dir.ts';
import { userIn } from './state-dump.ts';
import { findJob, manifestOf } from './stored-job.ts';
import { printTable } from './table.ts';
import type { Terminal } from './terminal.ts';

export interface StateGetOptions {
  user: string;
  from?: string;
  stateDir?: string;
  job?: string;
  checkpoint?: number;
  s3Endpoint?: string;
  history: number;
  rest: string;
  output: OutputFormat;
}

const NOT_FOUND = /: 404 /;

/** The exit code. Throws what keeps the store or the JobManager from answering. */
export async function stateGet(
  env: Env,
  terminal: Terminal,
  options: StateGetOptions,
): Promise<number> {
  const found = await lookUp(env, options);
  if ('absent' in found) {
    terminal.error(found.absent);
    return EXIT.failed;
  }
  const { source, user } = found;
  if (options.output === 'json') terminal.print(JSON.stringify(user, null, 2));
  else show(env, terminal, source, user);
  return EXIT.ok;
}

type Found = { source: string; user: JsonObject } | { absent: string };

async function lookUp(env: Env, options: StateGetOptions): Promise<Found> {
  const { stateDir, from, user, rest, history } = options;
  const location = from ?? (stateDir === undefined ? null : new StateDir(stateDir).storeUrl);
  if (location !== null) return inStore(env, location, options);
  const job = await jobId({ env, rest });
  const path = `users/${encodeURIComponent(user)}?historyLimit=${history}`;
  try {
    const answer = await callRest(env, `${rest}/api/v1/jobs/${job}/${path}`);
    return { source: rest, user: answer };
  } catch (error) {
    if (!(error instanceof TriggerJobError) || !NOT_FOUND.test(error.message)) throw error;
    return { absent: `${user} is not in the state of the job at ${rest}` };
  }
}

async function inStore(env: Env, location: string, options: StateGetOptions): Promise<Found> {
  const { store, manifest } = await openLocation(env, location, options);
  const line = await userIn(store, manifest, options.user);
  const name = `checkpoint ${manifest.checkpointId} in ${store.url}`;
  if (line === null) return { absent: `${options.user} is not in ${name}` };
  const { user_id, profile, visit, history, last_access } = JSON.parse(line) as JsonObject;
  const events = Array.isArray(history) ? history : [];
  const shownFrom = Math.max(0, events.length - options.history);
  return {
    source: name,
    // The fields of the REST API's answer, as far as a checkpoint has them.
    user: {
      userId: user_id ?? null,
      lastAccess: last_access ?? null,
      user: profile ?? null,
      visit: visit ?? null,
      history: events.slice(shownFrom),
      historyEvents: events.length,
    },
  };
}

/** A savepoint, else a checkpoint directory. */
async function openLocation(
  env: Env,
  location: string,
  { job, checkpoint, s3Endpoint }: StateGetOptions,
): Promise<{ store: ObjectStore; manifest: Manifest }> {
  const s3 = { endpoint: s3Endpoint ?? null, region: null, pathStyle: null, credentials: null };
  if (job === undefined && checkpoint === undefined) {
    const store = await openStore(storeUrlOf(location), env, { s3, readOnly: true });
    try {
      return { store, manifest: await readSavepoint(store) };
    } catch (error) {
      const isNone = error instanceof TriggerJobError && error.code === 'SAVEPOINT_MISSING';
      if (!isNone) throw error;
    }
  }
  const store = await findJob(location, job ?? null, env, s3);
  return { store, manifest: await manifestOf(store, env, checkpoint ?? null) };
}

function show(env: Env, terminal: Terminal, source: string, user: JsonObject): void {
  const text = (name: string): string => JSON.stringify(user[name] ?? null);
  const rows: [string, string | null][] = [
    ['user', `${String(user['userId'])} in ${source}`],
    ['place', placeOf(user)],
    ['last access', ageOf(env, user['lastAccess'])],
    ['waiting', waitingOf(user)],
    ['profile', text('user')],
    ['visit', text('visit')],
  ];
  printTable(
    terminal,
    rows.filter((row): row is [string, string] => row[1] !== null),
  );
  const history = Array.isArray(user['history']) ? user['history'] : [];
  const all = Number(user['historyEvents'] ?? history.length);
  terminal.print(`history      ${formatCount(all)} events, the newest ${history.length}:`);
  for (const event of history) terminal.print(`  ${JSON.stringify(event)}`);
  const decisions = Array.isArray(user['decisions']) ? user['decisions'].filter(isJsonObject) : [];
  if (decisions.length === 0) return;
  terminal.print('last decisions:');
  for (const one of decisions) {
    const { at, verdict, error, topic, partition, offset } = one;
    const why = typeof error === 'string' ? `: ${error}` : '';
    terminal.print(
      `  ${new Date(Number(at)).toISOString()}  ${verdict}${why}  ${topic}/${partition}@${offset}`,
    );
  }
}

function placeOf({ keyGroup, subtask, taskManagerId, from, bytes }: JsonObject): string | null {
  if (typeof keyGroup !== 'number') return null;
  const size = formatBytes(Number(bytes));
  return `key group ${keyGroup}, subtask ${subtask} on ${taskManagerId}, ${size} in ${from}`;
}

function waitingOf({ parked, outbox }: JsonObject): string | null {
  if (typeof parked !== 'number' || typeof outbox !== 'number') return null;
  return parked + outbox === 0 ? null : `${parked} events for a profile, ${outbox} deliveries`;
}

function ageOf(env: Env, at: JsonValue | undefined): string {
  if (typeof at !== 'number' || at < 0) return 'unknown';
  return `${new Date(at).toISOString()} (${formatAge(env.now() - at)} ago)`;
}
