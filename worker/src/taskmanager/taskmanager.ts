/**
 * The TaskManager process: registers with the JobManager, runs a thread per slot, passes commands
 * down and reports up, sends heartbeats. Three things it decides itself: to refuse an older
 * leader's commands (P38), to end when a slot fails (crash-only), and to end when it stood still
 * for so long that the others have given it up. The loss of a peer is none of them: it is reported,
 * and the JobManager cancels, after which this process takes the next deployment, or has only the
 * lost tasks replaced.
 */
import { rm } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { ShuffleServer } from '../exchange/shuffle-server.ts';
import type { RpcClient } from '../rpc/client.ts';
import type { Command, Deployment, Report, SubtaskMetrics } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { slotFolder } from './local-state.ts';
import type { SlotCommand, SlotMessage, SlotStart } from './slot-protocol.ts';
import { TaskExchange } from './task-exchange.ts';

export interface TaskManagerOptions {
  env: Env;
  log: Logger;
  client: RpcClient;
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
}

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
  #leaderEpoch = 0;
  /** Until the first deployment brings the plan's. */
  #heartbeatMs = FIRST_HEARTBEAT_MS;
  #heartbeat: Timer | null = null;
  #beatAt: number | null = null;
  #heartbeatTimeoutMs = Number.POSITIVE_INFINITY;
  #exchange: TaskExchange | null = null;
  /** The newest attempt that was deployed or told of: commands that bear another come too late. */
  #attempt = 0;
  #end: ((fault: unknown) => void) | null = null;
  #closing = false;

  constructor(options: TaskManagerOptions) {
    this.#options = options;
  }

  /** Runs until shutdown (resolves) or a fault that must end the process (rejects). */
  run(): Promise<void> {
    const { client, taskManagerId, host, slots, shuffle, shuffleHost } = this.#options;
    return new Promise((resolve, reject) => {
      this.#end = (fault) => (fault === null ? resolve() : reject(fault));
      // One after the other: a command that overtakes a deployment would find no slot, in silence.
      let last = Promise.resolve();
      client.onCommand((command) => {
        last = last
          .then(() => this.#command(command))
          .catch((fault: unknown) => this.#end?.(fault));
      });
      client.onClose((error) => {
        const cause = error ?? undefined;
        this.#end?.(
          this.#closing
            ? null
            : new TriggerJobError('JOBMANAGER_LOST', 'the JobManager closed the connection', {
                cause,
              }),
        );
      });
      const version = RPC_VERSION;
      const { pid } = process;
      client.send({
        type: 'register',
        version,
        taskManagerId,
        host,
        pid,
        slots,
        shuffleHost,
        shufflePort: shuffle.port,
      });
    });
  }

  /** Closes every slot; local state goes with it. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#heartbeat?.cancel();
    await this.#closeSlots();
  }

  /** Ends the slot threads as they stand: for a process that must have no further effect. */
  async halt(): Promise<void> {
    this.#closing = true;
    this.#heartbeat?.cancel();
    await Promise.all(this.#slots.map(({ worker }) => worker.terminate()));
  }

  async #command(command: Command): Promise<void> {
    if (command.type === 'refused') {
      throw new TriggerJobError('REGISTRATION_REFUSED', command.reason);
    }
    if (command.leaderEpoch < this.#leaderEpoch) {
      const { type, leaderEpoch } = command;
      this.#options.log.warn(
        { type, leaderEpoch, known: this.#leaderEpoch },
        'refused: old leader',
      );
      return;
    }
    this.#leaderEpoch = command.leaderEpoch;
    switch (command.type) {
      case 'registered':
        this.#beat();
        return;
      case 'deploy':
        await this.#deploy(command);
        return;
      case 'detach':
        if (command.attempt !== this.#attempt) return;
        this.#exchange?.detach(command.subtasks);
        this.#toSlots(command.attempt, { type: 'detach', subtasks: command.subtasks });
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
      case 'notify':
        // Offsets are committed and garbage collected by the JobManager; a task keeps nothing for
        // it.
        return;
      case 'add-splits': {
        const { attempt, subtask, splits } = command;
        if (attempt !== this.#attempt) return;
        const slot = this.#slots.find((one) => one.subtask === subtask);
        slot?.worker.postMessage({ type: 'add-splits', splits } satisfies SlotCommand);
        return;
      }
      case 'shutdown':
        await this.close();
        this.#end?.(null);
        return;
    }
  }

  async #deploy(command: Deployment): Promise<void> {
    await this.#closeSlots();
    const { plan } = command;
    this.#heartbeatMs = plan.heartbeatIntervalMs;
    this.#heartbeatTimeoutMs = plan.heartbeatTimeoutMs;
    const { shuffle, taskManagerId, log } = this.#options;
    this.#exchange = new TaskExchange({
      log,
      shuffle,
      taskManagerId,
      deployment: command,
      lost: (peer, attempt, { code, message }) => {
        this.#report({ type: 'peer-lost', attempt, peer, code, error: message });
      },
    });
    this.#startSlots(command, this.#exchange);
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
    const { localStateDir, mutant, log, slotCacheBytes } = this.#options;
    if (slotCacheBytes !== null) plan.memory.slotCacheBytes = slotCacheBytes;
    for (const task of tasks) {
      const start: SlotStart = {
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
      };
      this.#slots.push(this.#startSlot(start));
    }
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

  #toSlots(attempt: number, command: SlotCommand): void {
    if (attempt !== this.#attempt) return;
    for (const { worker } of this.#slots) worker.postMessage(command);
  }

  /**
   * The attempt is over: its threads are gone when this resolves, and with them its effects. The
   * process may go on with another attempt; what the old one wrote locally would fill the disk.
   */
  async #closeSlots(): Promise<void> {
    const slots = this.#slots;
    this.#slots = [];
    this.#exchange?.close();
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
    const { client, taskManagerId } = this.#options;
    client.send({ ...report, taskManagerId } as Report);
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
    const usage = process.cpuUsage();
    const memory = process.memoryUsage();
    this.#report({
      type: 'heartbeat',
      leaderEpoch: this.#leaderEpoch,
      metrics: {
        rssBytes: memory.rss,
        cpuSeconds: (usage.user + usage.system) / 1e6,
        heapBytes: memory.heapUsed,
        subtasks: this.#slots.flatMap(({ metrics }) => (metrics === null ? [] : [metrics])),
        shuffle: this.#exchange?.stats ?? NO_SHUFFLE,
      },
    });
    this.#heartbeat = this.#options.env.timer(this.#heartbeatMs, () => {
      if (!this.#closing) this.#beat();
    });
  }
}

const NO_SHUFFLE = { links: 0, bytesSent: 0, framesSent: 0, queuedBytes: 0, staleFrames: 0 };

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** V8's limit for one slot: its share of what the plan gives to all heaps (plan/memory.ts). */
function slotHeapMb(plan: SlotStart['plan']): number {
  return Math.ceil(plan.memory.heapBytes / plan.slotsPerTaskManager / 1024 / 1024);
}
