/**
 * Replaces the tasks of one lost TaskManager while all others run on (P50-P55):
 *
 *   detach -> (nothing pending in the log) -> `restore` record -> all detached, slots, delay
 *     -> replace: successors restore, the others learn who they are -> replay: sources read once
 *     more -> all caught up -> checkpoints go on
 *
 * Any doubt, and whatever takes longer than a limit, ends the attempt: then everything restarts
 * from the last checkpoint, which no step here has touched.
 */
import type { Logger } from 'pino';
import type { Report } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { SplitPosition } from '../source/source.ts';
import type { CheckpointDriver } from './checkpoint-driver.ts';
import type { StoredCheckpoint } from './journal.ts';
import { placeLost, ReplayProgress } from './replay-progress.ts';
import type { SplitBook } from './split-book.ts';
import type { TaskAttempt, TasksLost } from './task-attempt.ts';
import type { TaskManager } from './task-managers.ts';

/** No checkpoint completes meanwhile (I10), so it must not take for ever. */
const REPLAY_LIMIT_MS = 60_000;

export interface SelectiveReplayDeps {
  env: Env;
  log: Logger;
  attempt: TaskAttempt;
  /** What the attempt began from, unless a later one is complete. */
  checkpoint: StoredCheckpoint;
  driver: CheckpointDriver;
  splits: SplitBook;
  leaderEpoch: number;
  /** Of a checkpoint; ours is not longer. */
  timeoutMs: number;
  /** The restart strategy's wait. */
  delayMs: number;
  /** How long slots are waited for, from the loss on: then fewer subtasks will have to do. */
  slotsMs: number;
  available(): readonly TaskManager[];
  /** Appends the `restore` record; `attempt`: a number that no task has had. */
  restore(reason: string): Promise<{ checkpoint: StoredCheckpoint; attempt: number }>;
}

export class SelectiveReplay {
  readonly #deps: SelectiveReplayDeps;
  readonly #loss: TasksLost;
  readonly #survivors: ReturnType<TaskAttempt['tasks']>;
  readonly #progress: ReplayProgress;
  readonly #startedAt: number;
  #wake: () => void = () => {};

  constructor(deps: SelectiveReplayDeps, loss: TasksLost) {
    this.#deps = deps;
    this.#loss = loss;
    const { attempt, env } = deps;
    this.#survivors = attempt.tasks().filter(({ subtask }) => !loss.subtasks.includes(subtask));
    this.#progress = new ReplayProgress(this.#survivors);
    this.#startedAt = env.monotonic();
  }

  /** true: all tasks have caught up; false: the attempt has ended. Never rejects. */
  async run(): Promise<boolean> {
    const { attempt, env, log } = this.#deps;
    const { subtasks, failure } = this.#loss;
    void attempt.ended.then(() => this.changed());
    log.info({ subtasks, attempt: attempt.attempt }, 'lost tasks are being replaced');
    try {
      await this.#run();
      const tookMs = Math.round(env.monotonic() - this.#startedAt);
      log.info({ subtasks, attempt: attempt.attempt, tookMs }, 'lost tasks replaced');
      return true;
    } catch (error) {
      if (attempt.over) {
        log.warn({ subtasks }, 'replacement given up: the attempt ended');
        return false;
      }
      const reason = messageOf(error);
      log.warn({ subtasks, reason }, `replacement given up: ${reason}`);
      attempt.fail({ ...failure, message: `${failure.message}; not replaced alone: ${reason}` });
      return false;
    }
  }

  report(taskManager: TaskManager, report: Report): void {
    this.#progress.report(taskManager.id, report);
    this.changed();
  }

  /** Slots came, or the attempt ended. */
  changed(): void {
    this.#wake();
  }

  async #run(): Promise<void> {
    const { attempt, driver, leaderEpoch } = this.#deps;
    const { subtasks } = this.#loss;
    const lost = [...subtasks];
    const quiet = driver.tasksLost(lost);
    const before = attempt.attempt;
    attempt.send({ type: 'detach', leaderEpoch, attempt: before, subtasks: lost });
    await quiet;
    const { checkpoint, attempt: number } = await this.#restore();
    await this.#until('tasks to let go of the lost ones', () => this.#progress.allDetached);
    const { placed, positions } = await this.#placed(checkpoint);
    this.#progress.deployed(number);
    attempt.replace(number, placed, { checkpoint, splits: positions });
    const told = [...new Set(this.#survivors.map(({ taskManager }) => taskManager.id))];
    await this.#until('successors to restore', () => this.#progress.isDeployed(subtasks, told));
    const { goals } = this.#progress;
    const from = { positions: this.#positions(checkpoint), goals };
    attempt.send({ type: 'replay', leaderEpoch, attempt: number, ...from });
    const all = attempt.tasks().map(({ subtask }) => subtask);
    await this.#until('tasks to catch up', () => this.#progress.hasCaughtUp(all));
    // Said meanwhile, it may have borne an attempt that not all knew.
    const { held } = attempt;
    attempt.send({ type: 'hold-sources', leaderEpoch, attempt: number, held });
    driver.tasksReplaced(number, attempt.attempts);
  }

  /** The record first (P42); another checkpoint than the tasks stand on is a doubt. */
  async #restore(): Promise<{ checkpoint: StoredCheckpoint; attempt: number }> {
    const { driver, checkpoint, log } = this.#deps;
    this.#checkOver();
    const expected = driver.newest ?? checkpoint;
    const { code, message } = this.#loss.failure;
    const found = await this.#deps.restore(`${code}: ${message}`);
    this.#checkOver();
    const { checkpointId } = found.checkpoint.manifest;
    if (found.checkpoint.ref.name !== expected.ref.name) {
      throw new TriggerJobError('REPLAY_DOUBT', `the log names checkpoint ${checkpointId}`);
    }
    log.info({ subtasks: this.#loss.subtasks, checkpointId, attempt: found.attempt }, 'replacing');
    return found;
  }

  async #placed(checkpoint: StoredCheckpoint) {
    const { env, available, delayMs, slotsMs } = this.#deps;
    const { subtasks } = this.#loss;
    const timer = env.timer(delayMs, () => this.changed());
    let placed: ReturnType<typeof placeLost<TaskManager>> = null;
    const find = () => {
      if (env.monotonic() < this.#startedAt + delayMs) return false;
      placed = placeLost(subtasks, this.#survivors, available());
      return placed !== null;
    };
    await this.#until('slots', find, Math.max(slotsMs, delayMs)).finally(() => timer.cancel());
    return { placed: placed ?? [], positions: this.#positions(checkpoint) };
  }

  /** The checkpoint's, and the starts of splits that were found later. */
  #positions({ manifest }: StoredCheckpoint): SplitPosition[] {
    const released = manifest.splits.filter((position) => position.held !== true);
    return [...this.#deps.splits.advanced(released)];
  }

  async #until(
    what: string,
    isDone: () => boolean,
    mostMs = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    const { env, timeoutMs } = this.#deps;
    const limitMs = Math.min(timeoutMs, REPLAY_LIMIT_MS, mostMs);
    const deadline = this.#startedAt + limitMs;
    for (;;) {
      this.#checkOver();
      if (isDone()) return;
      const left = deadline - env.monotonic();
      if (left <= 0) {
        throw new TriggerJobError('REPLAY_LIMIT', `waited for ${what}, ${limitMs} ms are over`);
      }
      const changed = Promise.withResolvers<void>();
      this.#wake = changed.resolve;
      const timer = env.timer(left, changed.resolve);
      await changed.promise;
      timer.cancel();
    }
  }

  #checkOver(): void {
    if (this.#deps.attempt.over) throw new TriggerJobError('REPLAY_OVER', 'the attempt ended');
  }
}
