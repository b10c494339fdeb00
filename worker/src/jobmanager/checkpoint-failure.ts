/**
 * The closed list of reasons for which a checkpoint fails or is refused. `counted`: moves the
 * counter of consecutive failures that restarts the job (checkpointing.tolerableFailures). A task
 * that died does not count, since its own failure already restarts the job.
 */
export const CHECKPOINT_FAILURES = {
  EXPIRED: { text: 'not every task acknowledged within checkpointing.timeout', counted: true },
  DECLINED: { text: 'a task declined', counted: true },
  FINALIZE_FAILED: { text: 'the manifest could not be published', counted: true },
  NOT_DRAINED: { text: 'tasks still write out the checkpoint before it', counted: true },
  JOB_RESTARTING: { text: 'a task was lost, the job restarts', counted: false },
  TASK_LOST: { text: 'a task was lost and is replaced alone', counted: false },
  JOB_NOT_RUNNING: { text: 'the tasks of the job are not running', counted: false },
  STOPPING: { text: 'the job is being stopped', counted: false },
  QUEUE_FULL: { text: 'too many requests wait', counted: false },
  ABORTED: { text: 'aborted on request', counted: false },
} as const satisfies Record<string, { text: string; counted: boolean }>;

export type CheckpointFailure = keyof typeof CHECKPOINT_FAILURES;

/** The message for logs, REST and abort records. */
export function describeFailure(reason: CheckpointFailure, detail: string | null): string {
  const text = `${reason}: ${CHECKPOINT_FAILURES[reason].text}`;
  return detail === null || detail === '' ? text : `${text} (${detail})`;
}
