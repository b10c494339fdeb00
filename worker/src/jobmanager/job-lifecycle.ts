/**
 * The job from its first deployment to its end, as one loop: wait for slots -> deploy -> run until
 * something ends the attempt -> cancel the rest -> wait -> `restore` record -> again. Every end of
 * an attempt is a value; this file alone decides what follows it.
 */
import type { Logger } from 'pino';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Report } from '../rpc/messages.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { CheckpointDriver } from './checkpoint-driver.ts';
import type { CheckpointHistory } from './checkpoint-history.ts';
import type { JobExceptions } from './job-exceptions.ts';
import type { JobStateMachine } from './job-state.ts';
import type { JobTotals } from './job-totals.ts';
import type { Journal, StoredCheckpoint } from './journal.ts';
import { NO_RESTARTS, onFailure, type RestartState } from './restart-strategy.ts';
import type { JobScaling } from './scaling.ts';
import type { ScriptSwitch } from './script-switch.ts';
import { SelectiveReplay } from './selective-replay.ts';
import type { SplitBook } from './split-book.ts';
import {
  type AttemptEnd,
  type AttemptFailure,
  TaskAttempt,
  type TasksLost,
} from './task-attempt.ts';
import type { TaskManager, TaskManagers } from './task-managers.ts';

/** A task could not restore from the checkpoint it was given. */
const DAMAGE_CODES: ReadonlySet<string> = new Set([
  'SEGMENT_CORRUPT',
  'SEGMENT_MISSING',
  'SEGMENT_VERSION',
  'CHAIN_GAP',
]);

/**
 * Restarting can't help: records are gone or are not the ones the checkpoint knows (issue: never
 * skip).
 */
const FATAL_CODES: ReadonlySet<string> = new Set([
  'SOURCE_OFFSET_OUT_OF_RANGE',
  'SOURCE_TOPIC_RECREATED',
]);
/** Between two tries to ask the source or the store while nothing runs. */
const RETRY_MS = 1_000;
/** How long TaskManagers may take to end after `shutdown`. */
const SHUTDOWN_LIMIT_MS = 10_000;
const SHUTDOWN_POLL_MS = 20;

export type JobOutcome =
  | { kind: 'finished' }
  | { kind: 'canceled' }
  /** The job's own verdict: starting it again would end the same way. */
  | { kind: 'failed'; code: string; message: string };

export interface JobLifecycleDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  jobId: string;
  journal: Journal;
  driver: CheckpointDriver;
  taskManagers: TaskManagers;
  scaling: JobScaling;
  job: JobStateMachine;
  splits: SplitBook;
  scripts: ScriptSwitch;
  history: CheckpointHistory;
  totals: JobTotals;
  exceptions: JobExceptions;
}

export class JobLifecycle {
  readonly #deps: JobLifecycleDeps;
  #attempt: number;
  #current: TaskAttempt | null = null;
  #restarts = 0;
  #replay: { of: SelectiveReplay; ended: Promise<void> } | null = null;
  /** Monotonic, ms: the loss after which lost tasks are, or could not be, replaced alone. */
  #lostAt: number | undefined;
  readonly #replacements = { done: 0, givenUp: 0 };
  #restartState: RestartState = NO_RESTARTS;
  readonly #stopped = new AbortController();
  #endAs: 'finished' | 'canceled' = 'canceled';

  /** `attempt`: the number of the first deployment. */
  constructor(deps: JobLifecycleDeps, attempt: number) {
    this.#deps = deps;
    this.#attempt = attempt;
  }

  get current(): TaskAttempt | null {
    return this.#current;
  }

  get attempt(): number {
    return this.#attempt;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** Of lost tasks alone, by selective replay. */
  get replacements(): { running: boolean; done: number; givenUp: number } {
    return { running: this.#replay !== null, ...this.#replacements };
  }

  /** Rejects only when the leader itself can't go on (journal lost). */
  async run(first: StoredCheckpoint): Promise<JobOutcome> {
    let checkpoint = first;
    for (;;) {
      const parallelism = await this.#deps.scaling.deployable(this.#stopped.signal);
      if (parallelism === null) return this.#close();
      const end = await this.#runAttempt(checkpoint, parallelism);
      if (end.kind === 'stopped') return this.#close();
      if (end.kind === 'rescaled') {
        checkpoint = await this.#rescaled(end.reason);
      } else {
        const delayMs = await this.#failed(end);
        if (delayMs === null) return this.#giveUp(end);
        if (!(await this.#pause(delayMs))) return this.#close();
        // Every byte is read again once a task has met damage: by lengths alone the same checkpoint
        // would be chosen, and would fail, for ever (P42).
        const verify = DAMAGE_CODES.has(end.code) ? 'full' : 'manifest';
        checkpoint = await this.#deps.journal.restore(`${end.code}: ${end.message}`, verify);
      }
      this.#attempt += 1;
      if (!(await this.#restorePositions(checkpoint))) return this.#close();
      this.#deps.job.move('CREATED', this.#deps.env.now());
    }
  }

  /** A slot came: lost tasks may be waiting for it. */
  slotsChanged(): void {
    this.#replay?.of.changed();
  }

  /** What is no matter of checkpoints. */
  report(taskManager: TaskManager, report: Report): void {
    this.#current?.report(taskManager, report);
    this.#replay?.of.report(taskManager, report);
  }

  fail(failure: AttemptFailure): void {
    this.#current?.fail(failure);
  }

  /** Ends the loop; `run` then resolves. `as` is what the job is shown as when it ran until now. */
  end(as: 'finished' | 'canceled'): void {
    this.#endAs = as;
    this.#stopped.abort(new Error('the job is stopped'));
    this.#current?.stop();
  }

  async #runAttempt(checkpoint: StoredCheckpoint, parallelism: number): Promise<AttemptEnd> {
    const { env, log, plan, journal, driver, job, splits, scripts } = this.#deps;
    const { scaling, taskManagers } = this.#deps;
    const { manifest } = checkpoint;
    scripts.inForce(manifest.script);
    const attempt = new TaskAttempt({
      env,
      log,
      plan,
      leaderEpoch: journal.leaderEpoch,
      jobId: this.#deps.jobId,
      lineage: journal.lineage,
      attempt: this.#attempt,
      parallelism,
      checkpoint,
      splits: splits.positions,
      script: scripts.active,
      onAllRunning: () => {
        job.move('RUNNING', env.now());
        log.info({ attempt: attempt.attempt }, 'all tasks run');
        driver.started(attempt);
        scaling.running(attempt);
      },
      onTasksLost: (loss) => this.#replaceTasks(attempt, checkpoint, loss),
    });
    this.#current = attempt;
    this.#noteRestore(checkpoint);
    const { checkpointId } = manifest;
    log.info({ attempt: this.#attempt, checkpointId, parallelism }, 'deploying');
    attempt.deploy(taskManagers.all());
    return attempt.ended;
  }

  /** false: it is for all tasks to restart. */
  #replaceTasks(attempt: TaskAttempt, began: StoredCheckpoint, loss: TasksLost): boolean {
    const { env, log, plan, driver, journal, splits, taskManagers, exceptions } = this.#deps;
    const others = attempt.tasks().length - loss.subtasks.length;
    const able = plan.selectiveReplay && plan.source.kind === 'kafka' && others > 0;
    if (!able || !attempt.started || attempt.held || this.#stopped.signal.aborted) return false;
    if (this.#replay !== null) {
      log.warn({ subtasks: loss.subtasks }, 'replacement given up: a second loss');
      return false;
    }
    const now = env.monotonic();
    const decision = onFailure(plan.restartStrategy, this.#restartState, now, env.random());
    if (!decision.restart) return false;
    this.#restartState = decision.state;
    exceptions.add({ ...loss.failure, at: env.now(), attempt: attempt.attempt });
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
        delayMs: decision.delayMs,
        slotsMs: plan.scaling.resourceWaitMs,
        available: () => taskManagers.all(),
        restore: async (reason) => {
          const checkpoint = await journal.restore(reason);
          this.#noteRestore(checkpoint);
          return { checkpoint, attempt: ++this.#attempt };
        },
      },
      loss,
    );
    const ended = of.run().then((done) => {
      this.#replay = null;
      if (done) this.#lostAt = undefined;
      this.#replacements[done ? 'done' : 'givenUp']++;
    });
    this.#replay = { of, ended };
    this.#lostAt = now;
    return true;
  }

  #noteRestore({ manifest, ref }: StoredCheckpoint): void {
    if (manifest.kind === 'initial') return;
    this.#deps.history.restoredFrom({
      id: manifest.checkpointId,
      at: this.#deps.env.now(),
      isSavepoint: manifest.kind === 'savepoint',
      externalPath: ref.name,
    });
  }

  /** Cancels what is left of the attempt. The wait before the restart, or null: no restart. */
  async #failed(end: AttemptEnd & { kind: 'failed' }): Promise<number | null> {
    const { env, log, plan, driver, job, exceptions } = this.#deps;
    const { kind: _, ...failure } = end;
    exceptions.add({ ...failure, at: env.now(), attempt: this.#attempt });
    const decision = onFailure(
      plan.restartStrategy,
      this.#restartState,
      env.monotonic(),
      env.random(),
    );
    this.#restartState = decision.state;
    const restart = decision.restart && !FATAL_CODES.has(end.code);
    job.move(restart ? 'RESTARTING' : 'FAILING', env.now());
    const reason = `${end.code}: ${end.message}`;
    if (restart) this.#restarts += 1;
    const details = { attempt: this.#attempt, reason, restart, restarts: this.#restarts };
    log.warn(details, restart ? `restarting in ${decision.delayMs} ms: ${reason}` : reason);
    await this.#endAttempt(driver.suspended());
    return restart ? decision.delayMs : null;
  }

  /** No failure: neither a restart is counted nor the restart strategy asked. */
  async #rescaled(reason: string): Promise<StoredCheckpoint> {
    const { env, log, driver, job, journal, scaling } = this.#deps;
    log.info({ attempt: this.#attempt }, reason);
    job.move('RESTARTING', env.now());
    scaling.rescaled(reason);
    await this.#endAttempt(driver.suspended());
    return journal.restore(reason);
  }

  async #endAttempt(suspended: Promise<void>): Promise<void> {
    // Slots were waited for since the loss already.
    this.#deps.scaling.ended(this.#lostAt);
    this.#lostAt = undefined;
    await this.#cancelTasks();
    await suspended;
  }

  async #cancelTasks(): Promise<void> {
    const { taskManagers, totals } = this.#deps;
    await this.#current?.cancel(taskManagers.all(), (taskManager, reason) =>
      taskManagers.drop(taskManager, reason),
    );
    this.#current = null;
    // It may be about to append a record.
    await this.#replay?.ended;
    totals.endAttempt(this.#attempt);
  }

  async #giveUp(end: AttemptEnd & { kind: 'failed' }): Promise<JobOutcome> {
    const { env, log, job } = this.#deps;
    job.move('FAILED', env.now());
    log.error({ code: end.code }, `the job failed: ${end.message}`);
    await this.#shutdown();
    return { kind: 'failed', code: end.code, message: end.message };
  }

  async #close(): Promise<JobOutcome> {
    const { env, driver, job, scaling } = this.#deps;
    const kind = job.status === 'RUNNING' ? this.#endAs : 'canceled';
    scaling.close();
    const suspended = driver.suspended();
    if (kind === 'finished') {
      job.move('FINISHED', env.now());
    } else {
      job.move('CANCELLING', env.now());
      await this.#cancelTasks();
      job.move('CANCELED', env.now());
    }
    await suspended;
    await this.#shutdown();
    return { kind };
  }

  /** Tells every TaskManager to end, and waits for that, but not for ever. */
  async #shutdown(): Promise<void> {
    const { env, taskManagers } = this.#deps;
    taskManagers.shutdown();
    const until = env.monotonic() + SHUTDOWN_LIMIT_MS;
    while (taskManagers.all().length > 0 && env.monotonic() < until) {
      await sleep(env, SHUTDOWN_POLL_MS);
    }
  }

  /** false: stopped meanwhile. */
  async #restorePositions({ manifest }: StoredCheckpoint): Promise<boolean> {
    const { log, splits } = this.#deps;
    for (;;) {
      try {
        await splits.restore(manifest.splits);
        return !this.#stopped.signal.aborted;
      } catch (error) {
        if (error instanceof TriggerJobError && FATAL_CODES.has(error.code)) throw error;
        log.warn(
          { error: messageOf(error) },
          'the source does not answer; the restart waits for it',
        );
        if (!(await this.#pause(RETRY_MS))) return false;
      }
    }
  }

  async #pause(delayMs: number): Promise<boolean> {
    const { signal } = this.#stopped;
    await sleep(this.#deps.env, delayMs, signal).catch(() => undefined);
    return !signal.aborted;
  }
}
