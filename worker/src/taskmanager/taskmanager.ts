/**
 * The TaskManager process: registers with the leader (leader-link.ts), runs a thread per slot,
 * passes commands down and reports up, sends heartbeats. Two things it decides itself: to end when
 * a slot fails (crash-only), and to end when it stood still for so long that the others have given
 * it up. The loss of a peer is none of them, it is reported, the JobManager cancels, and this
 * process takes the next deployment; nor is the loss of the leader: the tasks go on, and the next
 * one is told what runs (P45).
 */
import { rm } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { channelCredit } from '../exchange/credit.ts';
import type { ShuffleAttempt } from '../exchange/shuffle-attempt.ts';
import type { ShuffleServer } from '../exchange/shuffle-server.ts';
import type { Report, RunningAttempt, RunningTask, SubtaskMetrics } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import {
  type LeaderCommand,
  type LeaderConnection,
  LeaderLink,
  type Register,
} from './leader-link.ts';
import { slotFolder } from './local-state.ts';
import type { SlotCommand, SlotMessage, SlotStart } from './slot-protocol.ts';
import { SlotWiring } from './slot-wiring.ts';

export interface TaskManagerOptions {
  env: Env;
  log: Logger;
  /** host:port of every JobManager. */
  jobManagers: readonly string[];
  connect(address: string): Promise<LeaderConnection>;
  taskManagerId: string;
  host: string;
  slots: number;
  shuffle: ShuffleServer;
  /** Where other TaskManagers reach it. */
  shuffleHost: string;
  localStateDir: string;
  mutant: string | null;
  /** Overrides of the memory plan, for tests that need a small cache. */
  slotCacheBytes: number | null;
}

interface RunningSlot {
  subtask: number;
  attempt: number;
  worker: Worker;
  /** Its RocksDB and spool files. */
  folder: string;
  metrics: SubtaskMetrics | null;
  closed: Promise<void>;
  /** Answers of the thread that somebody waits for. */
  described: ((task: RunningTask | null) => void)[];
}

type Deploy = Extract<LeaderCommand, { type: 'deploy' }>;

/** A slot that does not close by itself by then is terminated. */
const CLOSE_LIMIT_MS = 5000;
/**
 * Room for young objects: with V8's 16 MB an event's objects are promoted before they die, and the
 * collector marks the whole heap of live users more often (bench/one-slot.ts).
 */
const YOUNG_MB = 64;
const FIRST_HEARTBEAT_MS = 1000;

export class TaskManager {
  readonly #options: TaskManagerOptions;
  #slots: RunningSlot[] = [];
  readonly #link: LeaderLink;
  /** Of the running attempt. */
  #deployed: Deploy | null = null;
  readonly #lostPeers = new Set<string>();
  /** Until the first deployment brings the plan's. */
  #heartbeatMs = FIRST_HEARTBEAT_MS;
  #heartbeat: Timer | null = null;
  #beatAt: number | null = null;
  #heartbeatTimeoutMs = Number.POSITIVE_INFINITY;
  #exchange: { attempt: ShuffleAttempt; wiring: SlotWiring } | null = null;
  #end: ((fault: unknown) => void) | null = null;
  #closing = false;

  constructor(options: TaskManagerOptions) {
    this.#options = options;
    const { env, log, jobManagers: addresses, connect } = options;
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
    await this.#closeSlots();
    this.#link.close();
  }

  /** Ends the slot threads as they stand: for a process that must have no further effect. */
  async halt(): Promise<void> {
    this.#closing = true;
    this.#heartbeat?.cancel();
    this.#link.close();
    await Promise.all(this.#slots.map(({ worker }) => worker.terminate()));
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
    const answers = this.#slots.map((slot) => {
      const answer = Promise.withResolvers<RunningTask | null>();
      slot.described.push(answer.resolve);
      slot.worker.postMessage({ type: 'describe' } satisfies SlotCommand);
      return Promise.race([answer.promise, slot.closed.then(() => null)]);
    });
    const tasks = (await Promise.all(answers)).filter((task) => task !== null);
    if (tasks.length < deployed.tasks.length) return null;
    return {
      ...deployed.facts,
      attempt: deployed.tasks[0]?.attempt ?? 0,
      ranges: deployed.ranges,
      members: deployed.members.map((member) => member.taskManagerId),
      lostPeers: [...this.#lostPeers],
      tasks,
    };
  }

  async #command(command: LeaderCommand): Promise<void> {
    switch (command.type) {
      case 'deploy':
        await this.#deploy(command);
        return;
      case 'cancel':
        await this.#closeSlots();
        this.#report({ type: 'canceled', attempt: command.attempt });
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
        const slot = this.#slots.find((one) => one.attempt === attempt && one.subtask === subtask);
        slot?.worker.postMessage({ type: 'add-splits', splits } satisfies SlotCommand);
        return;
      }
      case 'shutdown':
        await this.close();
        this.#end?.(null);
        return;
    }
  }

  async #deploy(command: Deploy): Promise<void> {
    await this.#closeSlots();
    const { tasks, plan, ranges } = command;
    const { heartbeatTimeoutMs } = plan;
    this.#heartbeatMs = plan.heartbeatIntervalMs;
    this.#heartbeatTimeoutMs = heartbeatTimeoutMs;
    this.#link.limit({ heartbeatTimeoutMs, graceMs: plan.leaderElection.graceMs });
    this.#deployed = command;
    const { slotCacheBytes } = this.#options;
    if (slotCacheBytes !== null) plan.memory.slotCacheBytes = slotCacheBytes;
    const wiring = this.#openExchange(command);
    for (const task of tasks) {
      const peers = wiring.portsOf(task.subtask);
      const { jobId, lineage, script } = command;
      const { localStateDir, mutant, log } = this.#options;
      const start: SlotStart = {
        jobId,
        lineage,
        plan,
        script,
        ranges,
        task,
        localStateDir,
        logLevel: log.level,
        mutant,
        peers,
      };
      this.#slots.push(this.#startSlot(start));
    }
  }

  #openExchange(command: Deploy): SlotWiring {
    const { shuffle, taskManagerId } = this.#options;
    const { jobId, members, secret, plan, ranges, tasks } = command;
    const attempt = tasks[0]?.attempt ?? 0;
    let exchange: ShuffleAttempt | null = null;
    const wiring = new SlotWiring(
      tasks.map(({ subtask }) => subtask),
      ranges.length,
      {
        send: (channel, frame) => exchange?.send(channel, frame),
        credit: (channel) => exchange?.credit(channel),
      },
    );
    exchange = shuffle.begin({
      jobId,
      attempt,
      secret,
      self: taskManagerId,
      members,
      credit: channelCredit(plan, ranges.length),
      heartbeatMs: plan.heartbeatIntervalMs,
      timeoutMs: plan.heartbeatTimeoutMs,
      deliver: (channel, frame) => wiring.deliver(channel, frame),
      granted: (channel, bytes) => wiring.granted(channel, bytes),
      lost: (peer, { code, message }) => {
        this.#options.log.info({ peer, attempt, code, message }, 'connection with a peer lost');
        this.#lostPeers.add(peer);
        this.#report({ type: 'peer-lost', attempt, peer, code, error: message });
      },
    });
    this.#exchange = { attempt: exchange, wiring };
    return wiring;
  }

  #startSlot(start: SlotStart): RunningSlot {
    const { plan, task } = start;
    const worker = new Worker(new URL('./slot-thread.ts', import.meta.url), {
      workerData: start,
      transferList: start.peers.filter((port) => port !== null),
      name: `slot-${task.slot}`,
      resourceLimits: {
        maxOldGenerationSizeMb: slotHeapMb(plan),
        maxYoungGenerationSizeMb: YOUNG_MB,
      },
    });
    let closed = () => {};
    const slot: RunningSlot = {
      subtask: task.subtask,
      attempt: task.attempt,
      worker,
      folder: slotFolder(start.localStateDir, { lineage: start.lineage, ...task }),
      metrics: null,
      described: [],
      closed: new Promise((resolve) => {
        closed = resolve;
      }),
    };
    worker.on('message', (message: SlotMessage) => {
      if (message.type === 'closed') closed();
      else this.#fromSlot(slot, message);
    });
    worker.on('error', (error) => this.#slotFailed(slot, 'SLOT_CRASHED', String(error)));
    worker.on('exit', (code) => {
      closed();
      if (code !== 0) this.#slotFailed(slot, 'SLOT_EXITED', `slot thread exited with ${code}`);
    });
    return slot;
  }

  #fromSlot(slot: RunningSlot, message: Exclude<SlotMessage, { type: 'closed' }>): void {
    if (!this.#slots.includes(slot)) return;
    if (message.type === 'metrics') slot.metrics = message.metrics;
    else if (message.type === 'described') slot.described.shift()?.(message.task);
    else if (message.type === 'report') this.#report(message.report);
    else this.#slotFailed(slot, message.code, message.error);
  }

  /** Reported first, so that the job's exception history names the cause; then the process ends. */
  #slotFailed(slot: RunningSlot, code: string, error: string): void {
    if (this.#closing || !this.#slots.includes(slot)) return;
    const { attempt, subtask } = slot;
    this.#report({ type: 'failed', attempt, subtask, code, error });
    const fault = new TriggerJobError(code, `slot of subtask ${subtask} failed: ${error}`);
    this.#options.env.timer(50, () => this.#end?.(fault));
  }

  /** null: of whatever attempt. */
  #toSlots(attempt: number | null, command: SlotCommand): void {
    for (const slot of this.#slots) {
      if (attempt === null || slot.attempt === attempt) slot.worker.postMessage(command);
    }
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
    this.#options.shuffle.end();
    this.#exchange?.wiring.close();
    this.#exchange = null;
    await Promise.all(
      slots.map(async (slot) => {
        slot.worker.postMessage({ type: 'close' } satisfies SlotCommand);
        let timer: Timer | null = null;
        const limit = new Promise<void>((resolve) => {
          timer = this.#options.env.timer(CLOSE_LIMIT_MS, resolve);
        });
        await Promise.race([slot.closed, limit]);
        (timer as Timer | null)?.cancel();
        await slot.worker.terminate();
        await rm(slot.folder, { recursive: true, force: true }).catch((error: unknown) => {
          this.#options.log.warn({ error: messageOf(error) }, 'local state stays behind');
        });
      }),
    );
  }

  #report(report: DistributiveOmit<Report, 'taskManagerId'>): void {
    const { taskManagerId } = this.#options;
    this.#link.send({ ...report, taskManagerId } as Report);
  }

  #beat(): void {
    this.#heartbeat?.cancel();
    const now = this.#options.env.monotonic();
    const asleepMs = this.#beatAt === null ? 0 : now - this.#beatAt;
    this.#beatAt = now;
    if (asleepMs > this.#heartbeatTimeoutMs) {
      // The others have given us up and go on without us: no further effect of this process (P38).
      const text = `this process stood still for ${Math.round(asleepMs)} ms`;
      this.#end?.(new TriggerJobError('PROCESS_FROZEN', text));
      return;
    }
    this.#link.check();
    this.#tell();
    this.#heartbeat = this.#options.env.timer(this.#heartbeatMs, () => {
      if (!this.#closing) this.#beat();
    });
  }

  #tell(): void {
    const usage = process.cpuUsage();
    const memory = process.memoryUsage();
    this.#report({
      type: 'heartbeat',
      leaderEpoch: this.#link.leaderEpoch,
      metrics: {
        rssBytes: memory.rss,
        cpuSeconds: (usage.user + usage.system) / 1e6,
        heapBytes: memory.heapUsed,
        subtasks: this.#slots.flatMap(({ metrics }) => (metrics === null ? [] : [metrics])),
        shuffle: this.#exchange?.attempt.stats ?? NO_SHUFFLE,
      },
    });
  }
}

const NO_SHUFFLE = { links: 0, bytesSent: 0, framesSent: 0, queuedBytes: 0, staleFrames: 0 };

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** V8's limit for one slot: its share of what the plan gives to all heaps (plan/memory.ts). */
function slotHeapMb(plan: SlotStart['plan']): number {
  return Math.ceil(plan.memory.heapBytes / plan.slotsPerTaskManager / 1024 / 1024);
}
