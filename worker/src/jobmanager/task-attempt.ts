/**
 * One deployment of all tasks: chosen slots -> deploy -> every task running -> the first thing that
 * ends it -> cancel. What follows an end is the owner's decision (job-lifecycle.ts).
 */
import type { Logger } from 'pino';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type {
  AttemptMember,
  Command,
  DeploymentFacts,
  Report,
  ScriptVersion,
  TaskDeployment,
} from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import type { SplitPosition } from '../source/source.ts';
import { assignSlots, keyGroupRanges, overlapping, splitsBySubtask } from './assign.ts';
import type { StoredCheckpoint } from './journal.ts';
import type { TaskManager } from './task-managers.ts';

/** A TaskManager that has not stopped its tasks by then is given up: its connection is dropped. */
const CANCEL_TIMEOUT_MS = 30_000;

export interface AttemptFailure {
  code: string;
  message: string;
  subtask: number | null;
  taskManagerId: string | null;
}

export type AttemptEnd =
  | ({ kind: 'failed' } & AttemptFailure)
  | { kind: 'stopped' }
  /** No failure: it makes room for one of another parallelism. */
  | { kind: 'rescaled'; reason: string };

export interface TaskState {
  subtask: number;
  slot: number;
  taskManager: TaskManager;
  status: 'DEPLOYING' | 'RUNNING' | 'CANCELING';
  /** Wall time, ms; null until then. */
  deployedAt: number;
  runningAt: number | null;
}

export interface AttemptPlan {
  env: Env;
  log: Logger;
  plan: JobPlan;
  leaderEpoch: number;
  jobId: string;
  lineage: string;
  attempt: number;
  /** Of this attempt; the plan's is what the user wants. */
  parallelism: number;
  checkpoint: StoredCheckpoint;
  /** Every split that may be read, at its restored position. */
  splits: readonly SplitPosition[];
  script: ScriptVersion;
  /** What the next leader asks the TaskManagers for (P45). */
  facts: DeploymentFacts;
  onAllRunning(): void;
}

export class TaskAttempt {
  readonly attempt: number;
  readonly parallelism: number;
  readonly #options: AttemptPlan;
  readonly #tasks = new Map<number, TaskState>();
  readonly #end = Promise.withResolvers<AttemptEnd>();
  /** TaskManagers whose `canceled` is awaited, and what to call when the last one is gone. */
  readonly #canceling = new Set<TaskManager>();
  #canceled: (() => void) | null = null;

  constructor(options: AttemptPlan) {
    this.#options = options;
    this.attempt = options.attempt;
    this.parallelism = options.parallelism;
  }

  /** Settles once, with the first cause. Never rejects. */
  get ended(): Promise<AttemptEnd> {
    return this.#end.promise;
  }

  tasks(): readonly TaskState[] {
    return [...this.#tasks.values()];
  }

  get allRunning(): boolean {
    return this.tasks().every(({ status }) => status === 'RUNNING');
  }

  /** `available` has at least as many slots as its parallelism. */
  deploy(available: readonly TaskManager[]): void {
    const { env, plan, jobId, lineage, leaderEpoch, script, facts } = this.#options;
    const { parallelism } = this;
    const ranges = keyGroupRanges(parallelism, plan.maxParallelism);
    const splits = splitsBySubtask(this.#options.splits, parallelism);
    const byTaskManager = new Map<TaskManager, TaskDeployment[]>();
    for (const [subtask, { host, slot }] of assignSlots(parallelism, available).entries()) {
      const range = ranges[subtask]!;
      this.#tasks.set(subtask, {
        taskManager: host,
        slot,
        subtask,
        status: 'DEPLOYING',
        deployedAt: env.now(),
        runningAt: null,
      });
      const list = byTaskManager.get(host) ?? [];
      list.push(this.#deployment(subtask, slot, range, splits[subtask] ?? []));
      byTaskManager.set(host, list);
    }
    const members: AttemptMember[] = [...byTaskManager].map(([{ id, shuffle }, tasks]) => ({
      taskManagerId: id,
      ...shuffle,
      subtasks: tasks.map(({ subtask }) => subtask),
    }));
    const secret = env.id();
    for (const [taskManager, tasks] of byTaskManager) {
      const shared = { leaderEpoch, jobId, lineage, plan, script, ranges, members, secret, facts };
      taskManager.send({ type: 'deploy', ...shared, tasks });
    }
  }

  /** Takes over tasks that another leader deployed, as their TaskManagers report them. */
  adopt(taskManagers: readonly TaskManager[]): void {
    const now = this.#options.env.now();
    for (const taskManager of taskManagers) {
      if (taskManager.running?.attempt !== this.attempt) continue;
      for (const { subtask, slot, running } of taskManager.running.tasks) {
        const status = running ? 'RUNNING' : 'DEPLOYING';
        const runningAt = running ? now : null;
        const task = { subtask, slot, taskManager, status, deployedAt: now, runningAt } as const;
        this.#tasks.set(subtask, { ...task });
      }
    }
  }

  send(command: Command): void {
    for (const taskManager of this.#taskManagers()) taskManager.send(command);
  }

  /** New or released splits go to the subtask that reads them. */
  addSplits(positions: readonly SplitPosition[]): void {
    const { leaderEpoch } = this.#options;
    for (const [subtask, splits] of splitsBySubtask(positions, this.parallelism).entries()) {
      if (splits.length === 0) continue;
      const { attempt } = this;
      const taskManager = this.#tasks.get(subtask)?.taskManager;
      taskManager?.send({ type: 'add-splits', leaderEpoch, attempt, subtask, splits });
    }
  }

  /** What concerns this attempt as a whole; of other attempts it is ignored. */
  report(taskManager: TaskManager, report: Report): void {
    if (!('attempt' in report) || report.attempt !== this.attempt) return;
    if (report.type === 'canceled') this.#gone(taskManager);
    if (report.type === 'running') this.#running(taskManager, report.subtask);
    if (report.type === 'failed') {
      const { code, error, subtask } = report;
      this.fail({ code, message: error, subtask, taskManagerId: taskManager.id });
    }
    if (report.type === 'peer-lost') {
      const { code, error, peer } = report;
      const message = `TaskManager ${taskManager.id} lost its connection with ${peer}: ${error}`;
      this.fail({ code, message, subtask: null, taskManagerId: peer });
    }
  }

  lost(taskManager: TaskManager, reason: string): void {
    this.#gone(taskManager);
    const tasks = this.tasks().filter((task) => task.taskManager === taskManager);
    if (tasks.length === 0) return;
    const subtasks = tasks.map((task) => task.subtask).join(', ');
    const message = `TaskManager ${taskManager.id} with subtask ${subtasks} is lost: ${reason}`;
    this.fail({ code: 'TASKMANAGER_LOST', message, subtask: null, taskManagerId: taskManager.id });
  }

  fail(failure: AttemptFailure): void {
    this.#end.resolve({ kind: 'failed', ...failure });
  }

  rescale(reason: string): void {
    this.#end.resolve({ kind: 'rescaled', reason });
  }

  stop(): void {
    this.#end.resolve({ kind: 'stopped' });
  }

  /**
   * Ends what still runs. Resolves when every TaskManager of the attempt has confirmed or is lost:
   * slots of a task that still works must not be given away. `drop` cuts off the silent ones.
   */
  async cancel(
    alive: readonly TaskManager[],
    drop: (taskManager: TaskManager, reason: string) => void,
  ): Promise<void> {
    for (const task of this.#tasks.values()) task.status = 'CANCELING';
    for (const taskManager of this.#taskManagers()) {
      if (alive.includes(taskManager)) this.#canceling.add(taskManager);
    }
    const { env, leaderEpoch } = this.#options;
    for (const taskManager of this.#canceling) {
      taskManager.send({ type: 'cancel', leaderEpoch, attempt: this.attempt });
    }
    if (this.#canceling.size === 0) return;
    const timer = env.timer(CANCEL_TIMEOUT_MS, () => {
      for (const taskManager of [...this.#canceling]) {
        drop(taskManager, `its tasks did not stop in ${CANCEL_TIMEOUT_MS} ms`);
      }
    });
    await new Promise<void>((resolve) => {
      this.#canceled = resolve;
    });
    timer.cancel();
  }

  #deployment(
    subtask: number,
    slot: number,
    range: KeyGroupRange,
    splits: SplitPosition[],
  ): TaskDeployment {
    const { manifest } = this.#options.checkpoint;
    // An initial manifest has no state: its id must not become the start of a chain of deltas.
    const restoredId = manifest.kind === 'initial' ? 0 : manifest.checkpointId;
    const restore = overlapping(manifest.subtasks, range);
    return { subtask, slot, attempt: this.attempt, range, splits, restore, restoredId };
  }

  #running(taskManager: TaskManager, subtask: number): void {
    const task = this.#tasks.get(subtask);
    if (task?.taskManager !== taskManager || task.status !== 'DEPLOYING') return;
    task.status = 'RUNNING';
    task.runningAt = this.#options.env.now();
    if (this.allRunning) this.#options.onAllRunning();
  }

  #gone(taskManager: TaskManager): void {
    if (!this.#canceling.delete(taskManager) || this.#canceling.size > 0) return;
    this.#canceled?.();
  }

  #taskManagers(): Set<TaskManager> {
    return new Set(this.tasks().map((task) => task.taskManager));
  }
}
