/**
 * One subtask: source, exchange, state, filter and action of one slot, driven by a pump that never
 * blocks.
 *
 *   source -> senders -> (ports) -> gate -> processor -> outbox
 *                          barrier: gate aligned -> capture -> freeze -> slices -> checkpointer
 */
import { type DataFrame, type Frame, type FrameRecord, readRecords } from '../exchange/frame.ts';
import type { Received } from '../exchange/input-gate.ts';
import type { RunningTask, ScriptVersion, SubtaskMetrics } from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';
import { restoreState } from '../state/restore.ts';
import { TaskBarriers } from './barriers.ts';
import { Checkpointer, OWED_LIMIT_BYTES, type TaskReport } from './checkpointer.ts';
import { Housekeeping } from './housekeeping.ts';
import { slotMetrics } from './slot-metrics.ts';
import { buildSlotParts, type SlotConfig, type SlotParts, type SlotPorts } from './slot-parts.ts';
import { restoreVolatile, type VolatileState } from './volatile.ts';

/** Work per turn of the event loop, ms; slices of a frozen set are smaller still (P8). */
const TURN_MS = 2;
const SLICE_MS = 1;
/** Of one micro-batch, about: what a buffer full of small events holds. */
const BATCH_RECORDS = 256;
const IDLE_SLICE_MS = 4;

/** What exists once the state is restored. */
interface RunningParts {
  checkpointer: Checkpointer;
  barriers: TaskBarriers;
}

export class SlotTask {
  readonly #ports: SlotPorts;
  readonly #config: SlotConfig;
  readonly #parts: SlotParts;
  readonly #housekeeping: Housekeeping;
  /** Accepted before a barrier while the task could not process: kept in order (P17). */
  #deferred: { channel: number; frame: DataFrame }[] = [];
  /** null while the state is being restored. */
  readonly #added: (readonly SplitPosition[])[] = [];
  #running: RunningParts | null = null;
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
    this.#ports = { ...ports, report };
    this.#config = config;
    const fault = (thrown: unknown) => this.#fault(thrown);
    const progress = () => this.#schedule();
    this.#parts = buildSlotParts(this.#ports, config, { progress, fault });
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
    source.run().catch((fault: unknown) => this.#fault(fault));
    this.#housekeeping.start();
    this.#schedule();
  }

  async #restore(): Promise<{ running: RunningParts; volatile: VolatileState }> {
    const { env, store, backend, report } = this.#ports;
    const { task } = this.#config;
    const { manager, ledger } = this.#parts;
    const { range, restore, restoredId, subtask, attempt } = task;
    const restored = await restoreState({
      store,
      backend,
      expiry: manager.expiry,
      range,
      snapshots: restore,
      checkpointId: restoredId,
      stopped: () => this.#closed,
    });
    manager.restored(restored.users);
    const volatile = await restoreVolatile(store, restore, range, ledger);
    this.#restored = ledger.totals(0, 0);
    const checkpointer = new Checkpointer({
      env,
      store,
      backend,
      chain: restored.chain,
      range,
      subtask,
      attempt,
      lastBarrier: restore.length > 0 ? restoredId : 0,
      report,
      onFault: (fault) => this.#fault(fault),
    });
    const barriers = new TaskBarriers({
      ports: this.#ports,
      config: this.#config,
      parts: this.#parts,
      checkpointer,
      deferred: () => this.#deferredRecords(),
      opened: () => this.#schedule(),
    });
    return { running: { checkpointer, barriers }, volatile };
  }

  /** A frame came in on `channel`, in order. */
  receive(channel: number, frame: Frame): void {
    if (this.#closed) return;
    try {
      this.#parts.gate.offer(channel, frame);
    } catch (fault) {
      this.#fault(fault);
    }
    this.#schedule();
  }

  credited(target: number, bytes: Uint8Array | null): void {
    this.#parts.senders[target]!.grant(bytes);
    this.#parts.source.resume();
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
    const { subtask, slot, splits } = this.#config.task;
    const running = this.#running;
    const { seen, taken } = running?.barriers ?? { seen: 0, taken: 0 };
    const drained = running?.checkpointer.draining !== true;
    const known = this.#parts.source.known();
    const indexes = new Set(known.map((position) => position.split.index));
    const deployed = splits.filter((position) => !indexes.has(position.split.index));
    const all = running === null ? [...known, ...deployed] : known;
    return { subtask, slot, running: running !== null, seen, taken, drained, splits: all };
  }

  metrics(cpuSeconds: number): SubtaskMetrics {
    return slotMetrics({
      ...this.#parts,
      task: this.#config.task,
      plan: this.#config.plan,
      cpuSeconds,
      source: this.#parts.source.stats,
      deferred: this.#deferred.reduce((sum, { frame }) => sum + frame.records, 0),
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
    const { source, outbox } = this.#parts;
    outbox.close();
    this.#housekeeping.close();
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
    const { source, manager } = this.#parts;
    const startedAt = env.monotonic();
    const end = startedAt + TURN_MS;
    const stalled = this.#stalled(checkpointer);
    source.pause(stalled);
    let worked = false;
    do {
      if (!(stalled ? this.#stepStalled(barriers) : this.#step(barriers))) break;
      worked = true;
    } while (env.monotonic() < end && !this.#stalled(checkpointer));
    if (checkpointer.draining && !this.#housekeeping.backendStalled) {
      // Without input to hold up, a longer slice: 100,000 new users took two minutes to drain.
      const sliceMs = worked ? SLICE_MS : IDLE_SLICE_MS;
      if (manager.flushSlice(sliceMs)) checkpointer.drained(manager.takeClosedDelta());
      worked = true;
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
    const deferred = this.#deferred.shift();
    if (deferred !== undefined) {
      this.#parts.processor.handleFrames([deferred.frame]);
      this.#ports.credit(deferred.channel, deferred.frame.bytes);
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
    for (const { channel, frame } of gate.takeBeforeBarriers()) {
      processor.accept(frame);
      this.#deferred.push({ channel, frame });
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
    for (const { channel, frame } of batch) this.#ports.credit(channel, frame.bytes);
  }

  #deferredRecords(): FrameRecord[] {
    const { processor } = this.#parts;
    return this.#deferred.flatMap(({ frame }) =>
      readRecords(frame, (index) => processor.splitOf(index)),
    );
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
        // Never ahead of deferred records: their users would be purged before they are handled
        // (P37).
        if (this.#deferred.length === 0) this.#housekeeping.clock(channel, frame.time);
        return;
    }
  }
}
