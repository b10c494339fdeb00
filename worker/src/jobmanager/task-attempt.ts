/**
 * One deployment of all tasks: chosen slots -> deploy -> every task running -> the first thing that
 * ends it -> cancel. What follows an end is the owner's decision (job-lifecycle.ts). So is whether
 * the loss of a TaskManager ends it, or only has the lost tasks replaced (selective-replay.ts): the
 * successors then have an attempt of their own, and `attempt` is the newest.
 */
import type { Logger } from 'pino';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { contains } from '../exchange/key-groups.ts';
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
/**
 * Which of two ends of a broken connection is gone, its own connection with us tells; not before
 * this is over without a word is it the connection alone.
 */
const PEER_LOST_GRACE_MS = 500;

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
  attempt: number;
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
  /** true: the lost tasks are being replaced, the attempt goes on. */
  onTasksLost(loss: TasksLost): boolean;
}

export interface TasksLost {
  taskManager: TaskManager;
  subtasks: readonly number[];
  failure: AttemptFailure;
}

export class TaskAttempt {
  readonly parallelism: number;
  #attempt: number;
  readonly #options: AttemptPlan;
  readonly #tasks = new Map<number, TaskState>();
  readonly #end = Promise.withResolvers<AttemptEnd>();
  /** TaskManagers whose `canceled` is awaited, and what to call when the last one is gone. */
  readonly #canceling = new Set<TaskManager>();
  /** By TaskManager id: the attempt in which it got its first tasks. */
  readonly #memberSince = new Map<string, number>();
  readonly #ranges: KeyGroupRange[];
  #secret: string;
  /** All of its tasks have run. */
  #started = false;
  #held = false;
  #over = false;
  #canceled: (() => void) | null = null;

  constructor(options: AttemptPlan) {
    this.#options = options;
    this.#attempt = options.attempt;
    const { parallelism } = options;
    this.parallelism = parallelism;
    this.#ranges = keyGroupRanges(parallelism, options.plan.maxParallelism);
    this.#secret = options.env.id();
  }

  /** The newest of the tasks' attempts. */
  get attempt(): number {
    return this.#attempt;
  }

  get started(): boolean {
    return this.#started;
  }

  /** Something has ended it. */
  get over(): boolean {
    return this.#over;
  }

  /** Of all tasks, by subtask. */
  get attempts(): number[] {
    const attempts: number[] = [];
    for (const { subtask, attempt } of this.#tasks.values()) attempts[subtask] = attempt;
    return attempts;
  }

  /** Settles once, with the first cause. Never rejects. */
  get ended(): Promise<AttemptEnd> {
    return this.#end.promise;
  }

  tasks(): readonly TaskState[] {
    return [...this.#tasks.values()];
  }

  /** The subtask whose state a key group is in. */
  ownerOf(keyGroup: number): number {
    return this.#ranges.findIndex((range) => contains(range, keyGroup));
  }

  get allRunning(): boolean {
    return this.tasks().every(({ status }) => status === 'RUNNING');
  }

  /** `available` has at least as many slots as its parallelism. */
  deploy(available: readonly TaskManager[]): void {
    const { splits } = this.#options;
    const hosts = assignSlots(this.parallelism, available);
    const placed = hosts.map(({ host, slot }, subtask) => ({
      subtask,
      taskManager: host,
      slot,
    }));
    this.#place(placed, { splits, replaces: false });
  }

  /** The lost tasks begin again in attempt `attempt`, at `splits`; the others are told of them. */
  replace(
    attempt: number,
    placed: readonly { subtask: number; taskManager: TaskManager; slot: number }[],
    restored: { checkpoint: StoredCheckpoint; splits: readonly SplitPosition[] },
  ): void {
    this.#attempt = attempt;
    this.#place(placed, { ...restored, replaces: true });
  }

  /** Deploys some tasks; others that run are told where they are. */
  #place(
    placed: readonly { subtask: number; taskManager: TaskManager; slot: number }[],
    from: { checkpoint?: StoredCheckpoint; splits: readonly SplitPosition[]; replaces: boolean },
  ): void {
    const { env, plan, jobId, lineage, leaderEpoch, facts } = this.#options;
    const checkpoint = from.checkpoint ?? this.#options.checkpoint;
    // P34: a successor replays by the script of its checkpoint, which may not be that of our start.
    const script = from.checkpoint?.manifest.script ?? this.#options.script;
    const bySubtask = splitsBySubtask(from.splits, this.parallelism);
    const attempt = this.#attempt;
    const before = new Map(
      [...this.#tasks].filter(([id]) => !placed.some((p) => p.subtask === id)),
    );
    const running = new Set([...before.values()].map((task) => task.taskManager));
    const byTaskManager = new Map<TaskManager, TaskDeployment[]>();
    for (const taskManager of running) byTaskManager.set(taskManager, []);
    for (const { subtask, taskManager, slot } of placed) {
      const times = { deployedAt: env.now(), runningAt: null };
      const status = 'DEPLOYING';
      this.#tasks.set(subtask, { subtask, attempt, taskManager, slot, status, ...times });
      if (!running.has(taskManager)) this.#memberSince.set(taskManager.id, attempt);
      const tasks = byTaskManager.get(taskManager) ?? [];
      byTaskManager.set(taskManager, tasks);
      const splits = bySubtask[subtask] ?? [];
      const restore = this.#restoring(checkpoint, subtask);
      tasks.push({ subtask, slot, attempt, splits, replaces: from.replaces, ...restore });
    }
    const { attempts } = this;
    const members = this.#members();
    const job = { leaderEpoch, jobId, lineage, plan, script, facts };
    const shared = { ...job, attempt, attempts, members };
    for (const [taskManager, tasks] of byTaskManager) {
      const type = running.has(taskManager) ? 'replace' : 'deploy';
      const deployment = { ...shared, ranges: this.#ranges, secret: this.#secret, tasks };
      taskManager.send({ type, ...deployment });
    }
  }

  #members(): AttemptMember[] {
    return [...this.#taskManagers()].map((taskManager) => ({
      taskManagerId: taskManager.id,
      ...taskManager.shuffle,
      subtasks: this.tasks()
        .filter((task) => task.taskManager === taskManager)
        .map(({ subtask }) => subtask),
    }));
  }

  /** Takes over tasks that another leader deployed, as their TaskManagers report them. */
  adopt(taskManagers: readonly TaskManager[]): void {
    const { attempt } = this;
    const now = this.#options.env.now();
    for (const taskManager of taskManagers) {
      const { running: found } = taskManager;
      if (found?.attempt !== attempt) continue;
      this.#memberSince.set(taskManager.id, attempt);
      this.#secret = found.secret;
      for (const { subtask, slot, running } of found.tasks) {
        const status = running ? 'RUNNING' : 'DEPLOYING';
        const times = { deployedAt: now, runningAt: running ? now : null };
        this.#tasks.set(subtask, { subtask, attempt, taskManager, slot, status, ...times });
      }
    }
    this.#started = this.allRunning;
  }

  /** Its sources read nothing, for a savepoint that ends the job. */
  get held(): boolean {
    return this.#held;
  }

  send(command: Command): void {
    if (command.type === 'hold-sources') this.#held = command.held;
    for (const taskManager of this.#taskManagers()) taskManager.send(command);
  }

  /** New or released splits go to the subtask that reads them. */
  addSplits(positions: readonly SplitPosition[]): void {
    const { leaderEpoch } = this.#options;
    for (const [subtask, splits] of splitsBySubtask(positions, this.parallelism).entries()) {
      if (splits.length === 0) continue;
      const attempt = this.#attempt;
      const taskManager = this.#tasks.get(subtask)?.taskManager;
      taskManager?.send({ type: 'add-splits', leaderEpoch, attempt, subtask, splits });
    }
  }

  /** What concerns this attempt as a whole; of other attempts it is ignored. */
  report(taskManager: TaskManager, report: Report): void {
    switch (report.type) {
      case 'canceled':
        if (report.attempt === this.#attempt) this.#gone(taskManager);
        return;
      case 'running':
        this.#running(taskManager, report);
        return;
      case 'failed': {
        const { code, error, subtask, attempt } = report;
        if (this.#tasks.get(subtask)?.attempt !== attempt) return;
        this.fail({ code, message: error, subtask, taskManagerId: taskManager.id });
        return;
      }
      case 'peer-lost':
        this.#peerLost(taskManager, report);
    }
  }

  lost(taskManager: TaskManager, reason: string): void {
    this.#gone(taskManager);
    const subtasks = this.tasks()
      .filter((task) => task.taskManager === taskManager)
      .map(({ subtask }) => subtask);
    if (subtasks.length === 0) return;
    const text = `TaskManager ${taskManager.id} with subtask ${subtasks.join(', ')} is lost`;
    const message = `${text}: ${reason}`;
    const failure = { code: 'TASKMANAGER_LOST', message, subtask: null };
    const loss = { taskManager, subtasks, failure: { ...failure, taskManagerId: taskManager.id } };
    if (this.#over || !this.#options.onTasksLost(loss)) this.fail(loss.failure);
    else this.#memberSince.delete(taskManager.id);
  }

  fail(failure: AttemptFailure): void {
    this.#over = true;
    this.#end.resolve({ kind: 'failed', ...failure });
  }

  rescale(reason: string): void {
    this.#over = true;
    this.#end.resolve({ kind: 'rescaled', reason });
  }

  stop(): void {
    this.#over = true;
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

  #restoring(
    { manifest }: StoredCheckpoint,
    subtask: number,
  ): Pick<TaskDeployment, 'range' | 'restore' | 'restoredId'> {
    const range = this.#ranges[subtask]!;
    // An initial manifest has no state: its id must not become the start of a chain of deltas.
    const restoredId = manifest.kind === 'initial' ? 0 : manifest.checkpointId;
    return { range, restore: overlapping(manifest.subtasks, range), restoredId };
  }

  #running(taskManager: TaskManager, report: Report & { type: 'running' }): void {
    const task = this.#tasks.get(report.subtask);
    if (task?.taskManager !== taskManager || task.status !== 'DEPLOYING') return;
    if (task.attempt !== report.attempt) return;
    task.status = 'RUNNING';
    task.runningAt = this.#options.env.now();
    if (this.#started || !this.allRunning) return;
    this.#started = true;
    this.#options.onAllRunning();
  }

  /** Of a peer that is a member still, in whatever attempt: their channels will not come back. */
  #peerLost(taskManager: TaskManager, report: Report & { type: 'peer-lost' }): void {
    const { code, error, peer, attempt } = report;
    const since = this.#memberSince.get(peer);
    if (since === undefined || attempt < since) return;
    const message = `TaskManager ${taskManager.id} lost its connection with ${peer}: ${error}`;
    const failure = { code, message, subtask: null, taskManagerId: peer };
    if (!this.#options.plan.selectiveReplay) {
      this.fail(failure);
      return;
    }
    const isMember = () => this.#memberSince.get(taskManager.id) !== undefined;
    this.#options.env.timer(this.#graceMs(code), () => {
      if (this.#memberSince.get(peer) === since && isMember()) this.fail(failure);
    });
  }

  /** We look for silent ones four times in a timeout, their peers at each heartbeat. */
  #graceMs(code: string): number {
    const { heartbeatTimeoutMs } = this.#options.plan;
    return PEER_LOST_GRACE_MS + (code === 'LINK_SILENT' ? heartbeatTimeoutMs / 2 : 0);
  }

  #gone(taskManager: TaskManager): void {
    if (!this.#canceling.delete(taskManager) || this.#canceling.size > 0) return;
    this.#canceled?.();
  }

  #taskManagers(): Set<TaskManager> {
    return new Set(this.tasks().map((task) => task.taskManager));
  }
}
