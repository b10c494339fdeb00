/**
 * What the JobManager needs of the job's log and its checkpoints, in its own words. job-journal.ts
 * does it on the store. The calls of one leader come one at a time (checkpoint-driver.ts queues
 * them), but for `want`, which may come at any time.
 */
import type { CopyProgress } from '../checkpoint/copy-objects.ts';
import type { SavepointOrigin } from '../checkpoint/savepoint.ts';
import type {
  AskedParallelism,
  JobEnd,
  Manifest,
  ObjectRef,
  RecordedDeployment,
  StopSavepoint,
} from '../checkpoint/snapshot.ts';
import type { Bound } from '../runtime/bound.ts';

/** A checkpoint the job can start from, and the manifest object it lies in. */
export interface StoredCheckpoint {
  manifest: Manifest;
  ref: ObjectRef;
}

export interface SavepointWriting {
  trigger: SavepointOrigin['trigger'];
  /** Of its folder; drawn if left out. */
  name?: string;
  /** Ends the copy; what was copied is deleted again. */
  signal?: AbortSignal;
  onProgress?: (progress: CopyProgress) => void;
}

/** How a run of the operator ended, as every later reader of the log knows it. */
export interface RecordedEnd {
  outcome: JobEnd;
  savepoint: StopSavepoint | null;
}

export interface Journal {
  readonly leaderEpoch: number;
  /** The operator's count of deployments; null = not deployed by it, and no end is recorded. */
  readonly run: number | null;
  /** null: not ended, or no run. */
  readonly ended: RecordedEnd | null;
  /**
   * The job ends, whoever leads: once this has resolved, no JobManager of this run starts it again.
   * Until then it has not ended, and the next leader goes on. The first end holds.
   */
  end(end: RecordedEnd): Promise<void>;
  readonly lineage: string;
  /** What was last asked for at run time, by whichever leader; null = nothing. */
  readonly wantedParallelism: AskedParallelism | null;
  /** Resolves when no restart of the JobManager can forget it. Rejections are as of `publish`. */
  want(parallelism: AskedParallelism | null): Promise<void>;
  /** Manifests of the retained checkpoints, oldest first. */
  readonly retained: readonly ObjectRef[];
  /** Records of the log in memory. */
  readonly recordsKept: Bound;
  /**
   * Manifest, then the log record: the moment of completion. Rejects with CHECKPOINT_NOT_PUBLISHED
   * when the record is surely not in the log; any other rejection means unknown or fenced: the
   * leader must go.
   */
  publish(manifest: Manifest): Promise<StoredCheckpoint>;
  /**
   * Before every restart (P42, P52). Answers what the tasks restore: the newest checkpoint of the
   * log.
   */
  restore(
    reason: string,
    deployment: RecordedDeployment,
    verify?: 'manifest' | 'full',
  ): Promise<StoredCheckpoint>;
  /** Rejects with LEADERSHIP_LOST once a higher takeover is in the log. */
  confirm(): Promise<void>;
  /** Index of the newest record this leader knows. */
  readonly lastIndex: number;
  /** An aborted checkpoint; keeps its id from being used again by a later leader. */
  abort(checkpointId: number, reason: string): Promise<void>;
  /** Copies a completed checkpoint to `directory` (P49). Answers the savepoint's location. */
  writeSavepoint(
    checkpoint: StoredCheckpoint,
    directory: string,
    options: SavepointWriting,
  ): Promise<string>;
  /**
   * Deletes what neither the newest `retained` checkpoints nor `pinned` ones need (P46-P48).
   * Answers the retained checkpoint ids. `attempts` are those of the running tasks, by subtask:
   * their unreferenced segments may be owed.
   */
  collectGarbage(options: {
    retained: number;
    pinned: readonly StoredCheckpoint[];
    attempts: readonly number[];
  }): Promise<ReadonlySet<number>>;
}
