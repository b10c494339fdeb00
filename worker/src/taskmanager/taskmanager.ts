/**
 * The TaskManager process: registers with the leader (leader-link.ts), runs a thread per slot,
 * passes commands down and reports up, sends heartbeats. Two things it decides itself: to end when
 * a slot fails (crash-only), and to end when it stood still for so long that the others have given
 * it up. The loss of a peer is none of them: it is reported, and the JobManager cancels, after
 * which this process takes the next deployment, or has only the lost tasks replaced. Nor is the
 * loss of the leader: the tasks go on, and the next one is told what runs (P45).
 */
import type { Logger } from 'pino';
import type { ShuffleServer } from '../exchange/shuffle-server.ts';
import { slotHeapMebibytes } from '../plan/memory.ts';
import type { Deployment, Report, RunningAttempt } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { LogText } from '../runtime/log-tail.ts';
import type { TaskManagerHealth } from './health-server.ts';
import {
  type LeaderCommand,
  type LeaderConnection,
  LeaderLink,
  type Register,
} from './leader-link.ts';
import { ProcessWatch } from './process-figures.ts';
import { SleepWatch } from './sleep-watch.ts';
import type { SlotPool } from './slot-pool.ts';
import type { SlotCommand } from './slot-protocol.ts';
import { type SlotEvent, SlotWorker } from './slot-worker.ts';
import { TaskExchange } from './task-exchange.ts';

export interface TaskManagerOptions {
  env: Env;
  log: Logger;
  /** host:port of every JobManager. */
  jobManagers: readonly string[];
  connect(address: string): Promise<LeaderConnection>;
  taskManagerId: string;
  host: string;
  slots: number;
  /** Threads for them. */
  pool: SlotPool;
  shuffle: ShuffleServer;
  /** Where other TaskManagers reach it. */
  shuffleHost: string;
  localStateDir: string;
  mutant: string | null;
  /** Overrides of the memory plan, for tests that need a small cache. */
  slotCacheBytes: number | null;
  /** The newest lines of this process's log; null = they can't be read. */
  ownLog(): Promise<LogText | null>;
}

const FIRST_HEARTBEAT_MS = 1000;

export class TaskManager {
  readonly #options: TaskManagerOptions;
  #slots: SlotWorker[] = [];
  readonly #link: LeaderLink;
  /** Of the running attempt. */
  #deployed: Deployment | null = null;
  readonly #lostPeers = new Set<string>();
  /** Until the first deployment brings the plan's. */
  #heartbeatMs = FIRST_HEARTBEAT_MS;
  #heartbeat: Timer | null = null;
  readonly #sleep: SleepWatch;
  readonly #process: ProcessWatch;
  #exchange: TaskExchange | null = null;
  /** The newest attempt that was deployed or told of: commands that bear another come too late. */
  #attempt = 0;
  #end: ((fault: unknown) => void) | null = null;
  #closing = false;

  constructor(options: TaskManagerOptions) {
    this.#options = options;
    const { env, log, jobManagers: addresses, connect } = options;
    this.#sleep = new SleepWatch(env);
    this.#process = new ProcessWatch(env, options.localStateDir);
    this.#link = new LeaderLink({
      env,
      log,
      addresses,
      connect,
      describe: (leaderEpoch) => this.#describe(leaderEpoch),
      onCommand: (command) => this.#command(command),
      onRegistered: () => this.#tell(),
      onDiscovered: (at) => this.#toSlots(null, { type: 'discovered', at }),
      onEnd: (fault) => this.#end?.(fault),
    });
  }

  /** For who asks whether it is of use. */
  get health(): TaskManagerHealth {
    return {
      registered: this.#link.registered,
      slots: this.#options.slots,
      tasks: this.#slots.length,
    };
  }

  /** Until shutdown; rejects with a fault that must end the process. */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#end = (fault) => (fault === null ? resolve() : reject(fault));
      this.#beat();
      void this.#link.run();
    });
  }

  /** Closes every slot; local state goes with it. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#heartbeat?.cancel();
    this.#process.close();
    await this.#closeSlots();
    await this.#options.pool.close();
    this.#link.close();
  }

  /** Ends the slot threads as they stand: for a process that must have no further effect. */
  async halt(): Promise<void> {
    this.#closing = true;
    this.#heartbeat?.cancel();
    this.#process.close();
    this.#link.close();
    const ended = this.#slots.map((slot) => slot.terminate());
    await Promise.all([this.#options.pool.close(), ...ended]);
  }

  async #describe(leaderEpoch: number): Promise<Register> {
    const { taskManagerId, host, slots, shuffle, shuffleHost } = this.#options;
    return {
      type: 'register',
      version: RPC_VERSION,
      taskManagerId,
      host,
      pid: process.pid,
      slots,
      shuffleHost,
      shufflePort: shuffle.port,
      leaderEpoch,
      running: await this.#running(),
    };
  }

  /** null: nothing, or not all of what it should. */
  async #running(): Promise<RunningAttempt | null> {
    const deployed = this.#deployed;
    if (deployed === null || this.#slots.length === 0) return null;
    const slots = [...this.#slots];
    const tasks = (await Promise.all(slots.map((slot) => slot.describe()))).filter(
      (task) => task !== null,
    );
    if (tasks.length < slots.length) return null;
    return {
      ...deployed.facts,
      attempt: deployed.attempt,
      attempts: deployed.attempts,
      ranges: deployed.ranges,
      members: deployed.members.map((member) => member.taskManagerId),
      lostPeers: [...this.#lostPeers],
      secret: deployed.secret,
      tasks,
    };
  }

  async #command(command: LeaderCommand): Promise<void> {
    switch (command.type) {
      case 'deploy':
        await this.#deploy(command);
        return;
      case 'detach':
        if (command.attempt === this.#attempt) this.#detach(command.subtasks);
        return;
      case 'replace':
        this.#replace(command);
        return;
      case 'replay': {
        const { attempt, positions, goals } = command;
        this.#toSlots(attempt, { type: 'replay', positions, goals });
        return;
      }
      case 'cancel':
        await this.#cancel(command.attempt);
        return;
      case 'trigger': {
        const { checkpointId, triggeredAt, script } = command;
        this.#toSlots(command.attempt, { type: 'trigger', checkpointId, triggeredAt, script });
        return;
      }
      case 'abort':
        this.#toSlots(command.attempt, { type: 'abort', checkpointId: command.checkpointId });
        return;
      case 'hold-sources':
        this.#toSlots(command.attempt, { type: 'hold-sources', held: command.held });
        return;
      case 'notify': // the JobManager does what follows from it
        return;
      case 'add-splits': {
        const { attempt, subtask, splits } = command;
        if (attempt !== this.#attempt) return;
        const slot = this.#slots.find((one) => one.subtask === subtask);
        slot?.post({ type: 'add-splits', splits });
        return;
      }
      case 'tell-log':
        this.#report({ type: 'log', log: await this.#options.ownLog() });
        return;
      case 'query':
        this.#query(command);
        return;
      case 'shutdown':
        await this.close();
        this.#end?.(null);
        return;
    }
  }

  /** Of a task that is not here any more, or not yet: the JobManager knows where to ask again. */
  #query({ attempt, subtask, id, query }: Extract<LeaderCommand, { type: 'query' }>): void {
    const slot = this.#slots.findLast((one) => one.subtask === subtask);
    if (slot !== undefined && attempt === this.#attempt) {
      slot.post({ type: 'query', id, query });
      return;
    }
    const error = `subtask ${subtask} of attempt ${attempt} does not run here`;
    const answer = { kind: 'failed', code: 'moved', error } as const;
    this.#report({ type: 'answer', attempt, id, answer });
  }

  async #deploy(command: Deployment): Promise<void> {
    await this.#closeSlots();
    const { plan } = command;
    const { heartbeatTimeoutMs } = plan;
    this.#heartbeatMs = plan.heartbeatIntervalMs;
    this.#sleep.limit(heartbeatTimeoutMs);
    this.#link.limit({ heartbeatTimeoutMs, graceMs: plan.leaderElection.graceMs });
    const { shuffle, taskManagerId, log } = this.#options;
    this.#exchange = new TaskExchange({
      log,
      shuffle,
      taskManagerId,
      deployment: command,
      lost: (peer, attempt, { code, message }) => {
        this.#lostPeers.add(peer);
        this.#report({ type: 'peer-lost', attempt, peer, code, error: message });
      },
    });
    this.#startSlots(command, this.#exchange);
  }

  /** The next attempt mostly follows, by the same plan. */
  async #cancel(attempt: number): Promise<void> {
    const plan = this.#deployed?.plan;
    await this.#closeSlots();
    this.#report({ type: 'canceled', attempt });
    if (plan !== undefined) this.#options.pool.fill(slotHeapMebibytes(plan));
  }

  #detach(subtasks: number[]): void {
    this.#exchange?.detach(subtasks);
    // A leader that knows nothing of the loss must not adopt what is left (P55).
    for (const { taskManagerId, subtasks: its } of this.#deployed?.members ?? []) {
      if (its.some((subtask) => subtasks.includes(subtask))) this.#lostPeers.add(taskManagerId);
    }
    this.#toSlots(this.#attempt, { type: 'detach', subtasks });
  }

  /** Beside the slots that run; those of lost subtasks were detached before. */
  #replace(command: Deployment): void {
    const exchange = this.#exchange;
    if (exchange === null) return;
    exchange.replace(command);
    const { attempt, attempts } = command;
    this.#toSlots(this.#attempt, { type: 'replace', attempts });
    this.#startSlots(command, exchange);
    this.#report({ type: 'replaced', attempt });
  }

  #startSlots(command: Deployment, { wiring }: TaskExchange): void {
    const { tasks, plan, jobId, lineage, script, ranges, attempt, attempts } = command;
    this.#attempt = attempt;
    this.#deployed = command;
    const { localStateDir, mutant, log, slotCacheBytes, pool } = this.#options;
    if (slotCacheBytes !== null) plan.memory.slotCacheBytes = slotCacheBytes;
    for (const task of tasks) {
      const slot = new SlotWorker(
        pool.take(slotHeapMebibytes(plan)),
        {
          jobId,
          lineage,
          plan,
          script,
          ranges,
          attempts,
          task,
          localStateDir,
          logLevel: log.level,
          mutant,
          peers: wiring.portsOf(task.subtask),
        },
        {
          said: (message) => this.#fromSlot(slot, message),
          failed: (code, error) => this.#slotFailed(slot, code, error),
        },
      );
      this.#slots.push(slot);
    }
  }

  #fromSlot(slot: SlotWorker, message: SlotEvent): void {
    if (!this.#slots.includes(slot)) return;
    if (message.type === 'report') this.#report(message.report);
    else if (message.type === 'answer') this.#report({ ...message, attempt: this.#attempt });
    else this.#slotFailed(slot, message.code, message.error);
  }

  /** Reported first, so that the job's exception history names the cause; then the process ends. */
  #slotFailed(slot: SlotWorker, code: string, error: string): void {
    if (this.#closing || !this.#slots.includes(slot)) return;
    const { attempt, subtask } = slot;
    this.#report({ type: 'failed', attempt, subtask, code, error });
    const fault = new TriggerJobError(code, `slot of subtask ${subtask} failed: ${error}`);
    this.#options.env.timer(50, () => this.#end?.(fault));
  }

  /** null: of whatever attempt. */
  #toSlots(attempt: number | null, command: SlotCommand): void {
    if (attempt !== null && attempt !== this.#attempt) return;
    for (const slot of this.#slots) slot.post(command);
  }

  /**
   * The attempt is over: its threads are gone when this resolves, and with them its effects. The
   * process may go on with another attempt; what the old one wrote locally would fill the disk.
   */
  async #closeSlots(): Promise<void> {
    const slots = this.#slots;
    this.#slots = [];
    this.#deployed = null;
    this.#lostPeers.clear();
    this.#exchange?.close();
    this.#exchange = null;
    const { env, log } = this.#options;
    await Promise.all(slots.map((slot) => slot.close(env, log)));
  }

  #report(report: DistributiveOmit<Report, 'taskManagerId'>): void {
    const { taskManagerId } = this.#options;
    this.#link.send({ ...report, taskManagerId } as Report);
  }

  #beat(): void {
    this.#heartbeat?.cancel();
    const frozen = this.#sleep.beat();
    if (frozen !== null) {
      this.#end?.(frozen);
      return;
    }
    this.#link.check();
    this.#tell();
    this.#heartbeat = this.#options.env.timer(this.#heartbeatMs, () => {
      if (!this.#closing) this.#beat();
    });
  }

  #tell(): void {
    this.#report({
      type: 'heartbeat',
      leaderEpoch: this.#link.leaderEpoch,
      metrics: {
        ...this.#process.figures(),
        subtasks: this.#slots.flatMap(({ metrics }) => (metrics === null ? [] : [metrics])),
        shuffle: this.#exchange?.stats ?? NO_SHUFFLE,
      },
    });
  }
}

const NO_SHUFFLE = { links: 0, bytesSent: 0, framesSent: 0, queuedBytes: 0, staleFrames: 0 };

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
