/** One vertex and its subtasks in the shapes of Flink's REST API. Pure. */
import type { JobView, TaskView } from '../jobmanager/job-view.ts';
import type { JsonObject } from '../runtime/json.ts';
import { TASK_STATES, type TaskState } from './flink-json.ts';
import { ioMetrics, type Vertex, vertexOf } from './flink-vertices.ts';
import { RestError } from './rest-error.ts';

type Params = Readonly<Record<string, string>>;
type Numbers = Record<string, number>;

/** Flink's levels: share of the time that a subtask waits for room. */
const LOW_RATIO = 0.1;
const HIGH_RATIO = 0.5;
/** Flink's mark of a flame graph that is switched off. */
const FLAME_GRAPH_DISABLED = -2;
const FLAME_GRAPH_TYPES = ['FULL', 'ON_CPU', 'OFF_CPU'];

export function vertexDetails(view: JobView, params: Params): JsonObject {
  const vertex = vertexOf(params);
  const subtasks = view.tasks.map((task) => subtaskJson(view, vertex, task));
  return {
    id: vertex.id,
    name: vertex.name,
    parallelism: view.parallelism,
    maxParallelism: view.plan.maxParallelism,
    now: view.now,
    subtasks,
    aggregated: aggregated(view, vertex, view.tasks),
  };
}

/** The current attempt of a subtask, or the one that the path names: no older one is kept. */
export function subtaskDetails(view: JobView, params: Params): JsonObject {
  const vertex = vertexOf(params);
  const { subtaskindex: index, attempt } = params;
  const task = view.tasks.find(({ subtask }) => String(subtask) === index);
  if (task === undefined) throw new RestError(404, `Could not find subtask with index ${index}`);
  if (attempt !== undefined && attempt !== String(task.attempt)) {
    const text = `Could not find attempt ${attempt} of subtask ${index}: it is in ${task.attempt}`;
    throw new RestError(404, text);
  }
  return subtaskJson(view, vertex, task);
}

export function backPressure(view: JobView, params: Params): JsonObject {
  vertexOf(params);
  const subtasks = view.tasks.flatMap((task) => {
    const rates = view.ratesOf(task.subtask);
    if (rates === null) return [];
    const share = (ms: number) => Math.min(1, ms / 1_000);
    const ratio = share(rates.backPressuredMs);
    return [
      {
        subtask: task.subtask,
        'attempt-number': task.attempt,
        backpressureLevel: levelOf(ratio),
        ratio,
        idleRatio: share(rates.idleMs),
        busyRatio: share(rates.busyMs),
        'other-concurrent-attempts': null,
      },
    ];
  });
  if (subtasks.length === 0) return { status: 'deprecated' };
  return {
    status: 'ok',
    backpressureLevel: levelOf(Math.max(...subtasks.map(({ ratio }) => ratio))),
    'end-timestamp': view.now,
    subtasks,
  };
}

function levelOf(ratio: number): 'ok' | 'low' | 'high' {
  if (ratio <= LOW_RATIO) return 'ok';
  return ratio <= HIGH_RATIO ? 'low' : 'high';
}

export function vertexTaskManagers(view: JobView, params: Params): JsonObject {
  const vertex = vertexOf(params);
  const byTaskManager = Map.groupBy(view.tasks, ({ taskManagerId }) => taskManagerId);
  return {
    id: vertex.id,
    name: vertex.name,
    now: view.now,
    taskmanagers: [...byTaskManager].map(([id, tasks]) => {
      const started = Math.min(...tasks.map(({ deployedAt }) => deployedAt));
      const sums = tasks.map((task) => ioMetrics(vertex, countersOf(view, task)));
      const running = tasks.every(({ status }) => status === 'RUNNING');
      return {
        host: tasks[0]?.host ?? '',
        endpoint: endpointOf(view, id),
        status: running ? 'RUNNING' : (tasks.find((t) => t.status !== 'RUNNING')?.status ?? ''),
        'start-time': started,
        'end-time': -1,
        duration: view.now - started,
        metrics: summed(sums),
        'status-counts': Object.fromEntries(
          TASK_STATES.map((state) => [state, tasks.filter((t) => t.status === state).length]),
        ),
        'taskmanager-id': id,
        aggregated: aggregated(view, vertex, tasks),
      };
    }),
  };
}

export function subtaskTimes(view: JobView, params: Params): JsonObject {
  const { id, name } = vertexOf(params);
  return {
    id,
    name,
    now: view.now,
    subtasks: view.tasks.map((task) => ({
      subtask: task.subtask,
      host: task.host,
      endpoint: endpointOf(view, task.taskManagerId),
      duration: view.now - task.deployedAt,
      timestamps: Object.fromEntries(TASK_STATES.map((state) => [state, enteredAt(task, state)])),
    })),
  };
}

/** Event time is not what moves this job: no watermark, as in a Flink job that makes none. */
export function watermarks(params: Params): JsonObject[] {
  vertexOf(params);
  return [];
}

/** User accumulators: there are none, as in a Flink job that makes none. */
export function vertexAccumulators(params: Params): JsonObject {
  return { id: vertexOf(params).id, 'user-accumulators': [] };
}

export function subtasksAccumulators(view: JobView, params: Params): JsonObject {
  return {
    id: vertexOf(params).id,
    parallelism: view.parallelism,
    subtasks: view.tasks.map((task) => ({
      subtask: task.subtask,
      attempt: task.attempt,
      host: task.host,
      endpoint: endpointOf(view, task.taskManagerId),
      'user-accumulators': [],
    })),
  };
}

/** Flink samples the stacks of JVM threads; its own answer where that is switched off. */
export function flameGraph(params: Params, query: URLSearchParams): JsonObject {
  vertexOf(params);
  const type = (query.get('type') ?? 'FULL').toUpperCase();
  if (!FLAME_GRAPH_TYPES.includes(type)) {
    throw new RestError(400, `type ${type} is unknown; use ${FLAME_GRAPH_TYPES.join(', ')}`);
  }
  return { endTimestamp: FLAME_GRAPH_DISABLED };
}

function subtaskJson(view: JobView, vertex: Vertex, task: TaskView): JsonObject {
  return {
    subtask: task.subtask,
    status: task.status,
    attempt: task.attempt,
    host: task.host,
    endpoint: endpointOf(view, task.taskManagerId),
    'start-time': task.deployedAt,
    // Flink's own second name of it.
    start_time: task.deployedAt,
    'end-time': -1,
    duration: view.now - task.deployedAt,
    metrics: ioMetrics(vertex, countersOf(view, task)),
    'taskmanager-id': task.taskManagerId,
    'status-duration': statusDurations(view, task),
    'other-concurrent-attempts': null,
  };
}

function countersOf(view: JobView, { subtask }: TaskView) {
  return view.subtasks.find((metrics) => metrics.subtask === subtask) ?? null;
}

function endpointOf(view: JobView, taskManagerId: string): string {
  const found = view.taskManagers.find(({ id }) => id === taskManagerId);
  return found === undefined ? taskManagerId : `${found.host}:${found.dataPort}`;
}

/** Wall time, ms; 0 = never, or not told. */
function enteredAt({ deployedAt, runningAt }: TaskView, state: TaskState): number {
  if (state === 'DEPLOYING') return deployedAt;
  return state === 'RUNNING' ? (runningAt ?? 0) : 0;
}

/** -1 = it has not been in that state. */
function statusDurations({ now }: JobView, { deployedAt, runningAt }: TaskView): Numbers {
  return {
    CREATED: -1,
    SCHEDULED: -1,
    DEPLOYING: (runningAt ?? now) - deployedAt,
    INITIALIZING: -1,
    RUNNING: runningAt === null ? -1 : now - runningAt,
  };
}

function aggregated(view: JobView, vertex: Vertex, tasks: readonly TaskView[]): JsonObject {
  const metrics = tasks.map((task) => ioMetrics(vertex, countersOf(view, task)));
  const durations = tasks.map((task) => statusDurations(view, task));
  return { metrics: statistics(metrics), 'status-duration': statistics(durations) };
}

/** Of each number, over all subtasks. */
function statistics(all: readonly JsonObject[]): JsonObject {
  const names = Object.keys(all[0] ?? {}).filter((name) => typeof all[0]?.[name] === 'number');
  return Object.fromEntries(
    names.map((name) => {
      const values = all.map((one) => Number(one[name])).sort((a, b) => a - b);
      const sum = values.reduce((total, value) => total + value, 0);
      const at = (share: number) => values[Math.ceil(share * values.length) - 1] ?? 0;
      const ranks = { median: at(0.5), p25: at(0.25), p75: at(0.75), p95: at(0.95) };
      const [min, max] = [values[0] ?? 0, values.at(-1) ?? 0];
      return [name, { min, max, avg: Math.round(sum / values.length), sum, ...ranks }];
    }),
  );
}

function summed(all: readonly JsonObject[]): JsonObject {
  return Object.fromEntries(
    Object.entries(all[0] ?? {}).map(([name, first]) =>
      typeof first === 'number'
        ? [name, all.reduce((sum, one) => sum + Number(one[name]), 0)]
        : [name, all.every((one) => one[name] === true)],
    ),
  );
}
