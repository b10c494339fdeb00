/**
 * The job in Flink's metrics: one table of what we can tell truly under Flink's names. REST answers
 * by ids made of it (metric-ids.ts), Prometheus by names made of it. Pure.
 *
 * What is another thing here is left out, not invented: no watermarks, no JVM collectors. The four
 * vertices of a slot are one thread, so busy, idle and backpressured time are that thread's.
 */
import type { JobStatus } from '../jobmanager/job-state.ts';
import type { Counters } from '../jobmanager/job-totals.ts';
import type { JobView, TaskManagerView } from '../jobmanager/job-view.ts';
import type { SourcePlan } from '../plan/job-plan.ts';
import type { SubtaskMetrics } from '../rpc/messages.ts';
import { LIMIT_SUFFIX } from '../runtime/bound.ts';
import { VERTICES, type Vertex } from './flink-vertices.ts';
import type { ProcessFigures } from './process-meter.ts';

/** Flink's scopes: `operator` is of a task, too, and its metrics bear the operator's name. */
export type FlinkScope = 'jobmanager' | 'job' | 'taskmanager' | 'task' | 'operator';

export interface FlinkMetric {
  scope: FlinkScope;
  /** Flink's, with its dots: `Status.JVM.CPU.Load`. */
  name: string;
  /** Flink's scope variables; the metric is of the one that all of them name. */
  labels: Readonly<Record<string, string>>;
  /** Text has no meaning to Prometheus. */
  value: number | string;
}

export type FlinkValues = Readonly<Record<string, number | string | null | undefined>>;

/** Operators of the vertices, as Flink writes them into metric ids. */
const SOURCES: Readonly<Record<SourcePlan['kind'], string>> = {
  kafka: 'Source__Kafka_Source',
  datagen: 'Source__Datagen_Source',
  file: 'Source__File_Source',
};

function operatorName(view: JobView, vertex: Vertex): string {
  return vertex.name === 'Source' ? SOURCES[view.plan.source.kind] : vertex.name;
}

export function flinkMetrics(view: JobView, process: ProcessFigures): FlinkMetric[] {
  const { jobId: job_id, plan } = view;
  const job = { job_id, job_name: plan.name };
  const { host } = process;
  return [
    ...rows('jobmanager', { host }, jobManagerValues(view, process)),
    ...rows('job', { host, ...job }, jobValues(view)),
    ...view.taskManagers.flatMap((taskManager) => {
      const { id: tm_id, host: tmHost } = taskManager;
      const labels = { host: tmHost, tm_id };
      return rows('taskmanager', labels, taskManagerValues(view, taskManager));
    }),
    ...view.subtasks.flatMap((subtask) => taskRows(view, subtask, job)),
  ];
}

/** Those that are known. */
function rows(scope: FlinkScope, labels: FlinkMetric['labels'], values: FlinkValues) {
  return Object.entries(values).flatMap(([name, value]): FlinkMetric[] =>
    value === null || value === undefined ? [] : [{ scope, name, labels, value }],
  );
}

function jobManagerValues(view: JobView, process: ProcessFigures): FlinkValues {
  const slots = view.taskManagers.reduce((sum, taskManager) => sum + taskManager.slots, 0);
  const free = view.taskManagers.reduce((sum, taskManager) => sum + taskManager.freeSlots, 0);
  const { cpuSeconds, coresUsed, cores } = process;
  return {
    numRegisteredTaskManagers: view.taskManagers.length,
    numPendingTaskManagers: 0,
    numRunningJobs: view.terminal ? 0 : 1,
    taskSlotsTotal: slots,
    taskSlotsAvailable: free,
    'Status.JVM.CPU.Load': coresUsed === null ? null : coresUsed / cores,
    'Status.JVM.CPU.Time': Math.round(cpuSeconds * 1e9),
    'Status.JVM.Memory.Heap.Used': process.heapUsedBytes,
    'Status.JVM.Memory.Heap.Committed': process.heapCommittedBytes,
    'Status.JVM.Memory.Heap.Max': process.heapLimitBytes,
    'Status.JVM.Memory.NonHeap.Used': Math.max(0, process.rssBytes - process.heapCommittedBytes),
    'Status.JVM.Memory.Direct.MemoryUsed': process.bufferBytes,
  };
}

/** Flink's metric of being in a state, of the states that have one. */
const STATE_METRICS: readonly [JobStatus, string][] = [
  ['INITIALIZING', 'initializing'],
  ['CREATED', 'created'],
  ['RUNNING', 'running'],
  ['RESTARTING', 'restarting'],
  ['CANCELLING', 'cancelling'],
  ['FAILING', 'failing'],
];

function jobValues(view: JobView): FlinkValues {
  const states = STATE_METRICS.flatMap(([status, name]) => {
    const now = view.status === status;
    return [
      [`${name}State`, now ? 1 : 0],
      [`${name}Time`, now ? view.now - view.enteredAt(status) : 0],
    ];
  });
  const running = view.status === 'RUNNING';
  return {
    numRestarts: view.restarts,
    fullRestarts: view.restarts,
    numRescales: view.scaling.rescales,
    uptime: running ? view.now - view.enteredAt('RUNNING') : -1,
    downtime: running || view.terminal ? 0 : view.now - lastRunning(view),
    ...Object.fromEntries(states),
    ...checkpointValues(view),
  };
}

/** Since when it does not run, if it ever has. */
function lastRunning(view: JobView): number {
  const since = view.enteredAt(view.status);
  return since > 0 ? since : view.now;
}

function checkpointValues({ checkpoints }: JobView): FlinkValues {
  const { counts, restored, latestCompleted: last } = checkpoints;
  return {
    totalNumberOfCheckpoints: counts.total,
    numberOfInProgressCheckpoints: counts.in_progress,
    numberOfCompletedCheckpoints: counts.completed,
    numberOfFailedCheckpoints: counts.failed,
    lastCheckpointRestoreTimestamp: restored?.at ?? -1,
    lastCheckpointDuration: last?.durationMs ?? -1,
    lastCheckpointSize: last?.checkpointedBytes ?? -1,
    lastCheckpointFullSize: last?.stateBytes ?? -1,
    lastCompletedCheckpointId: last?.id ?? -1,
    lastCheckpointCompletedTimestamp: last === null ? -1 : last.triggeredAt + last.durationMs,
    lastCheckpointExternalPath: last?.externalPath ?? 'n/a',
    lastCheckpointProcessedData: last === null ? -1 : 0,
    lastCheckpointPersistedData: last === null ? -1 : 0,
  };
}

function taskManagerValues(view: JobView, taskManager: TaskManagerView): FlinkValues {
  const { metrics, coresUsed } = taskManager;
  if (metrics === null) return {};
  const { memory, bufferBytes } = view.plan;
  const subtasks = metrics.subtasks;
  const sum = (of: (task: SubtaskMetrics) => number) =>
    subtasks.reduce((total, task) => total + of(task), 0);
  const extra = (name: string) => sum((task) => task.extra[name] ?? 0);
  const segments = extra(`channel_buffers${LIMIT_SUFFIX}`);
  const used = extra('channel_buffers');
  return {
    'Status.JVM.CPU.Load': coresUsed === null ? null : coresUsed / metrics.cores,
    'Status.JVM.CPU.Time': Math.round(metrics.cpuSeconds * 1e9),
    'Status.JVM.Memory.Heap.Used': metrics.heapBytes,
    'Status.JVM.Memory.Heap.Committed': metrics.heapTotalBytes,
    'Status.JVM.Memory.Heap.Max': memory.heapBytes,
    'Status.JVM.Memory.NonHeap.Used': Math.max(0, metrics.rssBytes - metrics.heapTotalBytes),
    'Status.JVM.Memory.Direct.MemoryUsed': metrics.externalBytes,
    'Status.Flink.Memory.Managed.Total': memory.managedBytes,
    'Status.Flink.Memory.Managed.Used':
      sum((task) => task.cacheBytes) +
      extra('rocksdb_block_cache_bytes') +
      extra('rocksdb_memtable_bytes'),
    'Status.Shuffle.Netty.TotalMemory': memory.networkBytes,
    'Status.Shuffle.Netty.UsedMemory': used * bufferBytes,
    'Status.Shuffle.Netty.AvailableMemory': Math.max(0, memory.networkBytes - used * bufferBytes),
    'Status.Shuffle.Netty.TotalMemorySegments': segments,
    'Status.Shuffle.Netty.UsedMemorySegments': used,
    'Status.Shuffle.Netty.AvailableMemorySegments': Math.max(0, segments - used),
  };
}

function taskRows(
  view: JobView,
  metrics: SubtaskMetrics,
  job: Readonly<Record<string, string>>,
): FlinkMetric[] {
  const task = view.tasks.find(({ subtask }) => subtask === metrics.subtask);
  if (task === undefined) return [];
  const rates = view.ratesOf(metrics.subtask);
  return VERTICES.flatMap((vertex) => {
    const operator = operatorName(view, vertex);
    const labels = {
      ...job,
      host: task.host,
      tm_id: task.taskManagerId,
      task_id: vertex.id,
      task_name: vertex.name,
      task_attempt_num: String(metrics.attempt),
      subtask_index: String(metrics.subtask),
    };
    const flow = flowValues(vertex, metrics, rates);
    return [
      ...rows('task', labels, { ...flow, ...taskValues(view, vertex, metrics, rates) }),
      ...rows(
        'operator',
        { ...labels, operator_id: vertex.id, operator_name: operator },
        { ...flow, ...operatorValues(view, vertex, metrics, rates) },
      ),
    ];
  });
}

function flowValues(
  { reads, writes, bytes }: Vertex,
  metrics: SubtaskMetrics,
  rates: Counters | null,
): FlinkValues {
  return {
    numRecordsIn: metrics[reads],
    numRecordsInPerSecond: rates?.[reads],
    numRecordsOut: metrics[writes],
    numRecordsOutPerSecond: rates?.[writes],
    ...(bytes !== null && {
      numBytesIn: metrics[bytes],
      numBytesInPerSecond: rates?.[bytes],
      numBytesOut: metrics[bytes],
      numBytesOutPerSecond: rates?.[bytes],
    }),
  };
}

function taskValues(
  view: JobView,
  { name }: Vertex,
  metrics: SubtaskMetrics,
  rates: Counters | null,
): FlinkValues {
  const source = name === 'Source';
  const waits = rates?.backPressuredMs;
  const { acks = [] } = view.checkpoints.latestCompleted ?? {};
  const figures = acks.find(({ subtask }) => subtask === metrics.subtask)?.figures;
  const alignmentMs = source ? 0 : figures?.alignmentMs;
  const { extra } = metrics;
  const usage = (bound: string) => (extra[bound] ?? 0) / (extra[`${bound}${LIMIT_SUFFIX}`] || 1);
  return {
    isBackPressured: waits === undefined ? undefined : waits > 500 ? 1 : 0,
    busyTimeMsPerSecond: rates?.busyMs,
    idleTimeMsPerSecond: rates?.idleMs,
    backPressuredTimeMsPerSecond: waits,
    // A task waits for room wholly or not at all.
    hardBackPressuredTimeMsPerSecond: waits,
    softBackPressuredTimeMsPerSecond: waits === undefined ? undefined : 0,
    accumulateBusyTimeMs: Math.round(metrics.busyMs),
    accumulateIdleTimeMs: Math.round(metrics.idleMs),
    accumulateBackPressuredTimeMs: Math.round(metrics.backPressuredMs),
    initializationTime: Math.round(metrics.restoreMs),
    checkpointStartDelayNanos: figures && Math.round(figures.startDelayMs * 1e6),
    checkpointAlignmentTime: alignmentMs === undefined ? null : Math.round(alignmentMs * 1e6),
    ...(source && {
      'Shuffle.Netty.Output.Buffers.outPoolUsage': usage('channel_buffers'),
      'Shuffle.Netty.Output.Buffers.outputQueueLength': extra['channel_buffers'],
      'buffers.outPoolUsage': usage('channel_buffers'),
    }),
    ...(name === 'UserStateManager' && {
      'Shuffle.Netty.Input.Buffers.inPoolUsage': usage('gate_frames'),
      'Shuffle.Netty.Input.Buffers.inputQueueLength': extra['gate_frames'],
      'buffers.inPoolUsage': usage('gate_frames'),
    }),
  };
}

function operatorValues(
  { plan }: JobView,
  { name }: Vertex,
  metrics: SubtaskMetrics,
  rates: Counters | null,
): FlinkValues {
  const { extra } = metrics;
  switch (name) {
    case 'Source':
      return {
        pendingRecords: metrics.pendingRecords < 0 ? null : metrics.pendingRecords,
        currentEmitEventTimeLag: metrics.emitEventTimeLagMs < 0 ? null : metrics.emitEventTimeLagMs,
        ...(plan.source.kind === 'kafka' && kafkaValues(metrics, rates)),
      };
    case 'UserStateManager':
      return {
        'users.rocksdb.block-cache-usage': extra['rocksdb_block_cache_bytes'],
        'users.rocksdb.block-cache-capacity': extra[`rocksdb_block_cache_bytes${LIMIT_SUFFIX}`],
        'users.rocksdb.cur-size-all-mem-tables': extra['rocksdb_memtable_bytes'],
        'users.rocksdb.estimate-num-keys': extra['rocksdb_estimate_num_keys'],
        'users.rocksdb.estimate-live-data-size': extra['rocksdb_live_data_bytes'],
        'users.rocksdb.estimate-pending-compaction-bytes':
          extra['rocksdb_pending_compaction_bytes'],
      };
    default:
      return {};
  }
}

function kafkaValues(metrics: SubtaskMetrics, rates: Counters | null): FlinkValues {
  const values: FlinkValues = {
    'records-consumed-total': metrics.recordsRead,
    'records-consumed-rate': rates?.recordsRead,
    'bytes-consumed-total': metrics.bytesRead,
    'bytes-consumed-rate': rates?.bytesRead,
    'records-lag-max': metrics.recordsLagMax,
    'assigned-partitions': metrics.openSplits < 0 ? null : metrics.openSplits,
  };
  const prefix = 'KafkaSourceReader.KafkaConsumer';
  return Object.fromEntries(Object.entries(values).map(([n, v]) => [`${prefix}.${n}`, v]));
}
