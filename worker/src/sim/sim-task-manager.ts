/**
 * The TaskManager process of the simulation: what taskmanager.ts does with threads, done with
 * SimSlots in this process. It ends itself when a slot fails or the JobManager is gone (crash-
 * only).
 */
import type { Command, Deployment, Report } from '../rpc/messages.ts';
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
  deployed(taskManager: string, command: Deployment): void;
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
  /** The newest attempt that was deployed or told of. */
  #attempt = 0;
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

  /** The connection with it broke (P51). */
  peerLost(peer: string, silent: boolean): void {
    if (!this.process.alive || this.#slots.length === 0 || !this.#peers.includes(peer)) return;
    this.#world.outside.hit('a peer was lost');
    const code = silent ? 'LINK_SILENT' : 'LINK_RESET';
    this.#report({ type: 'peer-lost', attempt: this.#attempt, peer, code, error: 'lost' });
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
      case 'detach':
      case 'replay':
        this.#toSlots(command);
        return;
      case 'replace':
        if (this.#slots.length > 0) this.#replace(command);
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
        for (const slot of this.#of(command.attempt)) {
          if (slot.subtask === command.subtask) {
            slot.later(() => slot.task.addSplits(command.splits));
          }
        }
        return;
      case 'trigger':
        this.#trigger(command);
        return;
      case 'abort':
        for (const slot of this.#of(command.attempt)) {
          slot.later(() => {
            if (this.#slots.includes(slot)) slot.task.abort(command.checkpointId);
          });
        }
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
      slot.later(() => {
        this.#world.outside.point(this.process, 'before barrier');
        if (!this.process.alive || !this.#slots.includes(slot)) return;
        slot.task.trigger(checkpointId, triggeredAt, script);
        this.#world.outside.point(this.process, 'barrier sent');
      });
    }
  }

  /** The threads get it at their own time, each in order. */
  #toSlots(command: Extract<Command, { type: 'detach' | 'replay' }>): void {
    for (const slot of this.#of(command.attempt)) {
      slot.later(() => {
        if (!this.process.alive || !this.#slots.includes(slot)) return;
        if (command.type === 'detach') slot.task.detach(command.subtasks);
        else slot.task.replay(command.positions, command.goals);
      });
    }
  }

  #replace(command: Deployment): void {
    const { attempt, attempts } = command;
    for (const slot of this.#slots) {
      slot.later(() => {
        if (this.process.alive && this.#slots.includes(slot)) slot.task.replace(attempts);
      });
    }
    this.#deploy(command);
    this.#report({ type: 'replaced', attempt });
  }

  #deploy(command: Deployment): void {
    if (!this.process.alive) return;
    this.#hooks.deployed(this.process.name, command);
    const { jobId, lineage, plan, script, ranges, attempts, tasks } =
      this.#world.deployment(command);
    const { mutant, shuffle } = this.#world;
    this.#attempt = command.attempt;
    this.#peers = command.members.map(({ taskManagerId }) => taskManagerId);
    const slots: SimSlot[] = [];
    for (const task of tasks) {
      const given = { jobId, lineage, plan, script, ranges, attempts, task };
      const config = { ...given, spoolPath: null, mutant };
      const peers = {
        reach: (subtask: number, attempt: number, act: (slot: SimSlot) => void) =>
          shuffle.reach(attempt, subtask, act),
        report: (report: TaskReport) => this.#report(report),
        failed: (subtask: number, code: string, error: string) => {
          this.#hooks.slotFailed(code, error);
          this.#report({ type: 'failed', attempt: task.attempt, subtask, code, error });
          this.process.env.timer(END_AFTER_FAULT_MS, () => this.#end());
        },
      };
      slots.push(new SimSlot(this.process, this.#world, config, peers));
    }
    this.#slots.push(...slots);
    for (const slot of slots) shuffle.add(slot);
    for (const slot of slots) slot.run();
  }

  #of(attempt: number): SimSlot[] {
    return attempt === this.#attempt ? this.#slots : [];
  }

  async #closeSlots(): Promise<void> {
    const slots = this.#slots;
    this.#slots = [];
    const limit = new Promise<void>((resolve) => {
      this.process.env.timer(CLOSE_LIMIT_MS, resolve);
    });
    await Promise.race([Promise.all(slots.map((slot) => slot.close())), limit]);
  }

  #report(report: TaskReport | Untold<'canceled' | 'peer-lost' | 'replaced'>): void {
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
