/**
 * One subtask: source, exchange, state, filter and action of one slot. Its pump never blocks.
 *
 *   source -> senders -> (ports) -> gate -> processor -> outbox
 *                          barrier: gate aligned -> capture -> freeze -> slices -> checkpointer
 */
import type { AcceptedPosition } from '../exchange/accepted-offsets.ts';
import type { DataFrame, Frame } from '../exchange/frame.ts';
import type { Received } from '../exchange/input-gate.ts';
import type { SlotAnswer, SlotQuery } from '../rpc/inspection.ts';
import type { RunningTask, ScriptVersion, SubtaskMetrics } from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';
import { HydratingBackend } from '../state/hydrating-backend.ts';
import { restoreState } from '../state/restore.ts';
import { TaskBarriers } from './barriers.ts';
import { baseBudget, Checkpointer, OWED_LIMIT_BYTES, type TaskReport } from './checkpointer.ts';
import { DeferredFrames } from './deferred-frames.ts';
import { describeTask } from './describe-task.ts';
import { DrainPace } from './drain-pace.ts';
import { Housekeeping } from './housekeeping.ts';
import { PeerTasks } from './peer-tasks.ts';
import { slotMetrics } from './slot-metrics.ts';
import { buildSlotParts, type SlotConfig, type SlotParts, type SlotPorts } from './slot-parts.ts';
import { restoreVolatile, type VolatileState } from './volatile.ts';

/** Work per turn of the event loop, ms; slices of a frozen set are smaller still (P8). */
const TURN_MS = 2;
/** Of one micro-batch, about: what a buffer full of small events holds. */
const BATCH_RECORDS = 256;

/** What exists once the state is restored. */
interface RunningParts {
  checkpointer: Checkpointer;
  barriers: TaskBarriers;
}

export class SlotTask {
  readonly #ports: SlotPorts;
  readonly #backend: HydratingBackend;
  readonly #config: SlotConfig;
  readonly #parts: SlotParts;
  readonly #housekeeping: Housekeeping;
  readonly #pace: DrainPace;
  readonly #deferred = new DeferredFrames();
  readonly #peers: PeerTasks;
  /** Splits that came while the state was being restored. */
  readonly #added: (readonly SplitPosition[])[] = [];
  /** null until then. */
  #running: RunningParts | null = null;
  /** It replaces a lost task, and not all others know yet. */
  #waitsForReplay: boolean;
  #scheduled = false;
  #closed = false;
  #faulted = false;
  #starting: Promise<void> = Promise.resolve();
  #stateBusyMs = 0;
  #restoreMs = 0;
  #startedAt = 0;
  #restored = { delivered: 0, deadLettered: 0 };

  constructor(ports: SlotPorts, config: SlotConfig) {
    // What a slot says after a fault could complete a checkpoint with a hole in it.
    const report = (one: TaskReport) => {
      if (!this.#faulted) ports.report(one);
    };
    this.#backend = new HydratingBackend(ports.backend, config.plan.memory.slotCacheBytes);
    this.#ports = { ...ports, report, backend: this.#backend };
    this.#config = config;
    const { attempt, subtask } = config.task;
    this.#peers = new PeerTasks(config.attempts);
    this.#waitsForReplay = config.task.replaces;
    const fault = (thrown: unknown) => this.#fault(thrown);
    const progress = () => this.#schedule();
    this.#parts = buildSlotParts(this.#ports, config, {
      progress,
      fault,
      attemptOf: (subtask) => this.#peers.attemptOf(subtask),
      caughtUp: () => this.#ports.report({ type: 'caught-up', attempt, subtask }),
    });
    this.#pace = new DrainPace(ports.env, this.#parts.load, progress);
    this.#housekeeping = new Housekeeping({
      ports: this.#ports,
      config,
      parts: this.#parts,
      done: progress,
      fault,
    });
  }

  /** Restores, then runs until `close`. Reports `running` once events can flow. */
  start(): Promise<void> {
    this.#starting = this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { env, report } = this.#ports;
    const { task } = this.#config;
    const { source, outbox, processor } = this.#parts;
    this.#startedAt = env.monotonic();
    const { running, volatile } = await this.#restore();
    if (this.#closed) return;
    outbox.restore(volatile.outbox);
    processor.handle(volatile.parked);
    this.#restoreMs = env.monotonic() - this.#startedAt;
    this.#running = running;
    source.assign(task.splits);
    for (const splits of this.#added) source.assign(splits);
    const { attempt, subtask } = task;
    report({ type: 'running', attempt, subtask, restoreMs: this.#restoreMs });
    // A successor's source begins when all others know of it.
    if (!this.#waitsForReplay) source.run().catch((fault: unknown) => this.#fault(fault));
    this.#housekeeping.start();
    this.#schedule();
    this.#backend.hydrate(env).catch((fault: unknown) => this.#fault(fault));
  }

  async #restore(): Promise<{ running: RunningParts; volatile: VolatileState }> {
    const { manager, ledger, processor } = this.#parts;
    const { range, restore, restoredId } = this.#config.task;
    const restored = await restoreState({
      ...this.#ports,
      expiry: manager.expiry,
      range,
      snapshots: restore,
      checkpointId: restoredId,
      hydration: this.#backend,
      stopped: () => this.#closed,
    });
    manager.restored(restored.users);
    const volatile = await restoreVolatile(this.#ports.store, restore, range, ledger);
    this.#restored = ledger.totals(0, 0);
    const checkpointer = new Checkpointer({
      ...this.#ports,
      ...this.#config.task,
      chain: restored.chain,
      heads: manager.unwritten,
      baseBudgetBytes: baseBudget(this.#config.plan.memory),
      lastBarrier: restore.length > 0 ? restoredId : 0,
      onFault: (fault) => this.#fault(fault),
    });
    const barriers = new TaskBarriers({
      ports: this.#ports,
      config: this.#config,
      parts: this.#parts,
      checkpointer,
      deferred: () => this.#deferred.read((index) => processor.splitOf(index)),
      opened: () => this.#schedule(),
    });
    return { running: { checkpointer, barriers }, volatile };
  }

  /** A frame of the sender's `attempt` came in on `channel`, in order. */
  receive(channel: number, frame: Frame, attempt: number): void {
    if (this.#closed || !this.#peers.takes(channel, attempt, frame)) return;
    try {
      this.#parts.gate.offer(channel, frame);
    } catch (fault) {
      this.#fault(fault);
    }
    this.#schedule();
  }

  /** Credit of the receiver's `attempt`. */
  credited(target: number, bytes: Uint8Array | null, attempt: number): void {
    if (!this.#peers.admits(target, attempt)) return;
    this.#parts.senders[target]!.grant(bytes);
    this.#parts.source.resume();
  }

  /**
   * The tasks of these subtasks are lost (P51): nothing goes to them, what they sent and was not
   * accepted is dropped, and no barrier of theirs is waited for (P21).
   */
  detach(subtasks: readonly number[]): void {
    const { gate, source, processor } = this.#parts;
    this.#peers.detach(subtasks);
    for (const subtask of subtasks) gate.reset(subtask);
    this.#deferred.detach(subtasks);
    this.#running?.barriers.inputLost();
    source.detach(subtasks);
    const positions = processor.accepted.positions();
    const { attempt, subtask } = this.#config.task;
    this.#ports.report({ type: 'detached', attempt, subtask, positions });
    this.#schedule();
  }

  /** Who runs the lost subtasks now. */
  replace(attempts: readonly number[]): void {
    for (const { channel, frame } of this.#peers.replace(attempts)) {
      this.receive(channel, frame, this.#peers.attemptOf(channel));
    }
  }

  /**
   * Every task knows every other: a successor's source starts, the others' read once more what the
   * successors need, from `positions` on. `goals`: what was accepted of each split by others.
   */
  replay(positions: readonly SplitPosition[], goals: readonly AcceptedPosition[]): void {
    const { source } = this.#parts;
    const starts = this.#waitsForReplay;
    this.#waitsForReplay = false;
    const done = starts ? source.run() : source.catchUp(positions);
    done.catch((fault: unknown) => this.#fault(fault));
    if (starts) source.replaces(goals);
  }

  trigger(checkpointId: number, triggeredAt: number, script: ScriptVersion): void {
    if (this.#running !== null) {
      this.#running.barriers.trigger(checkpointId, triggeredAt, script);
      return;
    }
    const { attempt, subtask } = this.#config.task;
    const reason = 'the task is still restoring';
    this.#ports.report({ type: 'decline', attempt, checkpointId, subtask, reason });
  }

  abort(checkpointId: number): void {
    this.#running?.barriers.abort(checkpointId);
  }

  holdSource(held: boolean): void {
    this.#parts.source.hold(held);
  }

  addSplits(splits: readonly SplitPosition[]): void {
    // While it restores, the splits of the deployment come first: a held one that is released
    // meanwhile would be taken for held again, read, and its position never told (P26).
    if (this.#running === null) this.#added.push(splits);
    else this.#parts.source.assign(splits);
  }

  /** No split is unknown that there was at `at`, wall time, ms (P37). */
  discovered(at: number): void {
    this.#parts.source.discovered(at);
  }

  /** For a leader that knows nothing of this task (P45). */
  describe(): RunningTask {
    return describeTask(this.#config.task, this.#parts.source.known(), this.#running);
  }

  /** What people ask; nothing changes by it. */
  inspect(query: SlotQuery): SlotAnswer {
    return this.#parts.inspection.answer(query, this.#running === null ? null : this.#parts);
  }

  metrics(cpuSeconds: number): SubtaskMetrics {
    return slotMetrics({
      ...this.#parts,
      task: this.#config.task,
      plan: this.#config.plan,
      cpuSeconds,
      source: this.#parts.source.stats,
      deferred: this.#deferred.records,
      deferredFrames: this.#deferred.length,
      owedBytes: this.#running?.checkpointer.owedBytes ?? 0,
      stateBusyMs: this.#stateBusyMs,
      restoreMs: this.#restoreMs,
      ports: this.#ports,
      uptimeMs: this.#ports.env.monotonic() - this.#startedAt,
      stateBytes: this.#running?.checkpointer.stateBytes ?? 0,
      restored: this.#restored,
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { source, outbox, packPace } = this.#parts;
    packPace.close();
    outbox.close();
    this.#housekeeping.close();
    this.#pace.close();
    await Promise.allSettled([
      this.#starting,
      source.close(),
      this.#ports.action.close(),
      this.#ports.deadLetter.close(),
      this.#ports.profileApi?.close(),
      this.#running?.checkpointer.close(),
    ]);
    await this.#ports.backend.close();
  }

  #fault(fault: unknown): void {
    if (this.#closed || this.#faulted) return;
    this.#faulted = true;
    this.#parts.outbox.close();
    this.#ports.fault(fault);
  }

  #schedule(): void {
    if (this.#scheduled || this.#running === null || this.#closed || this.#faulted) return;
    const running = this.#running;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#closed || this.#faulted) return;
      try {
        if (this.#pump(running)) this.#schedule();
      } catch (fault) {
        this.#fault(fault);
      }
    });
  }

  /** One turn; true when there is more to do at once. */
  #pump({ checkpointer, barriers }: RunningParts): boolean {
    const { env } = this.#ports;
    const { source, manager, load } = this.#parts;
    const startedAt = env.monotonic();
    const stalled = this.#stalled(checkpointer);
    source.pause(stalled);
    let worked = false;
    do {
      if (!(stalled ? this.#stepStalled(barriers) : this.#step(barriers))) break;
      worked = true;
    } while (env.monotonic() < startedAt + TURN_MS && !this.#stalled(checkpointer));
    if (worked) load.worked(startedAt, env.monotonic());
    if (checkpointer.draining && !this.#housekeeping.backendStalled) {
      const drain = this.#pace.turn((ms) => manager.flushSlice(ms));
      worked ||= drain !== 'waits';
      if (drain === 'out') checkpointer.drained(manager.takeClosedDelta());
    }
    this.#stateBusyMs += env.monotonic() - startedAt;
    return worked;
  }

  /** P17: no room for what processing would create, or RocksDB wants no writes (P8). */
  #stalled(checkpointer: Checkpointer): boolean {
    const { slotOutboxBytes: budget, slotDeltaBytes } = this.#config.plan.memory;
    return (
      this.#parts.outbox.bytes > budget ||
      this.#parts.processor.parkedBytes > budget ||
      checkpointer.owedBytes > OWED_LIMIT_BYTES ||
      this.#parts.manager.deltaBytes > 2 * slotDeltaBytes ||
      this.#housekeeping.backendStalled
    );
  }

  #step(barriers: TaskBarriers): boolean {
    const deferred = this.#deferred.next();
    if (deferred !== undefined) {
      this.#parts.processor.handleFrames([deferred.frame]);
      if (deferred.owed) this.#giveBack(deferred);
      return true;
    }
    const item = this.#parts.gate.next();
    if (item !== null) this.#take(item, barriers);
    else this.#parts.pauses.starved();
    return item !== null;
  }

  /**
   * Stalled, but barriers must pass (I10): what stands before them is accepted and kept as it is,
   * at most the credit the senders hold, which they get back only once it is processed.
   */
  #stepStalled(barriers: TaskBarriers): boolean {
    const { gate, processor } = this.#parts;
    for (const one of gate.takeBeforeBarriers()) {
      processor.accept(one.frame);
      this.#deferred.push(one);
    }
    const item = gate.nextControl();
    if (item !== null) this.#take(item, barriers);
    return item !== null;
  }

  /** A frame and what else waits on open channels, as one micro-batch. */
  #takeData(first: { channel: number; frame: DataFrame }): void {
    const { pauses, processor, gate } = this.#parts;
    const batch = [first, ...gate.nextData(BATCH_RECORDS - first.frame.records)];
    pauses.fed();
    for (const { frame } of batch) processor.accept(frame);
    processor.handleFrames(batch.map(({ frame }) => frame));
    for (const one of batch) this.#giveBack(one);
  }

  #giveBack({ channel, frame }: { channel: number; frame: DataFrame }): void {
    this.#ports.credit(channel, frame.bytes, this.#peers.attemptOf(channel));
  }

  #take({ channel, frame }: Received, barriers: TaskBarriers): void {
    switch (frame.kind) {
      case 'data':
        this.#takeData({ channel, frame });
        return;
      case 'barrier':
        barriers.arrived(channel, frame);
        return;
      case 'splits':
        this.#parts.processor.addSplits(frame.splits, frame.replayUntil);
        return;
      case 'clock':
        // Never ahead of deferred records: users would be purged before they are handled (P37).
        if (this.#deferred.length === 0) this.#housekeeping.clock(channel, frame.time);
    }
  }
}
