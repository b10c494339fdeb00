/**
 * GET /metrics: names triggerjob_*, base units, and what can be told under Flink's names. Made anew
 * for each answer: totals live in the JobManager, and a metric can't outlive what it tells of.
 */
import { CHECKPOINT_SECONDS } from '../jobmanager/checkpoint-history.ts';
import type { CounterName, GaugeName } from '../jobmanager/job-totals.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { TallyName } from '../rpc/figures.ts';
import type { ShuffleMetrics } from '../rpc/messages.ts';
import { type Bounds, LIMIT_SUFFIX } from '../runtime/bound.ts';
import { HISTOGRAM_BOUNDS, type HistogramName } from '../runtime/histogram.ts';
import { boundsOf, MAX_EXTRA } from './bounds-of.ts';
import { addFlinkMetrics } from './flink-aliases.ts';
import {
  COUNTER_METRICS,
  GAUGE_METRICS,
  HISTOGRAM_METRICS,
  TALLY_METRICS,
} from './metric-names.ts';
import type { ProcessFigures } from './process-meter.ts';
import { PrometheusText } from './prometheus-text.ts';
import { addSubtasks, addTaskManagers } from './task-metrics.ts';

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** `rest`: bounded places of the server that answers, `process`: of its process. */
export function metricsText(view: JobView, rest: Bounds, process: ProcessFigures): string {
  const out = new PrometheusText({ job_id: view.jobId, job_name: view.plan.name });
  addTotals(view, out);
  addJob(view, out);
  addShuffle(view, out);
  addCheckpoints(view, out);
  addExtra(view, out);
  addBounds(view, rest, out);
  addTaskManagers(view, out);
  addSubtasks(view, out);
  addFlinkMetrics(view, process, out);
  out.bare('triggerjob_metrics_left_out', 'Samples that this answer had no room for', out.leftOut, {
    job_id: view.jobId,
  });
  return out.toString();
}

function addTotals(view: JobView, out: PrometheusText): void {
  for (const [key, { name, help, scale = 1 }] of Object.entries(COUNTER_METRICS)) {
    out.counter(`triggerjob_${name}`, help, view.counters[key as CounterName] * scale);
  }
  for (const [key, { name, help, labels }] of Object.entries(TALLY_METRICS)) {
    out.counter(`triggerjob_${name}`, help, view.tallies[key as TallyName], labels);
  }
  for (const [key, { name, help }] of Object.entries(GAUGE_METRICS)) {
    out.gauge(`triggerjob_${name}`, help, view.gauges[key as GaugeName]);
  }
  for (const [key, { name, help }] of Object.entries(HISTOGRAM_METRICS)) {
    const of = key as HistogramName;
    out.histogram(`triggerjob_${name}`, help, HISTOGRAM_BOUNDS[of], view.histograms[of]);
  }
}

function addJob(view: JobView, out: PrometheusText): void {
  const gauge = (name: string, help: string, value: number) =>
    out.gauge(`triggerjob_${name}`, help, value);
  const count = (name: string, help: string, value: number) =>
    out.counter(`triggerjob_${name}`, help, value);
  const { filter, plan, scaling, splits, status, taskManagers } = view;
  out.gauge('triggerjob_info', 'What runs; its labels change when that does', 1, {
    filter_version: filter.version,
    plan: view.planDigest.slice(0, 12),
    run: String(view.run ?? ''),
  });
  out.gauge('triggerjob_state', 'The state of the job, 1', 1, { state: status });
  gauge('jobs_active', '1 until the job has ended', view.terminal ? 0 : 1);
  gauge('failed', '1 once the job has failed for good', status === 'FAILED' ? 1 : 0);
  gauge('running', '1 while every task runs', status === 'RUNNING' ? 1 : 0);
  gauge('started_timestamp_seconds', 'When the job began', view.startedAt / 1000);
  gauge('state_entered_timestamp_seconds', 'Since when', view.enteredAt(status) / 1000);
  if (view.lag !== null) gauge('lag_records', 'Records still to read', view.lag);
  count('restarts_total', 'Restarts of the job', view.restarts);
  const { done, givenUp } = view.replacements;
  count('replacements_total', 'Losses after which the other tasks ran on', done);
  count('replacements_given_up_total', 'Losses that ended in a restart after all', givenUp);
  gauge('parallelism', 'Deployed subtasks; 0 between two deployments', view.tasks.length);
  gauge('parallelism_wanted', 'Subtasks that are wanted', scaling.wanted);
  count('rescales_total', 'Deployments ended for another parallelism', scaling.rescales);
  gauge('task_managers', 'Registered TaskManagers', taskManagers.length);
  const wanted = Math.ceil(scaling.wanted / plan.slotsPerTaskManager);
  gauge('task_managers_wanted', 'TaskManagers that the wanted parallelism needs', wanted);
  gauge('slots', 'Slots of the registered TaskManagers', sumOf(taskManagers, 'slots'));
  gauge('slots_free', 'Of those the ones without a task', sumOf(taskManagers, 'freeSlots'));
  gauge('splits', 'Partitions that are read', splits.total);
  gauge('splits_held', 'Splits that wait for older ones (P26)', splits.held);
  count('split_holds_expired_total', 'Holds ended by discoveryHoldMs', splits.expiredHolds);
  gauge('filter_refused', '1 while a new script is refused', filter.refused === null ? 0 : 1);
  gauge('leader_epoch', 'Of the JobManager that leads', view.leaderEpoch);
}

function sumOf(all: JobView['taskManagers'], name: 'slots' | 'freeSlots'): number {
  return all.reduce((sum, one) => sum + one[name], 0);
}

/** Of the running attempt: each begins with new connections. */
function addShuffle(view: JobView, out: PrometheusText): void {
  const gauge = (name: string, help: string, of: keyof ShuffleMetrics) => {
    const total = view.taskManagers.reduce((sum, { metrics }) => {
      return sum + (metrics?.shuffle[of] ?? 0);
    }, 0);
    out.gauge(`triggerjob_shuffle_${name}`, help, total);
  };
  gauge('links', 'Connections between TaskManagers, counted at both ends', 'links');
  gauge('sent_bytes', 'Sent between TaskManagers by this attempt', 'bytesSent');
  gauge('sent_frames', 'Frames of the same', 'framesSent');
  gauge('queued_bytes', 'Bytes that wait for the network', 'queuedBytes');
  gauge('stale_frames', 'Frames of older attempts, dropped (P38)', 'staleFrames');
}

function addCheckpoints({ checkpoints, plan }: JobView, out: PrometheusText): void {
  const gauge = (name: string, help: string, value: number) =>
    out.gauge(`triggerjob_${name}`, help, value);
  const count = (name: string, help: string, value: number) =>
    out.counter(`triggerjob_${name}`, help, value);
  const { counts, savepoints, inherited, latestCompleted } = checkpoints;
  count('checkpoints_completed_total', 'Completed checkpoints', counts.completed);
  count('checkpoints_failed_total', 'Failed checkpoints', counts.failed);
  count('savepoints_completed_total', 'Completed savepoints', savepoints.completed);
  count('savepoints_failed_total', 'Failed savepoints', savepoints.failed);
  count('checkpoint_uploaded_bytes_total', 'Uploaded for checkpoints', checkpoints.uploadedBytes);
  gauge('checkpoints_in_progress', 'Checkpoints under way', counts.in_progress);
  gauge('checkpoints_failed_in_a_row', 'Since the last completed one', checkpoints.failedInARow);
  const { intervalMs } = plan.checkpointing;
  gauge('checkpoint_interval_seconds', 'checkpointing.interval', intervalMs / 1000);
  const duration = 'triggerjob_checkpoint_duration_seconds';
  out.histogram(duration, 'Of completed checkpoints', CHECKPOINT_SECONDS, checkpoints.seconds);
  for (const [phase, seconds] of Object.entries(checkpoints.phases)) {
    const help = 'Parts of a checkpoint, of each subtask';
    const name = 'triggerjob_checkpoint_phase_seconds';
    out.histogram(name, help, CHECKPOINT_SECONDS, seconds, { phase });
  }
  const last = latestCompleted ?? inherited;
  if (last === null) return;
  const { checkpointedBytes, stateBytes, durationMs, triggeredAt } = last;
  gauge('checkpoint_last_uploaded_bytes', 'Uploaded by the last checkpoint', checkpointedBytes);
  gauge('checkpoint_last_state_bytes', 'Bytes the last checkpoint refers to', stateBytes);
  gauge('checkpoint_last_duration_seconds', 'Duration of the last one', durationMs / 1000);
  const at = (triggeredAt + durationMs) / 1000;
  gauge('checkpoint_last_timestamp_seconds', 'When the last one completed', at);
}

function addExtra(view: JobView, out: PrometheusText): void {
  const sums = new Map<string, number>();
  for (const { extra } of view.subtasks) {
    for (const [name, value] of Object.entries(extra)) {
      // Bounded places have gauges of their own.
      if (name.endsWith(LIMIT_SUFFIX) || `${name}${LIMIT_SUFFIX}` in extra) continue;
      if (!sums.has(name) && sums.size >= MAX_EXTRA) continue;
      sums.set(name, (sums.get(name) ?? 0) + value);
    }
  }
  const help = 'Further figures of the tasks, summed over subtasks';
  for (const [name, value] of sums) {
    // Totals of an attempt, which are counters above.
    if (name.startsWith('rocksdb_compaction_')) continue;
    if (name.startsWith('rocksdb_')) out.gauge(`triggerjob_${name}`, `RocksDB: ${name}`, value);
    else out.gauge('triggerjob_extra', help, value, { name });
  }
  const open = sums.get('profile_breakerOpen') ?? 0;
  out.gauge('triggerjob_profile_breaker_open', 'Slots that take the Profile API for down', open);
}

/** Every bounded place with its limit (I7), those of the slots summed over slots. */
function addBounds(view: JobView, rest: Bounds, out: PrometheusText): void {
  for (const [name, { value, limit, ratio }] of boundsOf(view, rest)) {
    const gauges = { [name]: value, [`${name}${LIMIT_SUFFIX}`]: limit };
    for (const [own, amount] of Object.entries(gauges)) {
      // Some have been a metric of their own before.
      if (out.has(`triggerjob_${own}`)) continue;
      const help = 'A bounded place, see Limits in ARCHITECTURE.md';
      out.gauge(`triggerjob_${own}`, help, amount);
    }
    const help = 'The fullest of its kind, 1 = at its limit';
    out.gauge('triggerjob_bound_fill_ratio', help, ratio, { name });
  }
}
