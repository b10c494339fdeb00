/**
 * What a checkpoint consists of: the parts a subtask acknowledges, and the manifest made of them.
 * Plain JSON. Row bytes live in segment objects (segment.ts).
 */
import type { SplitPosition } from '../source/source.ts';

/**
 * One immutable object in the store. `sha256` (hex) and `bytes` are checked before use (P22, P23).
 */
export interface ObjectRef {
  name: string;
  bytes: number;
  sha256: string;
}

/** Key groups `first`..`last`, both included. */
export interface KeyGroupRange {
  first: number;
  last: number;
}

/**
 * Delta of one subtask over the intervals (from, to] (checkpoint ids), P11, P12. Several runs of
 * one interval have the same from/to and rising `run`; a later run wins. `object` is null when
 * nothing changed: the entry then only proves that the chain has no gap.
 */
export interface DeltaRef {
  range: KeyGroupRange;
  from: number;
  to: number;
  run: number;
  object: ObjectRef | null;
}

/** Base of `groups`, made after F(e-1) was out, before barrier `e` (P13). Serves from `e` on. */
export interface BaseRef {
  /**
   * Key groups whose rows this object serves in this checkpoint (a superset may be stored in it).
   */
  groups: number[];
  epoch: number;
  object: ObjectRef;
}

/** A subtask's part of one checkpoint: all chains of its key groups, owed deltas too (P16). */
export interface SubtaskSnapshot {
  subtask: number;
  attempt: number;
  range: KeyGroupRange;
  bases: BaseRef[];
  /** Ordered by (to, run). */
  deltas: DeltaRef[];
  /** P18: parked events, outbox, ledger, in one segment object; null when empty. */
  volatile: ObjectRef | null;
  /** Positions of the splits this subtask reads (P27). */
  splits: SplitPosition[];
  /** Version and text of the filter that the task switched to at this barrier (P34). */
  script: { version: string; text: string; language: 'aviator' | 'filtrex' };
  /** Sums over the subtask's key groups at the barrier (P35). */
  ledger: Ledger;
  figures: SnapshotFigures;
}

/** accepted = noMatch + delivered + deadLettered + parked + inOutbox (I9). */
export interface Ledger {
  accepted: number;
  noMatch: number;
  delivered: number;
  deadLettered: number;
  parked: number;
  inOutbox: number;
}

/** Measured inside the task; ms, bytes, counts. */
export interface SnapshotFigures {
  alignmentMs: number;
  syncMs: number;
  asyncMs: number;
  /** From the trigger's time at the source to the first barrier seen. */
  startDelayMs: number;
  /** Uploaded for this checkpoint, and all bytes the snapshot refers to. */
  uploadedBytes: number;
  stateBytes: number;
  users: number;
}

/** The immutable description of one complete checkpoint or savepoint. */
export interface Manifest {
  format: 1;
  checkpointId: number;
  leaderEpoch: number;
  kind: 'checkpoint' | 'savepoint' | 'initial';
  lineage: string;
  job: { namespace: string; name: string };
  /** Field of the event that the key groups were made of; absent in older ones. */
  keyBy?: string;
  maxParallelism: number;
  parallelism: number;
  /** Highest attempt number used so far; a restart takes a higher one. */
  attempt: number;
  triggeredAt: number;
  completedAt: number;
  /** All splits of the job, with their positions, also those not yet released. */
  splits: SplitPosition[];
  script: { version: string; text: string; language: 'aviator' | 'filtrex' } | null;
  subtasks: SubtaskSnapshot[];
}

/** `restarts`: of the job so far, this deployment included. */
export interface RecordedDeployment {
  attempt: number;
  parallelism: number;
  restarts: number;
}

/** What the user asked for at run time, and the spec's parallelism at that moment. */
export interface AskedParallelism {
  asked: number;
  planned: number;
}

/** What a run of the operator begins with in place of the newest checkpoint. */
export type RunStart = { kind: 'stateless' } | { kind: 'savepoint'; location: string };

/** How the job ended. */
export type JobEnd =
  | { kind: 'finished' }
  | { kind: 'canceled' }
  | { kind: 'failed'; code: string; message: string };

/** The savepoint that a job was stopped with. `triggerId`: of the request, if it named one. */
export interface StopSavepoint {
  checkpointId: number;
  location: string;
  triggerId: string | null;
}

/** Records of the job's one log (P39), in `log/<logIndex>`. */
export type LogRecord = {
  logIndex: number;
  leaderEpoch: number;
  at: number;
  writer: string;
  nonce: string;
  /**
   * In force from this record on; null = none any more. Every later record repeats it (log.ts), so
   * that any tail of the log tells it. Absent = as before.
   */
  wantedParallelism?: AskedParallelism | null;
  /**
   * The operator's count of deployments (`--run`) that this leader, or the last one that had any,
   * belongs to. Every later record repeats it. Absent = none.
   */
  run?: number;
  /**
   * When the TriggerJob of that run was created, ms: one that is made again under its name counts
   * its runs anew, and is the later one. Repeated as `run` is; absent = not told.
   */
  jobCreatedAt?: number;
  /** Repeated by every record once it is not that of the log's first one. */
  lineage?: string;
  /** Savepoints that were ever restored (P43), newest last; every later record repeats them. */
  restored?: readonly string[];
} & (
  | { kind: 'genesis'; lineage: string; restoredFrom: string | null }
  /** `start`: of the first leader of a run that does not go on from the newest checkpoint. */
  | { kind: 'takeover'; start?: RunStart }
  | { kind: 'checkpoint'; checkpointId: number; manifest: ObjectRef }
  | {
      kind: 'restore';
      checkpointId: number;
      manifest: ObjectRef | null;
      reason: string;
      savepoint: string | null;
      /** What is deployed from it, for the next leader (P45). Absent in older logs. */
      deployment?: RecordedDeployment | null;
    }
  | { kind: 'abort'; checkpointId: number; reason: string }
  /**
   * The job has ended: no leader of this run or an earlier one may start it again. Only where there
   * are runs. What follows it is at most the takeover of a greater run.
   */
  | { kind: 'end'; run: number; outcome: JobEnd; savepoint: StopSavepoint | null }
  /**
   * A claim as a takeover is, of who deletes all that the job has stored: what comes before it
   * holds nothing any more. What follows it is at most the genesis of another job of the same name.
   */
  | { kind: 'disposed'; run: number; lineage: string; outcome: JobEnd; savepoint: null }
  /** Another parallelism was asked for: `wantedParallelism`. */
  | { kind: 'rescale'; wantedParallelism: AskedParallelism | null }
);
