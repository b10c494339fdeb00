/**
 * A TaskManager for tests that speaks the real RPCs over a real connection and keeps no state: its
 * snapshots bear chains without objects. What it does with a trigger is the test's choice.
 */
import type { ObjectRef, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { RpcClient } from '../rpc/client.ts';
import { noTallies } from '../rpc/figures.ts';
import type { SlotAnswer, SlotQuery } from '../rpc/inspection.ts';
import {
  type Command,
  type Deployment,
  type Report,
  RPC_VERSION,
  type RunningAttempt,
  type RunningTask,
  type ScriptVersion,
  type SubtaskMetrics,
  type TaskDeployment,
} from '../rpc/messages.ts';
import { realEnv } from '../runtime/env.ts';
import { noHistograms } from '../runtime/histogram.ts';
import type { LogText } from '../runtime/log-tail.ts';

export type OnTrigger = 'ack' | 'ignore' | 'decline';

export class FakeTaskManager {
  readonly id: string;
  readonly commands: Command[] = [];
  readonly tasks = new Map<number, TaskDeployment>();
  /** What every delta names. */
  object: ObjectRef | null = null;
  /** Undelivered, of each subtask. */
  inOutbox = 0;
  onTrigger: OnTrigger = 'ack';
  /** Next offsets of split 0 and on, as `detached` tells them. */
  accepted: number[] = [];
  /** Answers `replay`. */
  catchesUp = true;
  runs = true;
  /** Answers `tell-log`; null = it stays silent. */
  log: LogText | null = { name: 'tm.log', modifiedAt: 7, text: 'one\ntwo\n' };
  /** What a subtask says to a question; null: nothing. */
  answers: (query: SlotQuery, subtask: number) => SlotAnswer | null = () => null;
  readonly #client: RpcClient;
  readonly #chains = new Map<number, SubtaskSnapshot['deltas']>();
  readonly #lastBarrier = new Map<number, number>();
  #waiters: { test(command: Command): boolean; resolve(command: Command): void }[] = [];

  private constructor(id: string, client: RpcClient) {
    this.id = id;
    this.#client = client;
    client.onCommand((command) => this.#on(command));
  }

  static async connect(
    port: number,
    slots: number,
    id = 'tm-1',
    register: { leaderEpoch?: number; running?: RunningAttempt } = {},
  ): Promise<FakeTaskManager> {
    const address = { host: '127.0.0.1', port, timeoutMs: 5_000 };
    const client = await RpcClient.connect(realEnv, address);
    const fake = new FakeTaskManager(id, client);
    const host = '127.0.0.1';
    client.send({
      type: 'register',
      version: RPC_VERSION,
      taskManagerId: id,
      host,
      pid: 1,
      slots,
      shuffleHost: host,
      shufflePort: 1,
      leaderEpoch: 0,
      running: null,
      ...register,
    });
    return fake;
  }

  send(report: Report): void {
    this.#client.send(report);
  }

  close(): void {
    this.#client.close();
  }

  /** The first command of the type, past or to come, that `matches`. */
  async next<Type extends Command['type']>(
    type: Type,
    matches: (command: Command & { type: Type }) => boolean = () => true,
  ): Promise<Command & { type: Type }> {
    const test = (command: Command): boolean =>
      command.type === type && matches(command as Command & { type: Type });
    const found = this.commands.find(test);
    if (found !== undefined) return found as Command & { type: Type };
    const command = await new Promise<Command>((resolve) => {
      this.#waiters.push({ test, resolve });
    });
    return command as Command & { type: Type };
  }

  ack(subtask: number, checkpointId: number, script: ScriptVersion, attempt?: number): void {
    const task = this.tasks.get(subtask);
    if (task === undefined) throw new Error(`no subtask ${subtask}`);
    const from = this.#lastBarrier.get(subtask) ?? task.restoredId;
    const delta = { range: task.range, from, to: checkpointId, run: 0, object: this.object };
    const deltas = [...(this.#chains.get(subtask) ?? []), delta];
    this.#chains.set(subtask, deltas);
    this.#lastBarrier.set(subtask, checkpointId);
    const snapshot: SubtaskSnapshot = {
      subtask,
      attempt: task.attempt,
      range: task.range,
      bases: [],
      deltas,
      volatile: null,
      splits: task.splits.map((split) => ({ ...split, offset: split.offset + 10, clock: 7 })),
      script,
      ledger: {
        accepted: 0,
        noMatch: 0,
        delivered: 0,
        deadLettered: 0,
        parked: 0,
        inOutbox: this.inOutbox,
      },
      figures: {
        alignmentMs: 1,
        syncMs: 1,
        asyncMs: 1,
        startDelayMs: 1,
        uploadedBytes: 100,
        stateBytes: 1000,
        users: 5,
      },
    };
    const taskManagerId = this.id;
    this.send({
      type: 'ack',
      taskManagerId,
      attempt: attempt ?? task.attempt,
      checkpointId,
      snapshot,
    });
  }

  fail(subtask: number, code: string): void {
    const attempt = this.tasks.get(subtask)?.attempt ?? 0;
    const taskManagerId = this.id;
    this.send({ type: 'failed', taskManagerId, attempt, subtask, code, error: 'it broke' });
  }

  heartbeat(metrics: Partial<SubtaskMetrics> & { subtask: number; attempt: number }): void {
    this.send({
      type: 'heartbeat',
      taskManagerId: this.id,
      leaderEpoch: 1,
      metrics: {
        rssBytes: 1,
        cpuSeconds: 1,
        cores: 2,
        heapBytes: 1,
        heapTotalBytes: 1,
        externalBytes: 1,
        memoryLimitBytes: 0,
        eventLoopLagP99Ms: 0,
        system: null,
        subtasks: [{ ...NO_METRICS, ...metrics }],
        shuffle: { links: 0, bytesSent: 0, framesSent: 0, queuedBytes: 0, staleFrames: 0 },
      },
    });
  }

  #on(command: Command): void {
    this.commands.push(command);
    const taskManagerId = this.id;
    if (command.type === 'deploy') {
      this.tasks.clear();
      this.#lastBarrier.clear();
      this.#deploy(command.tasks);
    }
    if (command.type === 'replace') {
      this.#deploy(command.tasks);
      this.send({ type: 'replaced', taskManagerId, attempt: command.attempt });
    }
    if (command.type === 'detach') this.#detached();
    if (command.type === 'replay' && this.catchesUp) {
      for (const { attempt, subtask } of this.tasks.values()) {
        this.send({ type: 'caught-up', taskManagerId, attempt, subtask });
      }
    }
    if (command.type === 'cancel') {
      this.send({ type: 'canceled', taskManagerId, attempt: command.attempt });
    }
    if (command.type === 'trigger') this.#trigger(command);
    if (command.type === 'tell-log' && this.log !== null) {
      this.send({ type: 'log', taskManagerId, log: this.log });
    }
    if (command.type === 'query') {
      const { attempt, id, subtask, query } = command;
      const answer = this.answers(query, subtask);
      if (answer !== null) this.send({ type: 'answer', taskManagerId, attempt, id, answer });
    }
    if (command.type === 'shutdown') this.#client.close();
    this.#waiters = this.#waiters.filter((waiter) => {
      if (!waiter.test(command)) return true;
      waiter.resolve(command);
      return false;
    });
  }

  #detached(): void {
    const positions = this.accepted.map((offset, split) => ({ split, offset }));
    for (const { attempt, subtask } of this.tasks.values()) {
      this.send({ type: 'detached', taskManagerId: this.id, attempt, subtask, positions });
    }
  }

  #deploy(tasks: readonly TaskDeployment[]): void {
    for (const task of tasks) {
      this.tasks.set(task.subtask, task);
      // After a rescale its key groups lie in several of the old subtasks' chains.
      const chain = task.restore.flatMap(({ deltas }) => deltas);
      const ordered = chain.toSorted((x, y) => x.to - y.to || x.run - y.run);
      this.#chains.set(task.subtask, ordered);
      const { attempt, subtask } = task;
      if (!this.runs) continue;
      this.send({ type: 'running', taskManagerId: this.id, attempt, subtask, restoreMs: 1 });
    }
  }

  #trigger(command: Command & { type: 'trigger' }): void {
    const { checkpointId, attempt, script } = command;
    for (const subtask of this.tasks.keys()) {
      if (this.onTrigger === 'ack') this.ack(subtask, checkpointId, script);
      if (this.onTrigger === 'decline') {
        const reason = 'told to';
        const taskManagerId = this.id;
        this.send({ type: 'decline', taskManagerId, attempt, checkpointId, subtask, reason });
      }
    }
  }
}

/** What a TaskManager that has got this deployment says of itself to the next leader. */
export function runningOf(
  deploy: Deployment,
  change: (task: RunningTask) => RunningTask = (task) => task,
): RunningAttempt {
  const { facts, attempt, attempts, ranges, members, secret } = deploy;
  const tasks = deploy.tasks.map(({ subtask, slot, splits }) =>
    change({ subtask, slot, running: true, seen: 0, taken: 0, drained: true, splits }),
  );
  const ids = members.map(({ taskManagerId }) => taskManagerId);
  return { ...facts, attempt, attempts, ranges, members: ids, lostPeers: [], secret, tasks };
}

const NO_METRICS: SubtaskMetrics = {
  subtask: 0,
  attempt: 0,
  slot: 0,
  cpuSeconds: 0,
  recordsRead: 0,
  recordsProcessed: 0,
  bytesRead: 0,
  matched: 0,
  delivered: 0,
  deadLettered: 0,
  filterErrors: 0,
  profileRequests: 0,
  profileErrors: 0,
  parked: 0,
  outbox: 0,
  outboxBytes: 0,
  usersCached: 0,
  users: 0,
  stateBytes: 0,
  cacheBytes: 0,
  cacheHits: 0,
  cacheMisses: 0,
  expired: 0,
  truncatedEvents: 0,
  divergent: 0,
  pendingRecords: 0,
  recordsLagMax: 0,
  emitEventTimeLagMs: -1,
  openSplits: 1,
  busyMs: 0,
  backPressuredMs: 0,
  idleMs: 0,
  ledger: {
    accepted: 0,
    noMatch: 0,
    delivered: 0,
    deadLettered: 0,
    parked: 0,
    inOutbox: 0,
  },
  ledgerImbalance: 0,
  restoreMs: 0,
  pauseCount: 0,
  pauseP99Ms: 0,
  pauseMaxMs: 0,
  tallies: noTallies(),
  histograms: noHistograms(),
  eventLoopLagP99Ms: 0,
  extra: {},
};
