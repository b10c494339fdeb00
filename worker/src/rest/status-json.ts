/**
 * GET /api/v1/status: what the operator needs to know of a job, in one small answer. Times are wall
 * times in ms. Pure.
 */
import type { CheckpointEntry } from '../jobmanager/checkpoint-history.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { JsonObject } from '../runtime/json.ts';

/** `address`: of the leader's REST API; null = the job has ended and nobody leads it. */
export function status(view: JobView, address: string | null): JsonObject {
  const { checkpoints, ended, exceptions, filter } = view;
  const last = checkpoints.latestCompleted ?? checkpoints.inherited;
  const savepoint = checkpoints.latestSavepoint;
  const [newest] = exceptions.entries;
  const slots = view.taskManagers.reduce((sum, one) => sum + one.slots, 0);
  const free = view.taskManagers.reduce((sum, one) => sum + one.freeSlots, 0);
  const failed = ended?.outcome.kind === 'failed' ? ended.outcome : null;
  const error = failed ?? (view.status === 'FAILED' ? newest : undefined);
  return {
    jobId: view.jobId,
    run: view.run,
    state: view.status,
    since: view.enteredAt(view.status),
    now: view.now,
    leader: { epoch: view.leaderEpoch, address },
    parallelism: view.parallelism,
    desiredParallelism: view.scaling.wanted,
    taskManagers: { registered: view.taskManagers.length, slotsTotal: slots, slotsFree: free },
    numRestarts: view.restarts,
    lastCheckpoint:
      last === null
        ? null
        : { ...entry(last), location: `${view.storeUrl.replace(/\/+$/, '')}/${last.manifest}` },
    failedCheckpoints: checkpoints.failedInARow,
    lastSavepoint:
      savepoint === null
        ? null
        : {
            ...entry(savepoint),
            bytes: savepoint.stateBytes,
            location: savepoint.externalPath,
            stop: savepoint.kind === 'stop',
          },
    stopSavepoint: ended?.savepoint ? { ...ended.savepoint } : null,
    scriptVersion: {
      running: filter.version,
      wanted: filter.wanted,
      refused:
        filter.refused === null ? null : { version: filter.refusedVersion, error: filter.refused },
    },
    specDigest: view.planDigest,
    lag: view.lag,
    error: error === undefined || error === null ? null : `${error.code}: ${error.message}`,
    exceptions: newest === undefined ? null : { ...newest },
  };
}

function entry({ id, triggeredAt, durationMs, ...bytes }: CheckpointEntry): JsonObject {
  return {
    id,
    completedAt: triggeredAt + durationMs,
    durationMs,
    bytes: bytes.checkpointedBytes,
    stateBytes: bytes.stateBytes,
  };
}
