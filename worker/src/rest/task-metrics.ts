/** What dashboards ask of single subtasks and TaskManagers: skew, CPU, memory, network, disk. */
import type { JobView } from '../jobmanager/job-view.ts';
import type { SubtaskMetrics } from '../rpc/messages.ts';
import type { PrometheusText } from './prometheus-text.ts';

type Figure<Of> = [name: string, help: string, value: (of: Of) => number | null];

const SUBTASK_COUNTERS: readonly Figure<SubtaskMetrics>[] = [
  ['records_total', 'Records applied to a user', (one) => one.recordsProcessed],
  ['cpu_seconds_total', 'CPU time of the slot thread', (one) => one.cpuSeconds],
  ['busy_seconds_total', 'Time it worked', (one) => one.busyMs / 1000],
  ['backpressured_seconds_total', 'Time it waited for room', (one) => one.backPressuredMs / 1000],
  ['idle_seconds_total', 'Time it waited for input', (one) => one.idleMs / 1000],
];

const SUBTASK_GAUGES: readonly Figure<SubtaskMetrics>[] = [
  [
    'lag_records',
    'Records still to read',
    ({ pendingRecords }) => (pendingRecords < 0 ? null : pendingRecords),
  ],
  ['state_bytes', 'Bytes of state', (one) => one.stateBytes],
  ['users', 'Users in state', (one) => one.users],
  ['outbox_entries', 'Actions under way', (one) => one.outbox],
  ['parked_events', 'Events that wait for the Profile API', (one) => one.parked],
  [
    'event_loop_lag_p99_seconds',
    'How late its thread comes to what is due, over the last seconds',
    (one) => one.eventLoopLagP99Ms / 1000,
  ],
  [
    'checkpoint_pause_p99_seconds',
    'How long checkpoints keep it from processing',
    (one) => one.pauseP99Ms / 1000,
  ],
];

type TaskManagerFigure = Figure<NonNullable<JobView['taskManagers'][number]['metrics']>>;

const TASK_MANAGER_COUNTERS: readonly TaskManagerFigure[] = [
  ['cpu_seconds_total', 'CPU time, all threads', (one) => one.cpuSeconds],
  ['disk_read_bytes_total', 'Read from disks', ({ system }) => system?.readBytes ?? null],
  ['disk_written_bytes_total', 'Written to disks', ({ system }) => system?.writtenBytes ?? null],
];

const TASK_MANAGER_GAUGES: readonly TaskManagerFigure[] = [
  ['resident_memory_bytes', 'Resident memory', (one) => one.rssBytes],
  ['heap_bytes', 'Used heap of the main thread', (one) => one.heapBytes],
  ['heap_total_bytes', 'Heap of the main thread', (one) => one.heapTotalBytes],
  ['external_memory_bytes', 'Memory of buffers, outside of heaps', (one) => one.externalBytes],
  ['memory_limit_bytes', 'Of the container or the machine', (one) => one.memoryLimitBytes],
  [
    'event_loop_lag_p99_seconds',
    'How late its main thread comes to what is due, over the last seconds',
    (one) => one.eventLoopLagP99Ms / 1000,
  ],
  ['disk_free_bytes', 'Free where local state lies', ({ system }) => system?.diskFreeBytes ?? null],
  ['disk_bytes', 'Size of that disk', ({ system }) => system?.diskBytes ?? null],
];

export function addSubtasks(view: JobView, out: PrometheusText): void {
  for (const metrics of view.subtasks) {
    const { subtask } = metrics;
    const task = view.tasks.find((one) => one.subtask === subtask);
    const labels = { subtask: String(subtask), tm_id: task?.taskManagerId ?? '' };
    for (const [name, help, value] of SUBTASK_COUNTERS) {
      out.counter(`triggerjob_subtask_${name}`, help, value(metrics) ?? 0, labels);
    }
    for (const [name, help, value] of SUBTASK_GAUGES) {
      const known = value(metrics);
      if (known !== null) out.gauge(`triggerjob_subtask_${name}`, help, known, labels);
    }
  }
}

export function addTaskManagers(view: JobView, out: PrometheusText): void {
  for (const { id, sinceHeartbeatMs, metrics } of view.taskManagers) {
    const labels = { tm_id: id };
    const name = (end: string) => `triggerjob_taskmanager_${end}`;
    const silent = 'Since its last heartbeat';
    out.gauge(name('heartbeat_age_seconds'), silent, sinceHeartbeatMs / 1000, labels);
    if (metrics === null) continue;
    for (const [end, help, value] of TASK_MANAGER_COUNTERS) {
      const known = value(metrics);
      if (known !== null) out.counter(name(end), help, known, labels);
    }
    for (const [end, help, value] of TASK_MANAGER_GAUGES) {
      const known = value(metrics);
      if (known !== null) out.gauge(name(end), help, known, labels);
    }
    for (const { device, receivedBytes, sentBytes } of metrics.system?.network ?? []) {
      const of = { device, ...labels };
      out.counter(name('network_receive_bytes_total'), 'Received', receivedBytes, of);
      out.counter(name('network_transmit_bytes_total'), 'Sent', sentBytes, of);
    }
  }
}
