/** Flink's job states and the transitions that exist here. Anything else is a bug of ours. */
import { invariant } from '../runtime/errors.ts';

export type JobStatus =
  | 'INITIALIZING'
  | 'CREATED'
  | 'RUNNING'
  | 'FAILING'
  | 'FAILED'
  | 'CANCELLING'
  | 'CANCELED'
  | 'FINISHED'
  | 'RESTARTING'
  | 'SUSPENDED'
  | 'RECONCILING';

/**
 * INITIALIZING: the log is read. RECONCILING: are there running tasks to adopt? CREATED: waiting
 * for slots or for the tasks to run.
 */
const TRANSITIONS: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  INITIALIZING: ['CREATED', 'RECONCILING', 'FAILED', 'CANCELLING', 'SUSPENDED'],
  CREATED: ['RUNNING', 'RESTARTING', 'FAILING', 'CANCELLING', 'SUSPENDED'],
  RUNNING: ['RESTARTING', 'FAILING', 'CANCELLING', 'FINISHED', 'SUSPENDED'],
  RESTARTING: ['CREATED', 'FAILING', 'CANCELLING', 'SUSPENDED'],
  RECONCILING: ['CREATED', 'RUNNING', 'RESTARTING', 'FAILING', 'CANCELLING', 'SUSPENDED'],
  FAILING: ['FAILED', 'CANCELLING'],
  CANCELLING: ['CANCELED', 'FAILED'],
  FAILED: [],
  CANCELED: [],
  FINISHED: [],
  /** This leader is gone; the job goes on under the next one. */
  SUSPENDED: [],
};

function canMove(from: JobStatus, to: JobStatus): boolean {
  return TRANSITIONS[from].includes(to);
}

function isTerminal(status: JobStatus): boolean {
  return TRANSITIONS[status].length === 0;
}

/** The job's state with the wall time of the last entry into each state, as REST shows it. */
export class JobStateMachine {
  #status: JobStatus = 'INITIALIZING';
  readonly #timestamps = new Map<JobStatus, number>();
  #startedAt: number;

  constructor(now: number) {
    this.#startedAt = now;
    this.#timestamps.set('INITIALIZING', now);
  }

  get startedAt(): number {
    return this.#startedAt;
  }

  /** The job that is adopted began under another leader. */
  began(at: number): void {
    this.#startedAt = at;
  }

  get status(): JobStatus {
    return this.#status;
  }

  get terminal(): boolean {
    return isTerminal(this.#status);
  }

  /** Wall time of the last entry, ms; 0 = never. */
  enteredAt(status: JobStatus): number {
    return this.#timestamps.get(status) ?? 0;
  }

  move(to: JobStatus, now: number): void {
    invariant(canMove(this.#status, to), `job state ${this.#status} -> ${to}`);
    this.#status = to;
    this.#timestamps.set(to, now);
  }
}
