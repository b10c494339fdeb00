/** Checkpoints in the shapes of Flink's REST API. Pure. */
import {
  type CheckpointEntry,
  isSavepoint,
  type Summary,
  summarize,
} from '../jobmanager/checkpoint-history.ts';
import type { CheckpointKind } from '../jobmanager/coordinator-model.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { VERTEX_IDS, vertexOf } from './flink-vertices.ts';

const NO_FIGURES: Summary = { min: 0, max: 0, avg: 0, p50: 0, p90: 0, p95: 0, p99: 0, p999: 0 };

/** Flink's names: a synchronous savepoint is the one that its job ends with. */
const TYPES: Readonly<Record<CheckpointKind, string>> = {
  periodic: 'CHECKPOINT',
  manual: 'CHECKPOINT',
  final: 'CHECKPOINT',
  savepoint: 'SAVEPOINT',
  stop: 'SYNC_SAVEPOINT',
};

export function checkpoints(view: JobView): JsonObject {
  const history = view.checkpoints;
  const figures = history.summary();
  const { restored } = history;
  const none = summaryJson(NO_FIGURES);
  return {
    counts: { ...history.counts },
    summary: {
      checkpointed_size: summaryJson(figures.checkpointedBytes),
      state_size: summaryJson(figures.stateBytes),
      end_to_end_duration: summaryJson(figures.durationMs),
      alignment_buffered: none,
      processed_data: none,
      persisted_data: none,
    },
    latest: {
      completed: entryOrNull(history.latestCompleted),
      savepoint: entryOrNull(history.latestSavepoint),
      failed: entryOrNull(history.latestFailed),
      restored:
        restored === null
          ? null
          : {
              id: restored.id,
              restore_timestamp: restored.at,
              is_savepoint: restored.isSavepoint,
              external_path: restored.externalPath,
            },
    },
    history: history.entries().map((entry) => checkpoint(entry)),
  };
}

export function checkpointConfig(view: JobView): JsonObject {
  const { intervalMs, timeoutMs, minPauseMs, tolerableFailures } = view.plan.checkpointing;
  return {
    mode: 'exactly_once',
    interval: intervalMs,
    timeout: timeoutMs,
    min_pause: minPauseMs,
    max_concurrent: 1,
    externalization: { enabled: true, delete_on_cancellation: false },
    state_backend: 'RocksDB',
    checkpoint_storage: view.storeUrl,
    unaligned_checkpoints: false,
    tolerable_failed_checkpoints: tolerableFailures,
    aligned_checkpoint_timeout: 0,
    checkpoints_after_tasks_finish: true,
    state_changelog_enabled: false,
    changelog_periodic_materialization_interval: -1,
    changelog_storage: '',
  };
}

/** One entry with its per-vertex part; the chained stages share one snapshot, shown at each. */
export function checkpointDetails(entry: CheckpointEntry): JsonObject {
  const { id: _, ...figures } = sizes(entry);
  const task = {
    id: entry.id,
    status: entry.status,
    ...figures,
    latest_ack_timestamp: entry.latestAckAt ?? -1,
    num_subtasks: entry.tasks,
    num_acknowledged_subtasks: entry.acks.length,
  };
  return {
    ...checkpoint(entry),
    tasks: Object.fromEntries(VERTEX_IDS.map((id) => [id, task])),
  };
}

/** Of one vertex: the slot's snapshot is that of all four. Throws RestError 404. */
export function checkpointSubtasks(
  entry: CheckpointEntry,
  params: Readonly<Record<string, string>>,
): JsonObject {
  vertexOf(params);
  const { acks } = entry;
  const over = (of: (ack: CheckpointEntry['acks'][number]) => number) =>
    summaryJson(summarize(acks.map((ack) => Math.round(of(ack)))));
  const none = summaryJson(NO_FIGURES);
  const details = checkpointDetails(entry)['tasks'] as JsonObject;
  const subtasks = Array.from({ length: entry.tasks }, (_, index) => {
    const ack = acks.find(({ subtask }) => subtask === index);
    return ack === undefined
      ? { className: 'pending', index, status: 'pending_or_failed' }
      : acknowledged(entry, ack);
  });
  return {
    ...(details[vertexOf(params).id] as JsonObject),
    summary: {
      checkpointed_size: over(({ figures }) => figures.uploadedBytes),
      state_size: over(({ figures }) => figures.stateBytes),
      end_to_end_duration: over(({ at }) => at - entry.triggeredAt),
      checkpoint_duration: {
        sync: over(({ figures }) => figures.syncMs),
        async: over(({ figures }) => figures.asyncMs),
      },
      alignment: {
        buffered: none,
        processed: none,
        persisted: none,
        duration: over(({ figures }) => figures.alignmentMs),
      },
      start_delay: over(({ figures }) => figures.startDelayMs),
    },
    subtasks,
  };
}

function acknowledged(
  { triggeredAt }: CheckpointEntry,
  { subtask, at, figures }: CheckpointEntry['acks'][number],
): JsonObject {
  return {
    className: 'completed',
    index: subtask,
    status: 'completed',
    ack_timestamp: at,
    end_to_end_duration: at - triggeredAt,
    checkpointed_size: figures.uploadedBytes,
    state_size: figures.stateBytes,
    checkpoint: { sync: Math.round(figures.syncMs), async: Math.round(figures.asyncMs) },
    alignment: {
      buffered: 0,
      processed: 0,
      persisted: 0,
      duration: Math.round(figures.alignmentMs),
    },
    start_delay: Math.round(figures.startDelayMs),
    unaligned_checkpoint: false,
    aborted: false,
  };
}

function checkpoint(entry: CheckpointEntry): JsonObject {
  const savepoint = isSavepoint(entry);
  const base: JsonObject = {
    className: entry.status.toLowerCase(),
    ...sizes(entry),
    status: entry.status,
    is_savepoint: savepoint,
    savepointFormat: savepoint ? 'NATIVE' : null,
    trigger_timestamp: entry.triggeredAt,
    latest_ack_timestamp: entry.latestAckAt ?? -1,
    num_subtasks: entry.tasks,
    num_acknowledged_subtasks: entry.acks.length,
    checkpoint_type: TYPES[entry.kind],
    tasks: {},
  };
  if (entry.status === 'COMPLETED') {
    return { ...base, external_path: entry.externalPath, discarded: entry.discarded };
  }
  if (entry.status === 'FAILED') {
    const failedAt = entry.triggeredAt + entry.durationMs;
    return { ...base, failure_timestamp: failedAt, failure_message: entry.failure };
  }
  return base;
}

function sizes(entry: CheckpointEntry): JsonObject {
  return {
    id: entry.id,
    checkpointed_size: entry.checkpointedBytes,
    state_size: entry.stateBytes,
    end_to_end_duration: entry.durationMs,
    alignment_buffered: 0,
    processed_data: 0,
    persisted_data: 0,
  };
}

function entryOrNull(entry: CheckpointEntry | null): JsonValue {
  return entry === null ? null : checkpoint(entry);
}

function summaryJson(summary: Summary): JsonObject {
  return { ...summary };
}
