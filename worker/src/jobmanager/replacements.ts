/**
 * Which losses have only the lost tasks replaced, one at a time, and how many did (P55). What is
 * refused here is for all tasks to restart.
 */
import type { Logger } from 'pino';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Report } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import type { CheckpointDriver } from './checkpoint-driver.ts';
import type { JobStateMachine } from './job-state.ts';
import type { Journal, StoredCheckpoint } from './journal.ts';
import { SelectiveReplay } from './selective-replay.ts';
import type { SplitBook } from './split-book.ts';
import type { AttemptFailure, TaskAttempt, TasksLost } from './task-attempt.ts';
import type { TaskManager, TaskManagers } from './task-managers.ts';

export interface ReplacementsDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  journal: Journal;
  driver: CheckpointDriver;
  taskManagers: TaskManagers;
  job: JobStateMachine;
  splits: SplitBook;
  /** The wait that the restart strategy wants, ms; null: no restart. */
  granted(failure: AttemptFailure): number | null;
  /** Appends the `restore` record; `attempt`: a number that no task has had. */
  restore(
    reason: string,
    parallelism: number,
  ): Promise<{ checkpoint: StoredCheckpoint; attempt: number }>;
}

export interface ReplacementCounts {
  running: boolean;
  done: number;
  givenUp: number;
}

export class Replacements {
  readonly #deps: ReplacementsDeps;
  #replay: { of: SelectiveReplay; ended: Promise<void> } | null = null;
  /** Monotonic, ms: the loss after which lost tasks are, or could not be, replaced alone. */
  #lostAt: number | undefined;
  readonly #counts = { done: 0, givenUp: 0 };

  constructor(deps: ReplacementsDeps) {
    this.#deps = deps;
  }

  get counts(): ReplacementCounts {
    return { running: this.#replay !== null, ...this.#counts };
  }

  /** Settled when none runs. */
  get ended(): Promise<void> {
    return this.#replay?.ended ?? Promise.resolve();
  }

  /** When slots began to be missing, if nothing came of a replacement; asked once. */
  takeLostAt(): number | undefined {
    const lostAt = this.#lostAt;
    this.#lostAt = undefined;
    return lostAt;
  }

  /** Slots came. */
  changed(): void {
    this.#replay?.of.changed();
  }

  report(taskManager: TaskManager, report: Report): void {
    this.#replay?.of.report(taskManager, report);
  }

  /**
   * false: it is for all tasks to restart. `began`: what the attempt was restored from; of an
   * adopted one the newest checkpoint of the log, behind which all of its tasks are.
   */
  begin(attempt: TaskAttempt, began: StoredCheckpoint, loss: TasksLost): boolean {
    const { env, log, plan, driver, journal, splits, taskManagers, job } = this.#deps;
    const others = attempt.tasks().length - loss.subtasks.length;
    const able = plan.selectiveReplay && plan.source.kind === 'kafka' && others > 0;
    // An attempt that is being adopted runs, but nobody has asked the source yet.
    if (!able || !attempt.started || attempt.held || job.status !== 'RUNNING') return false;
    if (this.#replay !== null) {
      log.warn({ subtasks: loss.subtasks }, 'replacement given up: a second loss');
      return false;
    }
    const delayMs = this.#deps.granted(loss.failure);
    if (delayMs === null) return false;
    const of = new SelectiveReplay(
      {
        env,
        log,
        attempt,
        checkpoint: began,
        driver,
        splits,
        leaderEpoch: journal.leaderEpoch,
        timeoutMs: plan.checkpointing.timeoutMs,
        delayMs,
        slotsMs: plan.scaling.resourceWaitMs,
        available: () => taskManagers.all(),
        restore: (reason) => this.#deps.restore(reason, attempt.parallelism),
      },
      loss,
    );
    const lostAt = env.monotonic();
    const ended = of.run().then((done) => {
      this.#replay = null;
      if (done) this.#lostAt = undefined;
      this.#counts[done ? 'done' : 'givenUp']++;
    });
    this.#replay = { of, ended };
    this.#lostAt = lostAt;
    return true;
  }
}
