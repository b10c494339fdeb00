/**
 * The TaskManager process of the simulation: what taskmanager.ts does with threads, done with
 * SimSlots in this process. It ends itself when a slot fails or the JobManager is gone (crash-
 * only).
 */
import type { Command, Report } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import type { TaskReport } from '../taskmanager/checkpointer.ts';
import type { LinkEnd } from './rpc-link.ts';
import { SimSlot, type SlotWorld } from './sim-slot.ts';
import type { SimProcess } from './virtual-time.ts';

const HEARTBEAT_MS = 1000;
const END_AFTER_FAULT_MS = 50;
const CLOSE_LIMIT_MS = 5000;

type Untold<Type extends Report['type']> = Omit<Extract<Report, { type: Type }>, 'taskManagerId'>;

export interface TaskManagerHooks {
  deployed(taskManager: string, command: Extract<Command, { type: 'deploy' }>): void;
  /** A code that only a bug brings. */
  slotFailed(code: string, error: string): void;
  /** The process has nothing more to do. */
  ended(): void;
}

export class SimTaskManager {
  readonly process: SimProcess;
  readonly #client: LinkEnd<Report, Command>;
  readonly #world: SlotWorld;
  readonly #hooks: TaskManagerHooks;
  #slots: SimSlot[] = [];
  #peers: readonly string[] = [];
  #leaderEpoch = 0;

  constructor(
    process: SimProcess,
    client: LinkEnd<Report, Command>,
    world: SlotWorld,
    hooks: TaskManagerHooks,
  ) {
    this.process = process;
    this.#client = client;
    this.#world = world;
    this.#hooks = hooks;
  }

  /** The connection with it broke; for both ends the attempt is over (P51). */
  peerLost(peer: string): void {
    const attempt = this.#slots[0]?.attempt;
    if (!this.process.alive || attempt === undefined || !this.#peers.includes(peer)) return;
    this.#world.outside.hit('a peer was lost');
    this.#report({ type: 'peer-lost', attempt, peer, code: 'LINK_RESET', error: 'reset' });
  }

  run(slots: number): void {
    this.#client.onMessage((command) => {
      this.#command(command).catch((fault: unknown) => this.process.time.fail(fault));
    });
    this.#client.onClose(() => this.#end());
    const { name } = this.process;
    this.#client.send({
      type: 'register',
      version: RPC_VERSION,
      taskManagerId: name,
      host: 'sim',
      pid: 1,
      slots,
      shuffleHost: name,
      shufflePort: 1,
    });
  }

  async #command(command: Command): Promise<void> {
    if (command.type === 'refused') {
      this.#end();
      return;
    }
    if (command.leaderEpoch < this.#leaderEpoch) return;
    this.#leaderEpoch = command.leaderEpoch;
    this.#world.outside.hit(`command: ${command.type}`);
    this.#world.outside.point(this.process, `told to ${command.type}`);
    if (!this.process.alive) return;
    switch (command.type) {
      case 'registered':
        this.#beat();
        return;
      case 'deploy':
        await this.#closeSlots();
        this.#deploy(command);
        return;
      case 'cancel':
        await this.#closeSlots();
        this.#report({ type: 'canceled', attempt: command.attempt });
        return;
      case 'shutdown':
        await this.#closeSlots();
        this.#end();
        return;
      case 'add-splits':
        this.#of(command.attempt)
          .find(({ subtask }) => subtask === command.subtask)
          ?.task.addSplits(command.splits);
        return;
      case 'trigger':
        this.#trigger(command);
        return;
      case 'abort':
        for (const { task } of this.#of(command.attempt)) task.abort(command.checkpointId);
        return;
      case 'hold-sources':
        for (const { task } of this.#of(command.attempt)) task.holdSource(command.held);
        return;
      case 'notify':
        return;
    }
  }

  /** The threads get it at their own time: a crash may fall between two. */
  #trigger(command: Extract<Command, { type: 'trigger' }>): void {
    const { checkpointId, triggeredAt, script } = command;
    for (const slot of this.#of(command.attempt)) {
      this.process.env.timer(this.#world.frameDelayMs(), () => {
        this.#world.outside.point(this.process, 'before barrier');
        if (!this.process.alive || !this.#slots.includes(slot)) return;
        slot.task.trigger(checkpointId, triggeredAt, script);
        this.#world.outside.point(this.process, 'barrier sent');
      });
    }
  }

  #deploy(command: Extract<Command, { type: 'deploy' }>): void {
    if (!this.process.alive) return;
    this.#hooks.deployed(this.process.name, command);
    const { jobId, lineage, plan, script, ranges, tasks } = this.#world.deployment(command);
    const { mutant, shuffle } = this.#world;
    this.#peers = command.members.map(({ taskManagerId }) => taskManagerId);
    const slots: SimSlot[] = [];
    for (const task of tasks) {
      const config = { jobId, lineage, plan, script, ranges, task, spoolPath: null, mutant };
      const peers = {
        reach: (subtask: number, act: (slot: SimSlot) => void) =>
          shuffle.reach(task.attempt, subtask, act),
        report: (report: TaskReport) => this.#report(report),
        failed: (subtask: number, code: string, error: string) => {
          this.#hooks.slotFailed(code, error);
          this.#report({ type: 'failed', attempt: task.attempt, subtask, code, error });
          this.process.env.timer(END_AFTER_FAULT_MS, () => this.#end());
        },
      };
      slots.push(new SimSlot(this.process, this.#world, config, peers));
    }
    this.#slots = slots;
    for (const slot of slots) shuffle.add(slot);
    for (const slot of slots) slot.run();
  }

  #of(attempt: number): SimSlot[] {
    return this.#slots.filter((slot) => slot.attempt === attempt);
  }

  async #closeSlots(): Promise<void> {
    const slots = this.#slots;
    this.#slots = [];
    const limit = new Promise<void>((resolve) => {
      this.process.env.timer(CLOSE_LIMIT_MS, resolve);
    });
    await Promise.race([Promise.all(slots.map((slot) => slot.close())), limit]);
  }

  #report(report: TaskReport | Untold<'canceled' | 'peer-lost'>): void {
    this.#client.send({ ...report, taskManagerId: this.process.name } as Report);
  }

  #beat(): void {
    this.#client.send({
      type: 'heartbeat',
      taskManagerId: this.process.name,
      leaderEpoch: this.#leaderEpoch,
      metrics: {
        rssBytes: 0,
        cpuSeconds: 0,
        heapBytes: 0,
        subtasks: this.#slots.map(({ task }) => task.metrics(0)),
        shuffle: { links: 0, bytesSent: 0, framesSent: 0, queuedBytes: 0, staleFrames: 0 },
      },
    });
    this.process.env.timer(HEARTBEAT_MS, () => this.#beat());
  }

  #end(): void {
    if (this.process.alive) this.#hooks.ended();
  }
}
