/** GET /metrics: Prometheus text, names triggerjob_*, base units, counters as counters. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { CounterName, GaugeName } from '../jobmanager/job-totals.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { ShuffleMetrics } from '../rpc/messages.ts';
import { type Bounds, LIMIT_SUFFIX } from '../runtime/bound.ts';
import { boundsOf, MAX_EXTRA } from './bounds-of.ts';

const COUNTER_METRICS: Record<CounterName, { name: string; help: string; scale?: number }> = {
  cpuSeconds: { name: 'cpu_seconds_total', help: 'CPU time of the slot threads' },
  recordsRead: { name: 'records_read_total', help: 'Records the source emitted' },
  recordsProcessed: { name: 'records_processed_total', help: 'Records applied to a user' },
  bytesRead: { name: 'read_bytes_total', help: 'Bytes of the records read' },
  matched: { name: 'matched_total', help: 'Events whose verdict is true' },
  delivered: { name: 'delivered_total', help: 'Actions delivered' },
  deadLettered: { name: 'dead_lettered_total', help: 'Entries in the dead letter' },
  filterErrors: { name: 'filter_errors_total', help: 'Script errors, each counted as no match' },
  profileRequests: { name: 'profile_requests_total', help: 'Requests to the Profile API' },
  profileErrors: { name: 'profile_errors_total', help: 'Failed requests to the Profile API' },
  cacheHits: { name: 'cache_hits_total', help: 'Users found in memory' },
  cacheMisses: { name: 'cache_misses_total', help: 'Users not found in memory' },
  expired: { name: 'users_expired_total', help: 'Users that passed state.ttl' },
  truncatedEvents: { name: 'truncated_events_total', help: 'History events dropped for size' },
  divergent: { name: 'divergent_total', help: 'Repeats whose fetched profile may differ' },
  pauseCount: { name: 'checkpoint_pauses_total', help: 'Pauses of processing by checkpoints' },
  busyMs: { name: 'busy_seconds_total', help: 'Time the tasks worked', scale: 0.001 },
  backPressuredMs: {
    name: 'backpressured_seconds_total',
    help: 'Time the tasks waited for room',
    scale: 0.001,
  },
  idleMs: { name: 'idle_seconds_total', help: 'Time the tasks waited for input', scale: 0.001 },
};

const GAUGE_METRICS: Record<GaugeName, { name: string; help: string }> = {
  parked: { name: 'parked_events', help: 'Events that wait for the Profile API' },
  outbox: { name: 'outbox_entries', help: 'Actions under way' },
  outboxBytes: { name: 'outbox_bytes', help: 'Bytes of the actions under way' },
  usersCached: { name: 'users_cached', help: 'Users in memory' },
  users: { name: 'users', help: 'Users in state' },
  stateBytes: { name: 'state_bytes', help: 'Bytes of state' },
  cacheBytes: { name: 'cache_bytes', help: 'Bytes of the users in memory' },
  ledgerImbalance: { name: 'ledger_imbalance', help: 'I9: must be 0' },
};

/**
 * A registry per answer: totals live in the JobManager, and a metric can't outlive what it tells
 * of.
 */
export async function metricsText(
  view: JobView,
  rest: Bounds,
): Promise<{ contentType: string; text: string }> {
  const registry = new Registry();
  registry.setDefaultLabels({ job_id: view.jobId, job_name: view.plan.name });
  const count = (name: string, help: string, value: number) =>
    new Counter({ name: `triggerjob_${name}`, help, registers: [registry] }).inc(
      Math.max(0, value),
    );
  const gauge = (name: string, help: string, value: number) =>
    new Gauge({ name: `triggerjob_${name}`, help, registers: [registry] }).set(value);
  for (const [key, { name, help, scale }] of Object.entries(COUNTER_METRICS)) {
    count(name, help, view.counters[key as CounterName] * (scale ?? 1));
  }
  for (const [key, { name, help }] of Object.entries(GAUGE_METRICS)) {
    gauge(name, help, view.gauges[key as GaugeName]);
  }
  if (view.lag !== null) gauge('lag_records', 'Records still to read', view.lag);
  count('restarts_total', 'Restarts of the job', view.restarts);
  const { done, givenUp } = view.replacements;
  count('replacements_total', 'Losses after which the other tasks ran on', done);
  count('replacements_given_up_total', 'Losses that ended in a restart after all', givenUp);
  gauge('parallelism', 'Deployed subtasks; 0 between two deployments', view.tasks.length);
  gauge('parallelism_wanted', 'Subtasks that are wanted', view.scaling.wanted);
  count('rescales_total', 'Deployments ended for another parallelism', view.scaling.rescales);
  gauge('task_managers', 'Registered TaskManagers', view.taskManagers.length);
  addShuffle(view, gauge);
  gauge('running', '1 while every task runs', view.status === 'RUNNING' ? 1 : 0);
  gauge('splits_held', 'Splits that wait for older ones (P26)', view.splits.held);
  count('split_holds_expired_total', 'Holds ended by discoveryHoldMs', view.splits.expiredHolds);
  addCheckpoints(view, count, gauge);
  addExtra(view, registry);
  addBounds(view, rest, registry);
  return { contentType: registry.contentType, text: await registry.metrics() };
}

type Add = (name: string, help: string, value: number) => void;

/** Of the running attempt: each begins with new connections. */
function addShuffle(view: JobView, gauge: Add): void {
  const sum = (name: keyof ShuffleMetrics) =>
    view.taskManagers.reduce((total, { metrics }) => total + (metrics?.shuffle[name] ?? 0), 0);
  gauge('shuffle_links', 'Connections between TaskManagers, counted at both ends', sum('links'));
  gauge('shuffle_sent_bytes', 'Sent between TaskManagers by this attempt', sum('bytesSent'));
  gauge('shuffle_sent_frames', 'Frames of the same', sum('framesSent'));
  gauge('shuffle_queued_bytes', 'Bytes that wait for the network', sum('queuedBytes'));
  gauge('shuffle_stale_frames', 'Frames of older attempts, dropped (P38)', sum('staleFrames'));
}

function addCheckpoints(view: JobView, count: Add, gauge: Add): void {
  const { counts, latestCompleted } = view.checkpoints;
  count('checkpoints_completed_total', 'Completed checkpoints', counts.completed);
  count('checkpoints_failed_total', 'Failed checkpoints', counts.failed);
  gauge('checkpoints_in_progress', 'Checkpoints under way', counts.in_progress);
  if (latestCompleted === null) return;
  const { checkpointedBytes, stateBytes, durationMs, triggeredAt } = latestCompleted;
  gauge('checkpoint_last_uploaded_bytes', 'Uploaded by the last checkpoint', checkpointedBytes);
  gauge('checkpoint_last_state_bytes', 'Bytes the last checkpoint refers to', stateBytes);
  gauge('checkpoint_last_duration_seconds', 'Duration of the last one', durationMs / 1000);
  const at = (triggeredAt + durationMs) / 1000;
  gauge('checkpoint_last_timestamp_seconds', 'When the last one completed', at);
}

function addExtra(view: JobView, registry: Registry): void {
  const sums = new Map<string, number>();
  for (const { extra } of view.subtasks) {
    for (const [name, value] of Object.entries(extra)) {
      if (name.endsWith(LIMIT_SUFFIX)) continue;
      if (!sums.has(name) && sums.size >= MAX_EXTRA) continue;
      sums.set(name, (sums.get(name) ?? 0) + value);
    }
  }
  const values = new Gauge({
    name: 'triggerjob_extra',
    help: 'Further figures of the tasks, summed over subtasks',
    labelNames: ['name'],
    registers: [registry],
  });
  for (const [name, value] of sums) values.set({ name }, value);
}

/**
 * Every bounded place with its limit (I7), those of the slots summed over slots. A sum hides the
 * one that is full: the ratio is of the fullest.
 */
function addBounds(view: JobView, rest: Bounds, registry: Registry): void {
  const fullest = new Gauge({
    name: 'triggerjob_bound_fill_ratio',
    help: 'The fullest of its kind, 1 = at its limit',
    labelNames: ['name'],
    registers: [registry],
  });
  for (const [name, { value, limit, ratio }] of boundsOf(view, rest)) {
    const gauges = { [name]: value, [`${name}${LIMIT_SUFFIX}`]: limit };
    for (const [own, amount] of Object.entries(gauges)) {
      const full = `triggerjob_${own}`;
      // Some have been a metric of their own before.
      if (registry.getSingleMetric(full) !== undefined) continue;
      const help = 'A bounded place, see Limits in ARCHITECTURE.md';
      new Gauge({ name: full, help, registers: [registry] }).set(amount);
    }
    fullest.set({ name }, ratio);
  }
}
