/**
 * What the operator says to a job's JobManager and hears from it. The real one is
 * jobmanager-client.ts; a test puts a model in its place.
 */

/** GET /api/v1/status, as far as the operator reads it. Times are wall-clock ms. */
export interface JobManagerStatus {
  /** The deployment it belongs to (--run). */
  run: number;
  /** Flink's job states. */
  state: string;
  /** When it entered `state`. */
  since: number;
  parallelism: number;
  desiredParallelism: number;
  taskManagers: { registered: number; slotsTotal: number; slotsFree: number };
  /** Restarts of the tasks in this run. */
  numRestarts: number;
  lastCheckpoint: CheckpointView | null;
  /** Failed ones since the last that completed. */
  failedCheckpoints: number;
  /** The newest savepoint of this run, whoever asked for it. */
  lastSavepoint: { location: string; bytes: number } | null;
  /** Of the script that runs. */
  scriptVersion: string;
  refusedScript: { version: string; error: string } | null;
  lag: number | null;
  error: string | null;
}

export interface CheckpointView {
  id: number;
  completedAt: number;
  durationMs: number;
  bytes: number;
  location: string;
}

/** How a savepoint, a stop or a checkpoint goes. */
export type TriggerProgress =
  | { phase: 'InProgress' }
  /** `left`: what a disposal could not delete, and why. */
  | { phase: 'Completed'; location: string | null; bytes: number | null; left?: string }
  | { phase: 'Failed'; error: string };

/**
 * `stop`: a savepoint, after which the job has ended. `disposal`: it ends, and all that it has
 * stored is deleted.
 */
export type TriggerKind = 'savepoint' | 'stop' | 'checkpoint' | 'disposal';

export interface JobRef {
  namespace: string;
  name: string;
  uid: string;
}

/**
 * Rejects with JobManagerError: `code` JOBMANAGER_UNREACHABLE (nobody answers, or nobody leads) or
 * JOBMANAGER_REFUSED (it answers, and will not). Every call has a deadline of a few seconds.
 */
export interface JobManagerApi {
  status(job: JobRef): Promise<JobManagerStatus>;
  /** null: no such trigger is known. */
  progress(job: JobRef, kind: TriggerKind, triggerId: string): Promise<TriggerProgress | null>;
  /** Idempotent by its id: the same one never starts a second. */
  trigger(job: JobRef, kind: TriggerKind, triggerId: string): Promise<void>;
  rescale(job: JobRef, parallelism: number): Promise<void>;
}

export class JobManagerError extends Error {
  readonly code: 'JOBMANAGER_UNREACHABLE' | 'JOBMANAGER_REFUSED';

  constructor(code: JobManagerError['code'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'JobManagerError';
    this.code = code;
  }
}
