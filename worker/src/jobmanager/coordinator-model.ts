/** State, events and commands of the checkpoint coordinator (checkpoint-coordinator.ts). */
import type { CheckpointFailure } from './checkpoint-failure.ts';

export interface CoordinatorPlan {
  intervalMs: number;
  minPauseMs: number;
  timeoutMs: number;
  tolerableFailures: number;
}

/** `stop`: the savepoint after which the job ends; like `final`, nothing starts after it. */
export type CheckpointKind = 'periodic' | 'manual' | 'savepoint' | 'stop' | 'final';
export interface CheckpointRequest {
  readonly kind: Exclude<CheckpointKind, 'periodic'>;
  readonly token: string;
}

export interface PendingCheckpoint {
  readonly id: number;
  readonly kind: CheckpointKind;
  /** The request it serves; null = periodic. */
  readonly token: string | null;
  readonly deadline: number;
  readonly acked: ReadonlySet<number>;
  readonly phase: 'collecting' | 'publishing';
}

export interface RunningTasks {
  /** The newest of the tasks' attempts. */
  readonly attempt: number;
  readonly parallelism: number;
  /** Of each task: attempts[subtask]. */
  readonly attempts: readonly number[];
}

export interface CoordinatorState {
  readonly nextId: number;
  /** The running deployment; null while there is none. */
  readonly tasks: RunningTasks | null;
  /** Lost tasks are being replaced: nothing starts until they have caught up (P54). */
  readonly paused: boolean;
  readonly pending: PendingCheckpoint | null;
  readonly queue: readonly CheckpointRequest[];
  /** Subtasks that have not settled the last triggered checkpoint, and since when that blocks. */
  readonly unsettled: ReadonlySet<number>;
  readonly lastTriggeredId: number;
  readonly blockedUntil: number;
  readonly periodicAt: number;
  readonly lastCompletionAt: number | null;
  readonly consecutiveFailures: number;
  /** A last checkpoint (`stop`, `final`) is asked for: nothing else starts after it. */
  readonly stopping: boolean;
}

export type CoordinatorEvent =
  /** Every task of the attempt runs. */
  | { type: 'started'; attempt: number; parallelism: number }
  /**
   * Another leader's tasks go on under this one. `checkpointId`: the highest that any of them has
   * seen; those in `unsettled` have yet to say how it ended with them (P7).
   */
  | {
      type: 'adopted';
      attempt: number;
      parallelism: number;
      checkpointId: number;
      unsettled: readonly number[];
    }
  | { type: 'suspended' }
  /** The other tasks run on. */
  | { type: 'tasks-lost'; subtasks: readonly number[] }
  /** All tasks are where they would be without the loss. */
  | { type: 'tasks-replaced'; attempt: number; attempts: readonly number[] }
  | { type: 'tick' }
  | { type: 'request'; kind: CheckpointRequest['kind']; token: string }
  | { type: 'ack'; attempt: number; checkpointId: number; subtask: number }
  | {
      type: 'decline';
      attempt: number;
      checkpointId: number;
      subtask: number;
      reason: string;
    }
  | { type: 'drained'; attempt: number; checkpointId: number; subtask: number }
  | { type: 'published'; checkpointId: number }
  /** Surely not in the log. An unknown outcome is no such event: then the leader must go. */
  | { type: 'publish-failed'; checkpointId: number; error: string }
  | { type: 'abort'; detail: string }
  /** What was to follow the last checkpoint failed: the job goes on, and so do checkpoints. */
  | { type: 'go-on' };

export type CoordinatorCommand =
  | { type: 'trigger'; checkpointId: number; kind: CheckpointKind; token: string | null }
  | { type: 'publish'; checkpointId: number }
  | { type: 'complete'; checkpointId: number; kind: CheckpointKind; token: string | null }
  | {
      type: 'abort';
      checkpointId: number;
      token: string | null;
      reason: CheckpointFailure;
      detail: string | null;
    }
  | { type: 'reject'; token: string; reason: CheckpointFailure }
  | { type: 'fail-job'; reason: string };

export type AckAnswer = 'ok' | 'duplicate' | 'unknown' | 'discarded';

export interface CoordinatorResult {
  state: CoordinatorState;
  commands: CoordinatorCommand[];
  /** For `ack` only. */
  answer?: AckAnswer;
}
