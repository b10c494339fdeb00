/** Which path answers what. Errors thrown here become {"errors": [...]} with their status. */
import type { JobControl, JobView, SavepointRequest } from '../jobmanager/job-view.ts';
import type { Bound, Bounds } from '../runtime/bound.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';
import type { LogText } from '../runtime/log-tail.ts';
import type { AsyncOperations, Progress } from './async-operations.ts';
import { details } from './details-json.ts';
import { figuresRoutes } from './figures-routes.ts';
import { FLINK_ANSWERS } from './flink-routes.ts';
import { inspectRoutes } from './inspect-routes.ts';
import { checkJob, checkRunning } from './job-checks.ts';
import { logRoutes } from './log-routes.ts';
import { metricAnswers } from './metric-routes.ts';
import { METRICS_TYPE, metricsText } from './metrics.ts';
import { openApi } from './openapi.ts';
import { ownMetrics } from './own-metrics.ts';
import type { ProcessMeter } from './process-meter.ts';
import { askedParallelism } from './resource-requirements.ts';
import { RestError } from './rest-error.ts';
import type { Route, RouteAnswer, RouteRequest } from './router.ts';
import { serializedThrowable } from './serialized-throwable.ts';
import { status } from './status-json.ts';

export interface RouteParts {
  control: JobControl;
  operations: Operations;
  /** Of the server that answers. */
  connections: () => Bound;
  /** Where the leader's API is. */
  leader: () => string | null;
  /** Of the process that answers. */
  meter: ProcessMeter;
  ownLog: (() => Promise<LogText>) | null;
  env: Env;
}

export function routesOf(parts: RouteParts): Route[] {
  const { control, operations, connections, leader, meter, ownLog, env } = parts;
  const bounds = (): Bounds => ({
    rest_connections: connections(),
    rest_savepoint_operations: operations.savepoints.kept,
    rest_checkpoint_operations: operations.manual.kept,
    rest_disposal_operations: operations.disposals.kept,
    rest_rescaling_operations: operations.rescalings.kept,
    ...control.inspection?.bounds,
  });
  const get = (path: string, answer: (view: JobView, request: RouteRequest) => object): Route => ({
    method: 'GET',
    path,
    handler: (request) => {
      const view = control.view();
      if (request.params['jobid'] !== undefined) checkJob(view, request.params['jobid']);
      return { status: 200, body: answer(view, request) };
    },
  });
  const routes: Route[] = [
    // Before the paths with a name in the same place.
    ...Object.entries(metricAnswers(meter)).map(([path, answer]) => get(path, answer)),
    ...Object.entries(FLINK_ANSWERS).map(([path, answer]) => get(path, answer)),
    get('/api/v1/details', details),
    get('/api/v1/status', (view) => status(view, leader())),
    {
      method: 'GET',
      path: '/metrics',
      handler: async () => {
        const job = metricsText(control.view(), bounds(), meter.read());
        return { status: 200, body: job + (await ownMetrics(true)), contentType: METRICS_TYPE };
      },
    },
    ...figuresRoutes(control),
    ...logRoutes(control, ownLog),
    ...actions(control, operations),
    ...disposal(control, operations),
    ...jobDisposal(control, operations),
    ...rescaling(control, operations),
    ...inspectRoutes(control, env),
  ];
  const described: Route = {
    method: 'GET',
    path: '/api/v1/openapi.json',
    handler: () => ({ status: 200, body: openApi([...routes, described]) }),
  };
  return [...routes, described];
}

/** Operations that clients trigger and ask for: one book for each kind, as trigger ids are. */
export interface Operations {
  savepoints: AsyncOperations;
  manual: AsyncOperations;
  disposals: AsyncOperations;
  rescalings: AsyncOperations;
}

function actions(control: JobControl, operations: Operations): Route[] {
  return [...savepointActions(control, operations), ...checkpointActions(control, operations)];
}

/** Starts what the request asks for, once for each trigger id; refuses what can't be any more. */
function accept(
  control: JobControl,
  operations: AsyncOperations,
  request: RouteRequest,
  work: (progress: Progress) => Promise<JsonObject>,
): RouteAnswer {
  const known = text(request, 'triggerId');
  const view = control.view();
  // Who asks again, because the answer was lost, may ask after the job has ended by it.
  if (known !== null && view.ended?.savepoint?.triggerId === known) {
    checkJob(view, request.params['jobid'] ?? '');
    return { status: 202, body: { 'request-id': known } };
  }
  if (known === null || !operations.knows(known)) checkRunning(view, request);
  const id = operations.start(known, work);
  return { status: 202, body: { 'request-id': id } };
}

function savepointActions(control: JobControl, { savepoints }: Operations): Route[] {
  return [
    {
      method: 'POST',
      path: '/jobs/:jobid/savepoints',
      handler: (request) => {
        const directory = text(request, 'target-directory');
        oneOf(request, 'formatType', SAVEPOINT_FORMATS);
        const cancel = flag(request, 'cancel-job');
        return accept(control, savepoints, request, async (progress) => {
          const wanted = savepointRequest(request, directory, progress);
          const { location } = await (cancel
            ? control.stopWithSavepoint({ ...wanted, drain: false, as: 'canceled' })
            : control.savepoint(wanted));
          return { location };
        });
      },
    },
    {
      method: 'POST',
      path: '/jobs/:jobid/stop',
      handler: (request) => {
        const directory = text(request, 'targetDirectory');
        oneOf(request, 'formatType', SAVEPOINT_FORMATS);
        const drain = flag(request, 'drain');
        return accept(control, savepoints, request, async (progress) => {
          const wanted = savepointRequest(request, directory, progress);
          const { location } = await control.stopWithSavepoint({
            ...wanted,
            drain,
            as: 'finished',
          });
          return { location };
        });
      },
    },
    {
      method: 'GET',
      path: '/jobs/:jobid/savepoints/:triggerid',
      handler: async (request) => {
        checkJob(control.view(), request.params['jobid'] ?? '');
        const triggerId = request.params['triggerid'] ?? '';
        // Of a leader before, or of the one that the job ended under.
        const made = savepoints.knows(triggerId) ? null : await control.findSavepoint(triggerId);
        if (made === null) return outcome(savepoints, request, failureCause);
        return completed({ location: made.location });
      },
    },
  ];
}

function checkpointActions(control: JobControl, { manual }: Operations): Route[] {
  return [
    {
      method: 'POST',
      path: '/jobs/:jobid/checkpoints',
      handler: (request) => {
        oneOf(request, 'checkpointType', CHECKPOINT_TYPES);
        return accept(control, manual, request, async () => ({
          checkpointId: await control.checkpoint(),
        }));
      },
    },
    {
      method: 'GET',
      path: '/jobs/:jobid/checkpoints/:triggerid',
      handler: (request) => {
        checkJob(control.view(), request.params['jobid'] ?? '');
        return outcome(manual, request, (failure) => ({
          failureCause: serializedThrowable(failure),
        }));
      },
    },
    ...changes(control),
  ];
}

function changes(control: JobControl): Route[] {
  return [
    {
      method: 'PUT',
      path: '/jobs/:jobid/resource-requirements',
      handler: (request) => rescale(control, request),
    },
    { method: 'PATCH', path: '/jobs/:jobid', handler: (request) => cancel(control, request) },
    // For clients that can only GET; a token is asked for all the same (rest-server.ts).
    {
      method: 'GET',
      path: '/jobs/:jobid/yarn-cancel',
      needsToken: true,
      handler: (request) => cancel(control, request),
    },
  ];
}

/** Flink's way to rescale before there were resource requirements. */
function rescaling(control: JobControl, { rescalings }: Operations): Route[] {
  return [
    {
      method: 'PATCH',
      path: '/jobs/:jobid/rescaling',
      handler: (request) => {
        const parallelism = Number(request.query.get('parallelism') ?? Number.NaN);
        if (!Number.isInteger(parallelism) || parallelism < 1) {
          throw new RestError(400, 'parallelism must be a number from 1');
        }
        return accept(control, rescalings, request, async () => {
          await control.rescale(parallelism);
          return {};
        });
      },
    },
    {
      method: 'GET',
      path: '/jobs/:jobid/rescaling/:triggerid',
      handler: (request) => {
        checkJob(control.view(), request.params['jobid'] ?? '');
        return outcome(rescalings, request, failureCause);
      },
    },
  ];
}

async function rescale(control: JobControl, request: RouteRequest): Promise<RouteAnswer> {
  checkRunning(control.view(), request);
  try {
    await control.rescale(askedParallelism(request.body));
  } catch (error) {
    const impossible = error instanceof TriggerJobError && error.code === 'PARALLELISM';
    throw impossible ? new RestError(400, error.message) : error;
  }
  return { status: 200, body: {} };
}

function disposal(control: JobControl, { disposals }: Operations): Route[] {
  return [
    {
      method: 'POST',
      path: '/savepoint-disposal',
      handler: (request) => {
        const path = text(request, 'savepoint-path');
        if (path === null) throw new RestError(400, 'savepoint-path is missing');
        const id = disposals.start(text(request, 'triggerId'), async () => {
          await control.disposeSavepoint(path);
          return {};
        });
        // Flink's status for this one, unlike the others'.
        return { status: 200, body: { 'request-id': id } };
      },
    },
    {
      method: 'GET',
      path: '/savepoint-disposal/:triggerid',
      handler: (request) => outcome(disposals, request, failureCause),
    },
  ];
}

/** Of all that the job has stored; the job ends by it. Whoever asks again starts it again. */
function jobDisposal(control: JobControl, { disposals }: Operations): Route[] {
  return [
    {
      method: 'POST',
      path: '/jobs/:jobid/disposal',
      handler: (request) => {
        checkJob(control.view(), request.params['jobid'] ?? '');
        const id = disposals.start(text(request, 'triggerId'), async () => {
          const { deleted, savepoints, left } = await control.dispose();
          return { deleted, savepoints, left };
        });
        return { status: 202, body: { 'request-id': id } };
      },
    },
    {
      method: 'GET',
      path: '/jobs/:jobid/disposal/:triggerid',
      handler: (request) => {
        checkJob(control.view(), request.params['jobid'] ?? '');
        return outcome(disposals, request, failureCause);
      },
    },
  ];
}

function cancel(control: JobControl, request: RouteRequest): RouteAnswer {
  checkRunning(control.view(), request);
  const mode = (request.query.get('mode') ?? 'cancel').toLowerCase();
  if (mode !== 'cancel') throw new RestError(400, `mode ${mode} is unknown; use mode=cancel`);
  void control.cancel().catch(() => undefined);
  return { status: 202, body: {} };
}

function outcome(
  operations: AsyncOperations,
  request: RouteRequest,
  failed: (failure: string) => JsonObject,
): RouteAnswer {
  const id = request.params['triggerid'] ?? '';
  const result = operations.result(id);
  if (result === undefined)
    throw new RestError(404, `There is no operation with trigger id ${id}.`);
  if (result === null) {
    const progress = operations.progress(id);
    const status = { id: 'IN_PROGRESS' };
    return { status: 200, body: progress === undefined ? { status } : { status, progress } };
  }
  const operation = 'ok' in result ? result.ok : failed(result.failure);
  return completed(operation);
}

function completed(operation: JsonObject): RouteAnswer {
  return { status: 200, body: { status: { id: 'COMPLETED' }, operation } };
}

function savepointRequest(
  request: RouteRequest,
  directory: string | null,
  progress: Progress,
): SavepointRequest {
  const onProgress: SavepointRequest['onProgress'] = ({ copiedBytes, totalBytes }) =>
    progress({ 'copied-bytes': copiedBytes, 'total-bytes': totalBytes });
  const triggerId = text(request, 'triggerId');
  return {
    onProgress,
    ...(directory !== null && { directory }),
    ...(triggerId !== null && { triggerId }),
  };
}

function failureCause(failure: string): JsonObject {
  return { 'failure-cause': serializedThrowable(failure) };
}

/** Longer ones are no ids; what is kept of them is bounded. */
const MAX_TEXT_CHARACTERS = 2_048;

function text({ body }: RouteRequest, name: string): string | null {
  const value = body[name];
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' && value !== '' && value.length <= MAX_TEXT_CHARACTERS)
    return value;
  throw new RestError(400, `${name} must be a string of 1 to ${MAX_TEXT_CHARACTERS} characters`);
}

/** Flink's; there is one format and one type of ours, whatever the client asks for. */
const SAVEPOINT_FORMATS = ['CANONICAL', 'NATIVE'];
const CHECKPOINT_TYPES = ['CONFIGURED', 'FULL', 'INCREMENTAL'];

function oneOf(request: RouteRequest, name: string, known: readonly string[]): void {
  const value = text(request, name);
  if (value === null || known.includes(value)) return;
  throw new RestError(400, `${name} ${value} is unknown; use ${known.join(', ')}`);
}

function flag({ body }: RouteRequest, name: string): boolean {
  const value = body[name] ?? false;
  if (typeof value === 'boolean') return value;
  throw new RestError(400, `${name} must be true or false`);
}
