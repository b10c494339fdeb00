/**
 * One real SlotTask in the simulation: its ports, its backend that stalls, the points where it may
 * die.
 */
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { Frame } from '../exchange/frame.ts';
import type { SimProcess, SimThread } from '../rehearsal/sim-process.ts';
import type { Deployment } from '../rpc/messages.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import type { UserRow } from '../state/rows.ts';
import type { TaskReport } from '../taskmanager/checkpointer.ts';
import type { SlotConfig } from '../taskmanager/slot-parts.ts';
import { SlotTask } from '../taskmanager/slot-task.ts';
import { type ModelLog, ModelReader } from './model-log.ts';
import { ModelDeadLetter, ModelProfileApi, ModelWebhook, type Outside } from './model-services.ts';
import type { SimShuffle } from './sim-shuffle.ts';

/** What a slot is given by the world. */
export interface SlotWorld {
  outside: Outside;
  log: ModelLog;
  shuffle: SimShuffle;
  openStore(thread: SimThread): ObjectStore;
  /** Between two slots; a number per direction. */
  frameDelayMs(): number;
  /** Every report, as the task made it. */
  told(report: TaskReport): void;
  /** Reports and deployments as a defect on purpose makes them (mutants.ts). */
  mutate(report: TaskReport): Promise<TaskReport>;
  deployment(command: Deployment): Deployment;
  mutant: string | null;
}

export interface SlotPeers {
  /** A slot in that attempt, here or in another process. */
  reach(from: SimSlot, subtask: number, attempt: number, act: (slot: SimSlot) => void): void;
  report(report: TaskReport): void;
  failed(subtask: number, code: string, error: string): void;
}

class SimBackend extends MemoryBackend {
  readonly #slot: SimSlot;

  constructor(slot: SimSlot) {
    super();
    this.#slot = slot;
  }

  override write(ops: readonly UserRow[]): void {
    super.write(ops);
    this.#slot.wrote();
  }

  override stalled(): boolean {
    return this.#slot.backendStalled;
  }
}

export class SimSlot {
  readonly process: SimProcess;
  readonly #thread: SimThread;
  readonly #world: SlotWorld;
  readonly #config: SlotConfig;
  readonly #peers: SlotPeers;
  readonly #task: SlotTask;
  readonly #barriers = new Map<number, number>();
  /** When the last message on the way to a peer arrives there: channels keep their order. */
  readonly #lastAt = new Map<number, number>();
  #toldAt = 0;
  #draining = false;
  #closed = false;

  constructor(process: SimProcess, world: SlotWorld, config: SlotConfig, peers: SlotPeers) {
    this.process = process;
    const thread = process.thread();
    this.#thread = thread;
    this.#world = world;
    this.#config = config;
    this.#peers = peers;
    const { attempt, subtask } = config.task;
    const { outside } = world;
    this.#task = new SlotTask(
      {
        env: thread.env,
        store: world.openStore(thread),
        backend: new SimBackend(this),
        profileApi: new ModelProfileApi(thread, outside),
        action: new ModelWebhook(thread, outside, attempt, subtask),
        deadLetter: new ModelDeadLetter(thread, outside, attempt),
        reader: this.#reader(),
        openReader: () => Promise.resolve(this.#reader()),
        report: (report) => this.#report(report),
        send: (target, frame, to) => this.#send(target, frame, to),
        credit: (channel, bytes, to) => this.#credit(channel, bytes, to),
        fault: (fault) => this.#fault(fault),
      },
      config,
    );
    this.subtask = subtask;
    this.since = process.time.nowMs;
  }

  readonly subtask: number;
  /** When it was deployed. */
  readonly since: number;

  get attempt(): number {
    return this.#config.task.attempt;
  }

  get backendStalled(): boolean {
    return this.#world.outside.isDown('backend', this.subtask);
  }

  get ended(): boolean {
    return this.process.alive && this.#closed;
  }

  get task(): SlotTask {
    return this.#task;
  }

  run(): void {
    this.#task.start().catch((fault: unknown) => this.#fault(fault));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#task.close();
  }

  wrote(): void {
    if (this.#draining) this.#world.outside.point(this.process, 'rows written mid-drain');
  }

  /** A command of the main thread: late, and in order. */
  later(act: () => void): Promise<void> {
    const { time } = this.process;
    const at = Math.max(this.#toldAt, time.nowMs + this.#world.frameDelayMs());
    this.#toldAt = at;
    return new Promise((resolve) => {
      time.after(at - time.nowMs, () => {
        this.#thread.awake(() => {
          if (!this.#closed) act();
          resolve();
        });
      });
    });
  }

  /** From the slot of `channel`; its own frames come at once, as in a thread. */
  receive(channel: number, frame: Frame, attempt: number): void {
    this.#thread.awake(() => this.#receive(channel, frame, attempt));
  }

  credited(channel: number, bytes: Uint8Array, attempt: number): void {
    this.#thread.awake(() => {
      if (this.#closed) return;
      this.process.time.sign();
      this.#task.credited(channel, bytes, attempt);
    });
  }

  #receive(channel: number, frame: Frame, attempt: number): void {
    if (this.#closed) return;
    this.process.time.sign();
    this.#task.receive(channel, frame, attempt);
    if (frame.kind !== 'barrier') return;
    const count = (this.#barriers.get(frame.checkpointId) ?? 0) + 1;
    this.#barriers.set(frame.checkpointId, count);
    const all = count === this.#config.ranges.length;
    if (all) this.#draining = true;
    const { outboxBytes } = this.#task.metrics(0);
    if (outboxBytes > this.#config.plan.memory.slotOutboxBytes) {
      this.#world.outside.hit('barrier at a full outbox (P17)');
    }
    if (this.backendStalled) this.#world.outside.hit('barrier at a stalled backend (P17)');
    this.#world.outside.point(this.process, all ? 'all barriers came' : 'some barriers came');
  }

  #send(target: number, frame: Frame, to: number): void {
    const { attempt } = this;
    if (target === this.subtask) {
      this.receive(target, frame, attempt);
      return;
    }
    // A transfer, as between threads: the sender must not look at the buffer again.
    const sent = frame.kind === 'data' ? { ...frame, bytes: moved(frame.bytes) } : { ...frame };
    this.#later(target, () =>
      this.#peers.reach(this, target, to, (slot) => slot.receive(this.subtask, sent, attempt)),
    );
  }

  #credit(channel: number, bytes: Uint8Array, to: number): void {
    const { attempt } = this;
    const back = moved(bytes);
    if (channel === this.subtask) this.credited(channel, back, attempt);
    else {
      this.#later(channel, () =>
        this.#peers.reach(this, channel, to, (slot) => slot.credited(this.subtask, back, attempt)),
      );
    }
  }

  #later(peer: number, fn: () => void): void {
    const { time } = this.process;
    const at = Math.max(this.#lastAt.get(peer) ?? 0, time.nowMs + this.#world.frameDelayMs());
    this.#lastAt.set(peer, at);
    time.after(at - time.nowMs, fn);
  }

  #report(report: TaskReport): void {
    if (report.type === 'drained') this.#draining = false;
    if (report.type === 'ack') this.#noteReplay();
    this.#world.outside.hit(`task: ${report.type}`);
    this.#world.told(report);
    this.#world.outside.point(this.process, `before ${report.type}`);
    if (!this.process.alive) return;
    this.#world
      .mutate(report)
      .then((told) => {
        this.#peers.report(told);
        this.#world.outside.point(this.process, `after ${report.type}`);
      })
      .catch((fault: unknown) => this.process.time.fail(fault));
  }

  #reader(): ModelReader {
    const { outside, log } = this.#world;
    const connectMs = outside.rng.chance(0.4) ? outside.rng.between(100, 900) : 0;
    return new ModelReader(log, this.#thread, connectMs);
  }

  #noteReplay(): void {
    const { extra } = this.#task.metrics(0);
    for (const name of ['repeats_dropped', 'splits_handed_over', 'catch_up_records']) {
      if (extra[name]! > 0) this.#world.outside.hit(`replay: ${name}`);
    }
  }

  #fault(fault: unknown): void {
    if (!this.process.alive || this.#closed) return;
    const code = fault instanceof TriggerJobError ? fault.code : 'SLOT_FAULT';
    this.#peers.failed(this.subtask, code, messageOf(fault));
  }
}

/** Another buffer with these bytes; what still looks at the old one sees garbage. */
function moved(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  bytes.fill(0xdb);
  return copy;
}
