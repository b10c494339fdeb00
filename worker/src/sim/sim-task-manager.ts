/**
 * The TaskManager process of the simulation: what taskmanager.ts does with threads, done with
 * SimSlots in this process. It ends itself when a slot fails (crash-only) or when no leader was
 * heard for too long; its way to the leader is the real one.
 */
import { pino } from 'pino';
import type { SimProcess } from '../rehearsal/sim-process.ts';
import type { Deployment, Report, RunningAttempt } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { TaskReport } from '../taskmanager/checkpointer.ts';
import {
  type LeaderCommand,
  type LeaderConnection,
  LeaderLink,
} from '../taskmanager/leader-link.ts';
import { SleepWatch } from '../taskmanager/sleep-watch.ts';
import { SimSlot, type SlotWorld } from './sim-slot.ts';

const HEARTBEAT_MS = 1000;
const END_AFTER_FAULT_MS = 50;
const CLOSE_LIMIT_MS = 5000;

type Untold<Type extends Report['type']> = Omit<Extract<Report, { type: Type }>, 'taskManagerId'>;

export interface TaskManagerHooks {
  deployed(taskManager: string, command: Deployment): void;
  /** A code that only a bug brings. */
  slotFailed(code: string, error: string, attempt: number): void;
  /** The process has nothing more to do. */
  ended(): void;
  /** To the JobManager of that name; rejects if nobody answers. */
  connect(address: string): Promise<LeaderConnection>;
}

export class SimTaskManager {
  readonly process: SimProcess;
  readonly #link: LeaderLink;
  readonly #world: SlotWorld;
  readonly #hooks: TaskManagerHooks;
  #slots: SimSlot[] = [];
  #deployed: Deployment | null = null;
  /** The newest attempt that was deployed or told of. */
  #attempt = 0;
  readonly #lostPeers = new Set<string>();
  readonly #sleep: SleepWatch;
  /** When the connections of the attempt were begun, by peer. */
  readonly #linkedAt = new Map<string, number>();
  /** Commands on their way to a slot. */
  readonly #toSlots = new Set<Promise<void>>();
  #count = 0;
  /** When it last tried to reach a leader, and was not kept waiting by one that stands still. */
  soughtAt = 0;

  constructor(
    process: SimProcess,
    addresses: readonly string[],
    world: SlotWorld,
    hooks: TaskManagerHooks,
  ) {
    this.process = process;
    this.#world = world;
    this.#hooks = hooks;
    this.#sleep = new SleepWatch(process.env);
    this.#link = new LeaderLink({
      env: process.env,
      log: pino({ level: 'silent' }),
      addresses,
      connect: (address) => hooks.connect(address),
      describe: async (leaderEpoch) => ({
        type: 'register',
        version: RPC_VERSION,
        taskManagerId: process.name,
        host: 'sim',
        pid: 1,
        slots: this.#count,
        shuffleHost: process.name,
        shufflePort: 1,
        leaderEpoch,
        running: await this.#running(),
      }),
      onCommand: (command) => this.#command(command),
      onDiscovered: (at) => {
        for (const slot of this.#slots) this.#toSlot(slot, () => slot.task.discovered(at));
      },
      onRegistered: () => {
        world.outside.hit('command: registered');
        world.outside.point(process, 'told to registered');
        this.#tell();
      },
      onEnd: (fault) => {
        world.outside.hit('taskmanager ended: no leader');
        if (!(fault instanceof TriggerJobError)) process.time.fail(fault);
        this.#end();
      },
    });
  }

  /** null: it runs nothing. */
  get attempt(): number | null {
    return this.#slots.length === 0 ? null : this.#attempt;
  }

  get tasks(): number {
    return this.#slots.length;
  }

  /** Subtasks of the whole attempt. */
  get of(): number {
    return this.#deployed?.ranges.length ?? 0;
  }

  /** The newest attempt that it knows. */
  get newest(): number {
    return this.#attempt;
  }

  /** Since when it should have a connection with that peer; null: it should not. */
  linkedAt(peer: string): number | null {
    return this.#lostPeers.has(peer) ? null : (this.#linkedAt.get(peer) ?? null);
  }

  /** The connection with it broke (P51). */
  peerLost(peer: string, silent: boolean): void {
    if (!this.process.alive || this.linkedAt(peer) === null) return;
    this.#world.outside.hit('a peer was lost');
    this.#lostPeers.add(peer);
    const code = silent ? 'LINK_SILENT' : 'LINK_RESET';
    this.#report({ type: 'peer-lost', attempt: this.#attempt, peer, code, error: 'lost' });
  }

  run(slots: number): void {
    this.#count = slots;
    this.#beat();
    void this.#link.run();
  }

  async #running(): Promise<RunningAttempt | null> {
    // Behind the commands before it, as the messages of a thread are.
    await Promise.all(this.#toSlots);
    const deployed = this.#deployed;
    if (deployed === null || this.#slots.length === 0) return null;
    return {
      ...deployed.facts,
      attempt: deployed.attempt,
      attempts: deployed.attempts,
      ranges: deployed.ranges,
      members: deployed.members.map(({ taskManagerId }) => taskManagerId),
      lostPeers: [...this.#lostPeers],
      secret: deployed.secret,
      tasks: this.#slots.map(({ task }) => task.describe()),
    };
  }

  async #command(command: LeaderCommand): Promise<void> {
    this.#world.outside.hit(`command: ${command.type}`);
    this.#world.outside.point(this.process, `told to ${command.type}`);
    if (!this.process.alive) return;
    switch (command.type) {
      case 'deploy':
        await this.#closeSlots();
        this.#deploy(command);
        return;
      case 'detach':
      case 'replay':
        if (command.type === 'detach') this.#noteLost(command);
        this.#pass(command);
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
            this.#toSlot(slot, () => slot.task.addSplits(command.splits));
          }
        }
        return;
      case 'trigger':
        this.#trigger(command);
        return;
      case 'abort':
        for (const slot of this.#of(command.attempt)) {
          this.#toSlot(slot, () => {
            if (this.#slots.includes(slot)) slot.task.abort(command.checkpointId);
          });
        }
        return;
      case 'hold-sources':
        for (const { task } of this.#of(command.attempt)) task.holdSource(command.held);
        return;
      case 'notify':
      // Nobody looks at a simulated job.
      case 'query':
        return;
    }
  }

  #noteLost({ attempt, subtasks }: Extract<LeaderCommand, { type: 'detach' }>): void {
    if (attempt !== this.#attempt) return;
    for (const { taskManagerId, subtasks: its } of this.#deployed?.members ?? []) {
      if (its.some((subtask) => subtasks.includes(subtask))) this.#lostPeers.add(taskManagerId);
    }
  }

  #toSlot(slot: SimSlot, act: () => void): void {
    const told = slot.later(act).finally(() => this.#toSlots.delete(told));
    this.#toSlots.add(told);
  }

  /** The threads get it at their own time: a crash may fall between two. */
  #trigger(command: Extract<LeaderCommand, { type: 'trigger' }>): void {
    const { checkpointId, triggeredAt, script } = command;
    for (const slot of this.#of(command.attempt)) {
      this.#toSlot(slot, () => {
        this.#world.outside.point(this.process, 'before barrier');
        if (!this.process.alive || !this.#slots.includes(slot)) return;
        slot.task.trigger(checkpointId, triggeredAt, script);
        this.#world.outside.point(this.process, 'barrier sent');
      });
    }
  }

  /** The threads get it at their own time, each in order. */
  #pass(command: Extract<LeaderCommand, { type: 'detach' | 'replay' }>): void {
    for (const slot of this.#of(command.attempt)) {
      this.#toSlot(slot, () => {
        if (!this.process.alive || !this.#slots.includes(slot)) return;
        if (command.type === 'detach') slot.task.detach(command.subtasks);
        else slot.task.replay(command.positions, command.goals);
      });
    }
  }

  #replace(command: Deployment): void {
    const { attempt, attempts } = command;
    for (const slot of this.#slots) {
      this.#toSlot(slot, () => {
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
    const { heartbeatTimeoutMs, leaderElection } = plan;
    this.#link.limit({ heartbeatTimeoutMs, graceMs: leaderElection.graceMs });
    for (const { taskManagerId: peer } of command.members) {
      if (!this.#linkedAt.has(peer)) this.#linkedAt.set(peer, this.process.time.nowMs);
    }
    this.#sleep.limit(heartbeatTimeoutMs);
    this.#deployed = command;
    this.#attempt = command.attempt;
    const slots: SimSlot[] = [];
    for (const task of tasks) {
      const given = { jobId, lineage, plan, script, ranges, attempts, task };
      const config = { ...given, spoolPath: null, mutant };
      const peers = {
        reach: (from: SimSlot, subtask: number, attempt: number, act: (slot: SimSlot) => void) =>
          shuffle.reach(from, attempt, subtask, act),
        report: (report: TaskReport) => this.#report(report),
        failed: (subtask: number, code: string, error: string) => {
          this.#hooks.slotFailed(code, error, task.attempt);
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
    this.#deployed = null;
    this.#lostPeers.clear();
    this.#linkedAt.clear();
    const limit = new Promise<void>((resolve) => {
      this.process.env.timer(CLOSE_LIMIT_MS, resolve);
    });
    await Promise.race([Promise.all(slots.map((slot) => slot.close())), limit]);
  }

  #report(report: TaskReport | Untold<'canceled' | 'peer-lost' | 'replaced'>): void {
    this.#link.send({ ...report, taskManagerId: this.process.name } as Report);
  }

  #beat(): void {
    if (this.#sleep.beat() !== null && this.#world.mutant !== 'woken-goes-on') {
      this.#world.outside.hit('taskmanager ended: it stood still');
      this.#end();
      return;
    }
    this.#link.check();
    this.#tell();
    this.process.env.timer(HEARTBEAT_MS, () => this.#beat());
  }

  #tell(): void {
    this.#link.send({
      type: 'heartbeat',
      taskManagerId: this.process.name,
      leaderEpoch: this.#link.leaderEpoch,
      metrics: {
        rssBytes: 0,
        cpuSeconds: 0,
        heapBytes: 0,
        heapTotalBytes: 0,
        externalBytes: 0,
        memoryLimitBytes: 0,
        cores: 1,
        eventLoopLagP99Ms: 0,
        system: null,
        subtasks: this.#slots.map(({ task }) => task.metrics(0)),
        shuffle: { links: 0, bytesSent: 0, framesSent: 0, queuedBytes: 0, staleFrames: 0 },
      },
    });
  }

  #end(): void {
    this.#link.close();
    if (this.process.alive) this.#hooks.ended();
  }
}
