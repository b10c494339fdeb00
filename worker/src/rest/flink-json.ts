/** The job in the shapes and names of Flink's REST API, so that its users' tools work. Pure. */
import type { JobStatus } from '../jobmanager/job-state.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { JsonObject } from '../runtime/json.ts';
import { VERTICES, type Vertex } from './flink-vertices.ts';

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

const TASK_STATES = [
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
type TaskState = (typeof TASK_STATES)[number];

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
          ...taskCounts(view, VERTICES.length),
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

export function taskManagers(view: JobView): JsonObject {
  return {
    taskmanagers: view.taskManagers.map((taskManager) => ({
      id: taskManager.id,
      path: `${taskManager.host}:${taskManager.pid}`,
      dataPort: taskManager.dataPort,
      jmxPort: -1,
      // Wall time of the last heartbeat, as Flink means it in spite of the name.
      timeSinceLastHeartbeat: view.now - taskManager.sinceHeartbeatMs,
      slotsNumber: taskManager.slots,
      freeSlots: taskManager.freeSlots,
      totalResource: {},
      freeResource: {},
      hardware: {
        cpuCores: 0,
        physicalMemory: view.plan.memory.processBytes,
        freeMemory: Math.max(
          0,
          view.plan.memory.processBytes - (taskManager.metrics?.rssBytes ?? 0),
        ),
        managedMemory: view.plan.memory.managedBytes,
      },
      memoryConfiguration: {},
      blocked: false,
    })),
  };
}

export function exceptions(view: JobView): JsonObject {
  const { first, entries, truncated } = view.exceptions;
  const newest = entries[0];
  const all = entries.map((entry) => ({
    exceptionName: entry.code,
    stacktrace: entry.message,
    timestamp: entry.at,
    taskName: entry.subtask === null ? null : `subtask ${entry.subtask}`,
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

function vertex(view: JobView, { id, name, reads, writes, bytes }: Vertex): JsonObject {
  const { counters } = view;
  const started = view.tasks.reduce((at, task) => Math.max(at, task.deployedAt), -1);
  return {
    id,
    name,
    maxParallelism: view.plan.maxParallelism,
    parallelism: view.parallelism,
    status: vertexState(view),
    'start-time': started,
    'end-time': -1,
    duration: started < 0 ? -1 : view.now - started,
    tasks: taskCounts(view, 1),
    metrics: {
      'read-bytes': bytes === null ? 0 : counters[bytes],
      'read-bytes-complete': true,
      'write-bytes': bytes === null ? 0 : counters[bytes],
      'write-bytes-complete': true,
      'read-records': counters[reads],
      'read-records-complete': true,
      'write-records': counters[writes],
      'write-records-complete': true,
      'accumulated-backpressured-time': Math.round(counters.backPressuredMs),
      'accumulated-idle-time': Math.round(counters.idleMs),
      'accumulated-busy-time': Math.round(counters.busyMs),
    },
  };
}

function taskCounts(view: JobView, times: number): JsonObject {
  const lost = view.parallelism - view.tasks.length;
  return Object.fromEntries(
    TASK_STATES.map((state) => {
      const here = view.tasks.filter((task) => task.status === state).length;
      return [state.toLowerCase(), (here + (state === missingState(view) ? lost : 0)) * times];
    }),
  );
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
