/**
 * Paths beyond Flink's: a user's state and last decisions, why a filter decides as it does, hot
 * keys, the ledger, a live tap. What shows data of users needs a token where there are tokens.
 */
import { imbalance, sumOfLedgers } from '../checkpoint/conservation.ts';
import type { Ledger } from '../checkpoint/snapshot.ts';
import type { Inspection, UserLook } from '../jobmanager/job-inspection.ts';
import type { JobControl, JobView } from '../jobmanager/job-view.ts';
import { HOT_KEY_ORDERS, TAP_STAGES } from '../rpc/inspection.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';
import { explain } from './explain-request.ts';
import { checkRunning } from './job-checks.ts';
import { RestError } from './rest-error.ts';
import type { Route, RouteAnswer, RouteRequest } from './router.ts';
import { streamTap } from './tap-stream.ts';

/** Texts of one user in an answer; of a longer history the newest events are shown. */
const MAX_USER_BYTES = 1024 * 1024;
const DEFAULT_HISTORY_EVENTS = 100;
const MAX_HISTORY_EVENTS = 10_000;
const DEFAULT_TOP = 20;
const MAX_TOP = 100;
const MAX_TAP_RECORDS = 1_000_000;
/** A user's state may come with the question. */
const MAX_EXPLAIN_BYTES = 1024 * 1024;

export function inspectRoutes(control: JobControl, env: Env): Route[] {
  const route = (
    path: string,
    answer: (inspection: Inspection, request: RouteRequest) => Promise<RouteAnswer> | RouteAnswer,
    more: Partial<Route> = {},
  ): Route => ({
    method: 'GET',
    path: `/api/v1/jobs/:jobid/${path}`,
    handler: async (request) => {
      checkRunning(control.view(), request);
      const { inspection } = control;
      if (inspection === null) throw new RestError(409, 'the job has ended');
      return await inTerms(() => answer(inspection, request));
    },
    ...more,
  });
  const personal = { needsToken: true };
  return [
    route('users/:userid', (inspection, request) => user(inspection, control, request), personal),
    route(
      'explain',
      async (inspection, { body }) => ({
        status: 200,
        body: await explain(inspection, control.view().plan, body),
      }),
      { method: 'POST', maxBodyBytes: MAX_EXPLAIN_BYTES },
    ),
    route('hot-keys', (inspection, request) => hotKeys(inspection, control, request), personal),
    route('ledger', (inspection) => ledger(inspection, control)),
    route('tap', (inspection, request) => tap(inspection, request, env), personal),
  ];
}

/** What comes over as a fault of ours is mostly a question at the wrong time. */
async function inTerms(answer: () => Promise<RouteAnswer> | RouteAnswer): Promise<RouteAnswer> {
  try {
    return await answer();
  } catch (error) {
    throw inRestTerms(error);
  }
}

function inRestTerms(error: unknown): unknown {
  const again = error instanceof TriggerJobError && error.retryable;
  return again ? new RestError(503, error.message) : error;
}

async function user(
  inspection: Inspection,
  control: JobControl,
  { params, query }: RouteRequest,
): Promise<RouteAnswer> {
  const userId = decoded(params['userid'] ?? '');
  const historyLimit = count(query, 'historyLimit', DEFAULT_HISTORY_EVENTS, MAX_HISTORY_EVENTS, 0);
  const look = await inspection.user(userId, { historyLimit, maxBytes: MAX_USER_BYTES });
  if (look.found !== null) {
    return { status: 200, body: userText(userId, look, control.view().plan.state.ttlMs) };
  }
  const parked = `; ${look.parked} of its events wait for the Profile API`;
  throw new RestError(404, `User ${userId} is not in state${look.parked > 0 ? parked : ''}`);
}

/** As text: profile and history go in as the state holds them, a megabyte is not parsed for it. */
function userText(userId: string, look: UserLook, ttlMs: number): string {
  const found = look.found!;
  const { keyGroup, subtask, taskManagerId, parked, outbox, decisions } = look;
  const { from, bytes, lastAccess, sequence, historyEvents } = found;
  const place = { userId, keyGroup, subtask, taskManagerId, from, bytes };
  const expiresAt = lastAccess < 0 ? null : lastAccess + ttlMs;
  const head = JSON.stringify({ ...place, lastAccess, expiresAt, sequence });
  const omitted = found.profile === null ? ['user', 'visit'] : [];
  const tail = JSON.stringify({ historyEvents, parked, outbox, decisions, omitted });
  const texts =
    `"user":${found.profile ?? 'null'},"visit":${found.visit ?? 'null'},` +
    `"history":${found.history}`;
  return `${head.slice(0, -1)},${texts},${tail.slice(1)}`;
}

async function hotKeys(
  inspection: Inspection,
  control: JobControl,
  { query }: RouteRequest,
): Promise<RouteAnswer> {
  const by = choice(query, 'by', HOT_KEY_ORDERS, 'events');
  const top = count(query, 'top', DEFAULT_TOP, MAX_TOP, 1);
  const { since, events, bytes, keys } = await inspection.hotKeys(by, top);
  const { stateBytes } = control.view().gauges;
  const total = { events, bytes, state: stateBytes }[by];
  const figure = by === 'state' ? 'stateBytes' : by;
  const withShare = keys.map(({ keyGroup, ...key }) => {
    const share = total > 0 ? Math.min(1, (key[figure] ?? 0) / total) : 0;
    return { ...key, share, keyGroup };
  });
  return { status: 200, body: { since, events, keys: withShare } };
}

async function ledger(inspection: Inspection, control: JobControl): Promise<RouteAnswer> {
  const now = ledgerNow(control.view());
  const checkpoints = (await inspection.ledgers()).map(
    ({ checkpointId, completedAt, ...counts }): JsonObject => {
      return { checkpointId, completedAt, ...ledgerJson(counts) };
    },
  );
  const all = now === null ? checkpoints : [now, ...checkpoints];
  const balanced = all.every((one) => one['imbalance'] === 0);
  return { status: 200, body: { balanced, now, checkpoints } };
}

/** null: not all tasks have told theirs, and a part of them is no ledger of the job. */
function ledgerNow({ subtasks, parallelism }: JobView): JsonObject | null {
  return subtasks.length === parallelism ? ledgerJson(sumOfLedgers(subtasks)) : null;
}

function ledgerJson(counts: Ledger): JsonObject {
  const { inOutbox: outbox, ...rest } = counts;
  return { ...rest, outbox, imbalance: imbalance(counts) };
}

function tap(inspection: Inspection, { query }: RouteRequest, env: Env): RouteAnswer {
  const stage = choice(query, 'stage', TAP_STAGES, 'keyed');
  const userId = query.get('user');
  if (userId === '') throw new RestError(400, 'user must not be empty; leave it out for all users');
  const limit = count(query, 'limit', MAX_TAP_RECORDS, MAX_TAP_RECORDS, 1);
  const { value, limit: most } = inspection.bounds.inspection_taps;
  if (value >= most) throw new RestError(503, `${most} taps are open already; ask again`);
  return {
    status: 200,
    body: '',
    stream: (response) => {
      try {
        streamTap(response, env, (sink) => inspection.tap({ stage, userId }, limit, sink));
      } catch (error) {
        throw inRestTerms(error);
      }
    },
  };
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new RestError(400, `${segment} is not URL-encoded: write % as %25`);
  }
}

function choice<Value extends string>(
  query: URLSearchParams,
  name: string,
  values: readonly Value[],
  otherwise: Value,
): Value {
  const given = query.get(name) ?? otherwise;
  const known = values.find((value) => value === given);
  if (known === undefined) throw new RestError(400, `${name} must be one of ${values.join(', ')}`);
  return known;
}

function count(
  query: URLSearchParams,
  name: string,
  otherwise: number,
  most: number,
  least: number,
): number {
  const given = query.get(name);
  if (given === null) return otherwise;
  const value = Number(given);
  if (/^\d+$/.test(given) && value >= least && value <= most) return value;
  throw new RestError(400, `${name} must be a whole number from ${least} to ${most}`);
}
