/** Which path answers what. Errors thrown here become {"errors": [...]} with their status. */
import type { JobControl, JobView } from '../jobmanager/job-view.ts';
import type { Bound, Bounds } from '../runtime/bound.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';
import { AsyncOperations } from './async-operations.ts';
import { checkpointConfig, checkpointDetails, checkpoints } from './checkpoint-json.ts';
import * as flink from './flink-json.ts';
import { metricsText } from './metrics.ts';
import { askedParallelism, resourceRequirements } from './resource-requirements.ts';
import { RestError } from './rest-error.ts';
import type { Route, RouteAnswer, RouteRequest } from './router.ts';
import { status } from './status-json.ts';

/** `connections`: of the server that answers these. */
export function routesOf(control: JobControl, env: Env, connections: () => Bound): Route[] {
  const savepoints = new AsyncOperations(env);
  const manual = new AsyncOperations(env);
  const bounds = (): Bounds => ({
    rest_connections: connections(),
    rest_savepoint_operations: savepoints.kept,
    rest_checkpoint_operations: manual.kept,
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
  return [
    get('/overview', flink.overview),
    get('/config', flink.config),
    get('/jobs', flink.jobs),
    get('/jobs/overview', flink.jobsOverview),
    get('/jobs/:jobid', flink.job),
    get('/jobs/:jobid/status', (view) => ({ status: view.status })),
    get('/jobs/:jobid/checkpoints', checkpoints),
    get('/jobs/:jobid/checkpoints/config', checkpointConfig),
    get('/jobs/:jobid/checkpoints/details/:cid', (view, { params }) => {
      const entry = view.checkpoints.find(Number(params['cid']));
      if (entry !== undefined) return checkpointDetails(entry);
      throw new RestError(404, `Could not find checkpointing statistics for ${params['cid']}.`);
    }),
    get('/jobs/:jobid/exceptions', flink.exceptions),
    get('/jobs/:jobid/resource-requirements', resourceRequirements),
    get('/taskmanagers', flink.taskManagers),
    get('/api/v1/status', status),
    {
      method: 'GET',
      path: '/metrics',
      handler: async () => {
        const { contentType, text } = await metricsText(control.view(), bounds());
        return { status: 200, body: text, contentType };
      },
    },
    ...actions(control, savepoints, manual),
  ];
}

function actions(
  control: JobControl,
  savepoints: AsyncOperations,
  manual: AsyncOperations,
): Route[] {
  const accept = (
    operations: AsyncOperations,
    request: RouteRequest,
    work: () => Promise<JsonObject>,
  ): RouteAnswer => {
    checkRunning(control.view(), request);
    const id = operations.start(text(request, 'triggerId'), work);
    return { status: 202, body: { 'request-id': id } };
  };
  return [
    {
      method: 'POST',
      path: '/jobs/:jobid/savepoints',
      handler: (request) => {
        const directory = text(request, 'target-directory') ?? undefined;
        return accept(savepoints, request, async () => {
          const { location } = await control.savepoint(directory);
          if (request.body['cancel-job'] === true) void control.cancel().catch(() => undefined);
          return { location };
        });
      },
    },
    {
      method: 'POST',
      path: '/jobs/:jobid/stop',
      handler: (request) => {
        const directory = text(request, 'targetDirectory') ?? undefined;
        return accept(savepoints, request, async () => {
          const { location } = await control.savepoint(directory);
          // Not awaited: the REST server ends with the job, and the client wants this answer first.
          void control.stop({ finalCheckpoint: true }).catch(() => undefined);
          return { location };
        });
      },
    },
    {
      method: 'GET',
      path: '/jobs/:jobid/savepoints/:triggerid',
      handler: (request) => outcome(control.view(), savepoints, request, failureCause),
    },
    {
      method: 'POST',
      path: '/jobs/:jobid/checkpoints',
      handler: (request) =>
        accept(manual, request, async () => ({ checkpointId: await control.checkpoint() })),
    },
    {
      method: 'GET',
      path: '/jobs/:jobid/checkpoints/:triggerid',
      handler: (request) =>
        outcome(control.view(), manual, request, (failure) => ({
          failureCause: cause(failure),
        })),
    },
    {
      method: 'PUT',
      path: '/jobs/:jobid/resource-requirements',
      handler: (request) => rescale(control, request),
    },
    { method: 'PATCH', path: '/jobs/:jobid', handler: (request) => cancel(control, request) },
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

function cancel(control: JobControl, request: RouteRequest): RouteAnswer {
  checkRunning(control.view(), request);
  const mode = request.query.get('mode') ?? 'cancel';
  if (mode !== 'cancel') throw new RestError(400, `mode ${mode} is unknown; use mode=cancel`);
  void control.cancel().catch(() => undefined);
  return { status: 202, body: {} };
}

function outcome(
  view: JobView,
  operations: AsyncOperations,
  request: RouteRequest,
  failed: (failure: string) => JsonObject,
): RouteAnswer {
  checkJob(view, request.params['jobid'] ?? '');
  const id = request.params['triggerid'] ?? '';
  const result = operations.result(id);
  if (result === undefined)
    throw new RestError(404, `There is no operation with trigger id ${id}.`);
  if (result === null) return { status: 200, body: { status: { id: 'IN_PROGRESS' } } };
  const operation = 'ok' in result ? result.ok : failed(result.failure);
  return { status: 200, body: { status: { id: 'COMPLETED' }, operation } };
}

function failureCause(failure: string): JsonObject {
  return { 'failure-cause': cause(failure) };
}

/** Flink's serialized throwable, as far as its tools read it. */
function cause(failure: string): JsonObject {
  return { class: 'TriggerJobError', 'stack-trace': failure, 'serialized-throwable': '' };
}

function checkJob(view: JobView, jobId: string): void {
  if (jobId !== view.jobId) throw new RestError(404, `Job ${jobId} not found`);
}

/** Flink's operator depends on 404 for a missing job and 409 for one that has ended. */
function checkRunning(view: JobView, request: RouteRequest): void {
  checkJob(view, request.params['jobid'] ?? '');
  if (view.terminal) throw new RestError(409, `Job ${view.jobId} is already ${view.status}`);
}

function text({ body }: RouteRequest, name: string): string | null {
  const value = body[name];
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' && value !== '') return value;
  throw new RestError(400, `${name} must be a non-empty string`);
}
