/**
 * The job from its first deployment to its end, as one loop: wait for slots -> deploy -> run until
 * something ends the attempt -> cancel the rest -> wait -> `restore` record -> again. Every end of
 * an attempt is a value; this file alone decides what follows it.
 */
import type { Logger } from 'pino';
import type { JobEnd, Manifest, RecordedDeployment } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Report, RunningAttempt } from '../rpc/messages.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { adoptedSplits, adoptedTasks } from './adoption.ts';
import type { CheckpointDriver } from './checkpoint-driver.ts';
import type { CheckpointHistory } from './checkpoint-history.ts';
import { DAMAGE_CODES, FATAL_CODES } from './failure-codes.ts';
import type { JobExceptions } from './job-exceptions.ts';
import type { JobStateMachine } from './job-state.ts';
import type { JobTotals } from './job-totals.ts';
import type { Journal, StoredCheckpoint } from './journal.ts';
import { planDigest } from './plan-digest.ts';
import type { Reattachment } from './reattach.ts';
import { type ReplacementCounts, Replacements } from './replacements.ts';
import { NO_RESTARTS, onFailure, type RestartState } from './restart-strategy.ts';
import type { JobScaling } from './scaling.ts';
import type { ScriptSwitch } from './script-switch.ts';
import type { SplitBook } from './split-book.ts';
import { type AttemptEnd, type AttemptFailure, TaskAttempt } from './task-attempt.ts';
import type { TaskManager, TaskManagers } from './task-managers.ts';

/** Between two tries to ask the source or the store while nothing runs. */
const RETRY_MS = 1_000;

/** `failed` is the job's own verdict: starting it again would end the same way. */
export type JobOutcome = JobEnd;

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
  /** null: nothing can be running. */
  reattachment: Reattachment | null;
}

export class JobLifecycle {
  readonly #deps: JobLifecycleDeps;
  #attempt: number;
  #current: TaskAttempt | null = null;
  #restarts = 0;
  readonly #replacing: Replacements;
  #restartState: RestartState = NO_RESTARTS;
  readonly #stopped = new AbortController();
  #endAs: 'finished' | 'canceled' = 'canceled';

  /** `attempt`: the number of the first deployment, or of the one to adopt. */
  constructor(deps: JobLifecycleDeps, first: { attempt: number; restarts: number }) {
    this.#deps = deps;
    this.#attempt = first.attempt;
    this.#restarts = first.restarts;
    this.#replacing = new Replacements({
      ...deps,
      granted: (failure) => this.#granted(failure),
      restore: (reason, parallelism) => this.#restoreLost(reason, parallelism),
    });
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
  get replacements(): ReplacementCounts {
    return this.#replacing.counts;
  }

  /** Rejects only when the leader itself can't go on (journal lost). */
  async run(first: StoredCheckpoint): Promise<JobOutcome> {
    let checkpoint = first;
    let adopted = await this.#reattach(first);
    if (adopted === 'stopped') return this.#close();
    if (adopted !== null && 'manifest' in adopted) {
      checkpoint = adopted;
      adopted = null;
    }
    for (;;) {
      let end: AttemptEnd;
      if (adopted !== null) {
        end = await adopted.ended;
        adopted = null;
      } else {
        const parallelism = await this.#deps.scaling.deployable(this.#stopped.signal);
        if (parallelism === null) return this.#close();
        end = await this.#runAttempt(checkpoint, parallelism);
      }
      if (end.kind === 'stopped') return this.#close();
      const next =
        end.kind === 'rescaled' ? await this.#rescaled(end.reason) : await this.#again(end);
      if (next === 'stopped') return this.#close();
      if (next === null) return this.#giveUp(end as AttemptEnd & { kind: 'failed' });
      checkpoint = next;
      if (!(await this.#restorePositions(checkpoint.manifest))) return this.#close();
      this.#deps.job.move('CREATED', this.#deps.env.now());
    }
  }

  /** A slot came: lost tasks may be waiting for it. */
  slotsChanged(): void {
    this.#replacing.changed();
  }

  /** What is no matter of checkpoints. */
  report(taskManager: TaskManager, report: Report): void {
    this.#current?.report(taskManager, report);
    this.#replacing.report(taskManager, report);
  }

  fail(failure: AttemptFailure): void {
    this.#current?.fail(failure);
  }

  /** Ends the loop; `run` then resolves. `as` is what the job is shown as when it ran until now. */
  end(as: 'finished' | 'canceled'): void {
    this.#endAs = as;
    this.#stopped.abort(new Error('the job is stopped'));
    this.#current?.stop();
    this.#deps.reattachment?.stop();
  }

  /**
   * The tasks that run already, adopted (P45); or what to deploy from instead; null = nothing can
   * be running, and `first` is deployed.
   */
  async #reattach(
    first: StoredCheckpoint,
  ): Promise<TaskAttempt | StoredCheckpoint | 'stopped' | null> {
    const { env, job, journal, reattachment, taskManagers } = this.#deps;
    if (reattachment === null) return null;
    const verdict = await reattachment.decide();
    const found = taskManagers.all().flatMap(({ running }) => running ?? []);
    const parallelism = found[0]?.ranges.length ?? this.#deps.plan.parallelism;
    const attempt = this.#newAttempt(first, parallelism);
    attempt.adopt(taskManagers.all());
    for (const { restarts, jobStartedAt } of found) {
      this.#restarts = restarts;
      job.began(jobStartedAt);
    }
    this.#current = attempt;
    if (this.#stopped.signal.aborted) return 'stopped';
    if (verdict.kind === 'adopt') return this.#adopt(attempt, first, found);
    // What is there of it must have ended before anything is deployed anew.
    await this.#cancelTasks();
    if (found.length > 0) this.#restarts += 1;
    this.#attempt = journal.lastIndex + 2;
    const checkpoint = await journal.restore(
      `the JobManager started: ${verdict.reason}`,
      this.#deployment,
    );
    if (!(await this.#restorePositions(checkpoint.manifest))) return 'stopped';
    job.move('CREATED', env.now());
    return checkpoint;
  }

  async #adopt(
    attempt: TaskAttempt,
    { manifest }: StoredCheckpoint,
    found: readonly RunningAttempt[],
  ): Promise<TaskAttempt | 'stopped'> {
    const { env, log, driver, job, scaling, scripts } = this.#deps;
    const splits = adoptedSplits(manifest.splits, found);
    if (!(await this.#restorePositions({ splits }))) return 'stopped';
    scripts.inForce(manifest.script);
    const tasks = adoptedTasks(found);
    log.info({ attempt: attempt.attempt, seen: tasks.seen }, 'the running tasks are adopted');
    // Else the last of them came to run while the source was asked: that is as after a deployment.
    if (job.status === 'RECONCILING') {
      job.move(attempt.allRunning ? 'RUNNING' : 'CREATED', env.now());
      if (attempt.allRunning) {
        driver.adopted(tasks, manifest.checkpointId);
        scaling.running(attempt);
      }
    }
    return attempt;
  }

  get #deployment(): RecordedDeployment {
    const { wanted: parallelism } = this.#deps.scaling;
    return { attempt: this.#attempt, parallelism, restarts: this.#restarts };
  }

  #runAttempt(checkpoint: StoredCheckpoint, parallelism: number): Promise<AttemptEnd> {
    const { log, scripts, taskManagers } = this.#deps;
    const { manifest } = checkpoint;
    scripts.inForce(manifest.script);
    const attempt = this.#newAttempt(checkpoint, parallelism);
    this.#current = attempt;
    this.#noteRestore(checkpoint);
    const { checkpointId } = manifest;
    log.info({ attempt: this.#attempt, checkpointId, parallelism }, 'deploying');
    attempt.deploy(taskManagers.all());
    return attempt.ended;
  }

  #newAttempt(checkpoint: StoredCheckpoint, parallelism: number): TaskAttempt {
    const { env, log, plan, journal, driver, job, scaling, splits, scripts } = this.#deps;
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
      facts: {
        planDigest: planDigest(plan),
        restarts: this.#restarts,
        jobStartedAt: job.startedAt,
      },
      onAllRunning: () => {
        job.move('RUNNING', env.now());
        log.info({ attempt: attempt.attempt }, 'all tasks run');
        driver.started(attempt);
        scaling.running(attempt);
      },
      onTasksLost: (loss) => this.#replacing.begin(attempt, checkpoint, loss),
    });
    return attempt;
  }

  /** The wait before a loss is made good, or null: no restart. */
  #granted(failure: AttemptFailure): number | null {
    const { env, plan, exceptions } = this.#deps;
    if (this.#stopped.signal.aborted) return null;
    const now = env.monotonic();
    const decision = onFailure(plan.restartStrategy, this.#restartState, now, env.random());
    if (!decision.restart) return null;
    this.#restartState = decision.state;
    exceptions.add({ ...failure, at: env.now(), attempt: this.#attempt });
    return decision.delayMs;
  }

  /** The record names the successors' attempt, so no later leader adopts what ran before (P45). */
  async #restoreLost(reason: string, parallelism: number) {
    const next = { ...this.#deployment, attempt: this.#attempt + 1, parallelism };
    const checkpoint = await this.#deps.journal.restore(reason, next);
    this.#noteRestore(checkpoint);
    this.#attempt = next.attempt;
    return { checkpoint, attempt: next.attempt };
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
    this.#attempt += 1;
    return journal.restore(reason, this.#deployment);
  }

  /** After a failure: what to deploy from next; null = nothing any more. */
  async #again(end: AttemptEnd & { kind: 'failed' }): Promise<StoredCheckpoint | 'stopped' | null> {
    const delayMs = await this.#failed(end);
    if (delayMs === null) return null;
    if (!(await this.#pause(delayMs))) return 'stopped';
    // Every byte is read again once a task has met damage: by lengths alone the same checkpoint
    // would be chosen, and would fail, for ever (P42).
    const verify = DAMAGE_CODES.has(end.code) ? 'full' : 'manifest';
    this.#attempt += 1;
    return this.#deps.journal.restore(`${end.code}: ${end.message}`, this.#deployment, verify);
  }

  async #endAttempt(suspended: Promise<void>): Promise<void> {
    // Slots were waited for since the loss already.
    this.#deps.scaling.ended(this.#replacing.takeLostAt());
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
    await this.#replacing.ended;
    totals.endAttempt(this.#attempt);
  }

  async #giveUp(end: AttemptEnd & { kind: 'failed' }): Promise<JobOutcome> {
    const { env, log, job } = this.#deps;
    job.move('FAILED', env.now());
    log.error({ code: end.code }, `the job failed: ${end.message}`);
    const outcome = { kind: 'failed', code: end.code, message: end.message } as const;
    await this.#shutDown(outcome);
    return outcome;
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
    await this.#shutDown({ kind });
    return { kind };
  }

  async #shutDown(outcome: JobOutcome): Promise<void> {
    await this.#deps.journal.end({ outcome, savepoint: null });
    await this.#deps.taskManagers.shutdown();
  }

  /** false: stopped meanwhile. */
  async #restorePositions(from: Pick<Manifest, 'splits'>): Promise<boolean> {
    const { log, splits } = this.#deps;
    for (;;) {
      try {
        await splits.restore(from.splits);
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
