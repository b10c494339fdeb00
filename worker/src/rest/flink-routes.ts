/** Flink's paths that only read, by the path. */
import type { JobView } from '../jobmanager/job-view.ts';
import type { JsonObject } from '../runtime/json.ts';
import {
  checkpointConfig,
  checkpointDetails,
  checkpointSubtasks,
  checkpoints,
} from './checkpoint-json.ts';
import * as flink from './flink-json.ts';
import * as jobManager from './jobmanager-json.ts';
import { resourceRequirements } from './resource-requirements.ts';
import { RestError } from './rest-error.ts';
import type { RouteRequest } from './router.ts';
import { taskManagerDetails, taskManagerOf, taskManagers } from './task-manager-json.ts';
import * as vertices from './vertex-json.ts';

export type Answer = (view: JobView, request: RouteRequest) => JsonObject | JsonObject[];

const JOB = '/jobs/:jobid';
const VERTEX = `${JOB}/vertices/:vertexid`;
const SUBTASK = `${VERTEX}/subtasks/:subtaskindex`;

export const FLINK_ANSWERS: Readonly<Record<string, Answer>> = {
  '/overview': flink.overview,
  '/config': flink.config,
  '/jobs': flink.jobs,
  '/jobs/overview': flink.jobsOverview,
  [JOB]: flink.job,
  [`${JOB}/status`]: (view) => ({ status: view.status }),
  [`${JOB}/config`]: flink.jobConfig,
  [`${JOB}/plan`]: flink.plan,
  [`${JOB}/exceptions`]: (view, { query }) => flink.exceptions(view, query),
  [`${JOB}/accumulators`]: flink.accumulators,
  [`${JOB}/execution-result`]: flink.executionResult,
  [`${JOB}/resource-requirements`]: resourceRequirements,
  [`${JOB}/checkpoints`]: checkpoints,
  [`${JOB}/checkpoints/config`]: checkpointConfig,
  [`${JOB}/checkpoints/details/:checkpointid`]: (view, { params }) =>
    checkpointDetails(checkpointOf(view, params)),
  [`${JOB}/checkpoints/details/:checkpointid/subtasks/:vertexid`]: (view, { params }) =>
    checkpointSubtasks(checkpointOf(view, params), params),
  [VERTEX]: (view, { params }) => vertices.vertexDetails(view, params),
  [`${VERTEX}/backpressure`]: (view, { params }) => vertices.backPressure(view, params),
  [`${VERTEX}/taskmanagers`]: (view, { params }) => vertices.vertexTaskManagers(view, params),
  [`${VERTEX}/subtasktimes`]: (view, { params }) => vertices.subtaskTimes(view, params),
  [`${VERTEX}/watermarks`]: (_, { params }) => vertices.watermarks(params),
  [`${VERTEX}/accumulators`]: (_, { params }) => vertices.vertexAccumulators(params),
  [`${VERTEX}/flamegraph`]: (_, { params, query }) => vertices.flameGraph(params, query),
  [`${VERTEX}/subtasks/accumulators`]: (view, { params }) =>
    vertices.subtasksAccumulators(view, params),
  [SUBTASK]: (view, { params }) => vertices.subtaskDetails(view, params),
  [`${SUBTASK}/attempts/:attempt`]: (view, { params }) => vertices.subtaskDetails(view, params),
  '/taskmanagers': taskManagers,
  '/taskmanagers/:taskmanagerid': (view, { params }) => taskManagerDetails(view, params),
  '/taskmanagers/:taskmanagerid/thread-dump': (view, { params }) =>
    jobManager.taskManagerThreads(taskManagerOf(view, params)),
  '/jobmanager/config': jobManager.configuration,
  '/jobmanager/environment': jobManager.environment,
  '/jobmanager/thread-dump': jobManager.ownThreads,
};

function checkpointOf({ checkpoints: history }: JobView, params: RouteRequest['params']) {
  const asked = params['checkpointid'];
  const entry = history.find(Number(asked));
  if (entry !== undefined) return entry;
  throw new RestError(404, `Could not find checkpointing statistics for checkpoint ${asked}.`);
}
