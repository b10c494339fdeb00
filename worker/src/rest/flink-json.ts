/** The job in the shapes and names of Flink's REST API, so that its users' tools work. Pure. */
import type { JobStatus } from '../jobmanager/job-state.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { RestartStrategyPlan } from '../plan/job-plan.ts';
import type { JsonObject } from '../runtime/json.ts';
import { ioMetrics, SLOT_SHARING_GROUP, VERTICES, type Vertex } from './flink-vertices.ts';
import { listed } from './metric-ids.ts';
import { RestError } from './rest-error.ts';
import { serializedThrowable } from './serialized-throwable.ts';

/** The release whose REST shapes these are; Flink's tools read it to decide what they may ask. */
const FLINK_VERSION = '1.20.0';
const REFRESH_MS = 3_000;

const STATUSES: readonly JobStatus[] = [
  'INITIALIZING',
  'CREATED',
  'RUNNING',
  'FAILING',
  'FAILED',
  'CANCELLING',
  'CANCELED',
  'FINISHED',
  'RESTARTING',
  'SUSPENDED',
  'RECONCILING',
];

export const TASK_STATES = [
  'CREATED',
  'SCHEDULED',
  'DEPLOYING',
  'INITIALIZING',
  'RUNNING',
  'FINISHED',
  'CANCELING',
  'CANCELED',
  'FAILED',
  'RECONCILING',
] as const;
export type TaskState = (typeof TASK_STATES)[number];

export function overview(view: JobView): JsonObject {
  const slots = view.taskManagers.reduce((sum, { slots }) => sum + slots, 0);
  const free = view.taskManagers.reduce((sum, { freeSlots }) => sum + freeSlots, 0);
  const is = (...statuses: JobStatus[]) => (statuses.includes(view.status) ? 1 : 0);
  return {
    taskmanagers: view.taskManagers.length,
    'taskmanagers-blocked': 0,
    'slots-total': slots,
    'slots-available': free,
    'slots-free-and-blocked': 0,
    'jobs-running': view.terminal ? 0 : 1,
    'jobs-finished': is('FINISHED'),
    'jobs-cancelled': is('CANCELED'),
    'jobs-failed': is('FAILED'),
    'flink-version': FLINK_VERSION,
    'flink-commit': 'triggerjob',
  };
}

export function config(): JsonObject {
  return {
    'refresh-interval': REFRESH_MS,
    'timezone-name': 'Coordinated Universal Time',
    'timezone-offset': 0,
    'flink-version': FLINK_VERSION,
    'flink-revision': 'triggerjob',
    features: {
      'web-submit': false,
      'web-cancel': true,
      'web-rescale': true,
      'web-history': false,
    },
  };
}

export function jobs(view: JobView): JsonObject {
  return { jobs: [{ id: view.jobId, status: view.status }] };
}

export function jobsOverview(view: JobView): JsonObject {
  return {
    jobs: [
      {
        jid: view.jobId,
        name: view.plan.name,
        state: view.status,
        'start-time': view.startedAt,
        ...times(view),
        'last-modification': Math.max(...STATUSES.map((status) => view.enteredAt(status))),
        tasks: {
          total: VERTICES.length * view.parallelism,
          // In small letters here, and only here.
          ...Object.fromEntries(
            taskCounts(view).map(([state, tasks]) => [
              state.toLowerCase(),
              tasks * VERTICES.length,
            ]),
          ),
        },
      },
    ],
  };
}

export function job(view: JobView): JsonObject {
  return {
    jid: view.jobId,
    name: view.plan.name,
    isStoppable: false,
    state: view.status,
    'job-type': 'STREAMING',
    'start-time': view.startedAt,
    ...times(view),
    maxParallelism: view.plan.maxParallelism,
    now: view.now,
    timestamps: Object.fromEntries(STATUSES.map((status) => [status, view.enteredAt(status)])),
    vertices: VERTICES.map((one) => vertex(view, one)),
    'status-counts': Object.fromEntries(
      TASK_STATES.map((state) => [state, vertexState(view) === state ? VERTICES.length : 0]),
    ),
    plan: jobPlan(view),
  };
}

/** What Flink shows of them where `maxExceptions` does not say. */
const SHOWN_EXCEPTIONS = 20;

/** `failureLabelFilter`: key:value, of all that is shown. Throws RestError 400. */
export function exceptions(view: JobView, query: URLSearchParams): JsonObject {
  const { first, entries: known } = view.exceptions;
  const limit = Number(query.get('maxExceptions') ?? SHOWN_EXCEPTIONS);
  if (!Number.isInteger(limit) || limit < 0) {
    throw new RestError(400, 'maxExceptions must be a number from 0');
  }
  const filters = listed(query, 'failureLabelFilter') ?? [];
  const wrong = filters.find((filter) => !/^[^:]+:[^:]+$/.test(filter));
  if (wrong !== undefined) throw new RestError(400, `failureLabelFilter ${wrong}: use key:value`);
  const matching = known.filter((entry) =>
    filters.every((filter) => filter === `attempt:${entry.attempt}`),
  );
  const entries = matching.slice(0, limit);
  const truncated = view.exceptions.truncated || entries.length < matching.length;
  const newest = known[0];
  const all = entries.map((entry) => ({
    exceptionName: entry.code,
    stacktrace: entry.message,
    timestamp: entry.at,
    taskName: entry.subtask === null ? null : `subtask ${entry.subtask}`,
    location: entry.taskManagerId,
    endpoint: entry.taskManagerId,
    taskManagerId: entry.taskManagerId,
    failureLabels: { attempt: String(entry.attempt) },
    concurrentExceptions: [],
  }));
  return {
    'root-exception': newest === undefined ? null : `${newest.code}: ${newest.message}`,
    timestamp: newest?.at ?? null,
    'all-exceptions': [],
    truncated,
    exceptionHistory: { entries: all, truncated },
    firstCause:
      first === null ? null : { timestamp: first.at, code: first.code, message: first.message },
  };
}

function times(view: JobView): JsonObject {
  const end = view.terminal ? view.enteredAt(view.status) : -1;
  return { 'end-time': end, duration: (end < 0 ? view.now : end) - view.startedAt };
}

function vertex(view: JobView, one: Vertex): JsonObject {
  const { id, name } = one;
  const { counters } = view;
  const started = view.tasks.reduce((at, task) => Math.max(at, task.deployedAt), -1);
  return {
    id,
    // One slot runs a subtask of each.
    slotSharingGroupId: SLOT_SHARING_GROUP,
    name,
    maxParallelism: view.plan.maxParallelism,
    parallelism: view.parallelism,
    status: vertexState(view),
    'start-time': started,
    'end-time': -1,
    duration: started < 0 ? -1 : view.now - started,
    tasks: Object.fromEntries(taskCounts(view)),
    metrics: ioMetrics(one, counters),
  };
}

/** By state, of one vertex. */
function taskCounts(view: JobView): [TaskState, number][] {
  const lost = view.parallelism - view.tasks.length;
  return TASK_STATES.map((state) => {
    const here = view.tasks.filter((task) => task.status === state).length;
    return [state, here + (state === missingState(view) ? lost : 0)];
  });
}

/** State of subtasks that no TaskManager has: Flink's for a job in that state. */
function missingState(view: JobView): TaskState {
  switch (view.status) {
    case 'FINISHED':
      return 'FINISHED';
    case 'FAILED':
      return 'FAILED';
    case 'CANCELED':
      return 'CANCELED';
    default:
      return 'SCHEDULED';
  }
}

function vertexState(view: JobView): TaskState {
  if (view.terminal) return missingState(view);
  if (view.tasks.length < view.parallelism) return 'SCHEDULED';
  if (view.tasks.every((task) => task.status === 'RUNNING')) return 'RUNNING';
  return view.tasks.some((task) => task.status === 'CANCELING') ? 'CANCELING' : 'INITIALIZING';
}

export function plan(view: JobView): JsonObject {
  return { plan: jobPlan(view) };
}

/** What Flink's page shows of a job's settings; ours are those that its users look for. */
export function jobConfig(view: JobView): JsonObject {
  const { plan } = view;
  const settings: JsonObject = {
    'execution.checkpointing.interval': plan.checkpointing.intervalMs,
    'execution.checkpointing.timeout': plan.checkpointing.timeoutMs,
    'execution.checkpointing.min-pause': plan.checkpointing.minPauseMs,
    'execution.checkpointing.dir': plan.checkpointing.directory,
    'execution.checkpointing.savepoint-dir': plan.savepointDirectory,
    'pipeline.max-parallelism': plan.maxParallelism,
    'restart-strategy.type': plan.restartStrategy.type,
    'state.backend.type': 'rocksdb',
    source: plan.source.kind,
    keyBy: plan.keyBy,
    'state.ttl': plan.state.ttlMs,
    'filter.language': plan.filter.language,
    'filter.version': view.filter.version,
    action: plan.action.kind,
    deadLetter: plan.deadLetter.kind,
  };
  return {
    jid: view.jobId,
    name: plan.name,
    'execution-config': {
      'execution-mode': 'PIPELINED',
      'restart-strategy': restartText(plan.restartStrategy),
      'job-parallelism': view.parallelism,
      'object-reuse-mode': true,
      'user-config': Object.fromEntries(
        Object.entries(settings).map(([name, value]) => [name, String(value)]),
      ),
    },
  };
}

/** For people. */
function restartText(strategy: RestartStrategyPlan): string {
  const { type, ...rest } = strategy;
  const parts = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return parts.length === 0 ? type : `${type} (${parts.join(', ')})`;
}

function jobPlan(view: JobView): JsonObject {
  const nodes = VERTICES.map(({ id, name }, index) => {
    const before = VERTICES[index - 1];
    const ship = index === 1 ? 'HASH' : 'FORWARD';
    return {
      id,
      parallelism: view.parallelism,
      operator: '',
      operator_strategy: '',
      description: name,
      inputs:
        before === undefined
          ? []
          : [
              {
                num: 0,
                id: before.id,
                ship_strategy: ship,
                exchange: 'pipelined_bounded',
              },
            ],
      optimizer_properties: {},
    };
  });
  return { jid: view.jobId, name: view.plan.name, type: 'STREAMING', nodes };
}

/** There are none, as in a Flink job that makes none. */
export function accumulators(): JsonObject {
  return {
    'job-accumulators': [],
    'user-task-accumulators': [],
    'serialized-user-task-accumulators': {},
  };
}

const APPLICATION_STATUS: Partial<Record<JobStatus, string>> = {
  FINISHED: 'SUCCEEDED',
  CANCELED: 'CANCELED',
  FAILED: 'FAILED',
};

/** What a client that waits for the job's end polls. */
export function executionResult(view: JobView): JsonObject {
  const status = APPLICATION_STATUS[view.status];
  if (status === undefined) return { status: { id: 'IN_PROGRESS' } };
  return {
    status: { id: 'COMPLETED' },
    'job-execution-result': {
      id: view.jobId,
      'application-status': status,
      'accumulator-results': {},
      'net-runtime': view.enteredAt(view.status) - view.startedAt,
      ...(view.status === 'FAILED' && {
        'failure-cause': serializedThrowable(view.exceptions.entries[0]?.message ?? 'it failed'),
      }),
    },
  };
}
