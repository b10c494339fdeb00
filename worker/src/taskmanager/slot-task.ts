/**
 * One subtask: source, exchange, state, filter and action of one slot, driven by a pump that never blocks.
 * Everything outside comes in through `SlotPorts`, so the simulation runs this very class.
 *
 *   source -> senders -> (ports) -> gate -> processor -> outbox
 *                          barrier: gate aligned -> capture -> freeze -> slices -> checkpointer
 */
import type { ActionExecutor, DeadLetterWriter } from '../action/action.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { BarrierAligner } from '../exchange/aligner.ts';
import { ChannelSender } from '../exchange/channel-sender.ts';
import type { BarrierFrame, DataFrame, Frame } from '../exchange/frame.ts';
import { InputGate, type Received } from '../exchange/input-gate.ts';
import { ownerTable } from '../exchange/key-groups.ts';
import { compileFilter } from '../filter/compile.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { ScriptVersion, SubtaskMetrics, TaskDeployment } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import type { SplitPosition, SplitReader } from '../source/source.ts';
import type { StateBackend } from '../state/backend.ts';
import type { ProfileApi } from '../state/profile-api.ts';
import { restoreState } from '../state/restore.ts';
import { UserStateManager } from '../state/user-state-manager.ts';
import {
  type BarrierCapture,
  Checkpointer,
  OWED_LIMIT_BYTES,
  type TaskReport,
} from './checkpointer.ts';
import { EventProcessor, type IncomingRecord } from './event-processor.ts';
import { GroupLedger } from './ledger.ts';
import { Outbox } from './outbox.ts';
import { PauseMeter } from './pause-meter.ts';
import { slotMetrics } from './slot-metrics.ts';
import { SourceTask } from './source-task.ts';
import { captureLedger, restoreVolatile, type VolatileRecord } from './volatile.ts';

export interface SlotPorts {
  env: Env;
  store: ObjectStore;
  backend: StateBackend;
  profileApi: ProfileApi | null;
  action: ActionExecutor;
  deadLetter: DeadLetterWriter;
  reader: SplitReader;
  report(report: TaskReport): void;
  /** Sends in order, never loses silently. */
  send(target: number, frame: Frame): void;
  /** Gives a frame's buffer and its credit back to the sender on `channel`. */
  credit(channel: number, bytes: Uint8Array): void;
  /** The task can't go on: crash-only. */
  fault(fault: unknown): void;
}

export interface SlotConfig {
  jobId: string;
  lineage: string;
  plan: JobPlan;
  script: ScriptVersion;
  ranges: readonly KeyGroupRange[];
  task: TaskDeployment;
  /** Prefix of spool files; null in the simulation. */
  spoolPath: string | null;
  /** Deliberate defects, for tests of the checkers only. */
  mutant: string | null;
}

/** Work per turn of the event loop, ms; slices of a frozen set are smaller still (P8). */
const TURN_MS = 4;
const SLICE_MS = 1;
/** Housekeeping: expired users, RocksDB's write stall. */
const HOUSEKEEPING_MS = 250;
const PURGE_ROWS = 256;

export class SlotTask {
  readonly #ports: SlotPorts;
  readonly #config: SlotConfig;
  readonly #range: KeyGroupRange;
  readonly #aligner: BarrierAligner;
  readonly #gate: InputGate;
  readonly #senders: ChannelSender[];
  readonly #source: SourceTask;
  readonly #manager: UserStateManager;
  readonly #ledger: GroupLedger;
  readonly #outbox: Outbox;
  readonly #processor: EventProcessor;
  readonly #pauses: PauseMeter;
  /** Accepted by the exchange before a barrier while the task could not process: kept in order (P17). */
  #deferred: { channel: number; frame: DataFrame; records: IncomingRecord[] }[] = [];
  #checkpointer: Checkpointer | null = null;
  #positions = new Map<number, SplitPosition[]>();
  #channelClocks: number[];
  #purgedUntil = 0;
  #scheduled = false;
  #running = false;
  #closed = false;
  #backendStalled = false;
  #stateBusyMs = 0;
  #restoreMs = 0;
  #startedAt = 0;
  #restored = { delivered: 0, deadLettered: 0 };

  constructor(ports: SlotPorts, config: SlotConfig) {
    this.#ports = ports;
    this.#config = config;
    const { plan, task, ranges } = config;
    const channels = ranges.length;
    this.#range = task.range;
    this.#aligner = new BarrierAligner(config.mutant === 'alignment-off' ? 1 : channels);
    this.#gate = new InputGate(channels, this.#aligner);
    this.#channelClocks = new Array<number>(channels).fill(-1);
    this.#senders = ranges.map(
      (_, target) =>
        new ChannelSender({
          bufferBytes: plan.bufferBytes,
          credit: initialCredit(plan, channels),
          send: (frame) => ports.send(target, frame),
        }),
    );
    this.#source = new SourceTask({
      env: ports.env,
      reader: ports.reader,
      senders: this.#senders,
      owners: ownerTable(ranges, plan.maxParallelism),
      keyBy: plan.keyBy,
      maxParallelism: plan.maxParallelism,
      allowedSkewMs: plan.state.allowedSkewMs,
      bufferTimeoutMs: plan.bufferTimeoutMs,
      restored: task.restoredId > 0,
    });
    this.#manager = new UserStateManager(ports.backend, ports.env, {
      limits: {
        historyMaxEvents: plan.state.historyMaxEvents,
        maxBytesPerUser: plan.state.maxBytesPerUser,
      },
      ttlMs: plan.state.ttlMs,
      cacheBytes: plan.memory.slotCacheBytes,
      delta: {
        range: task.range,
        limitBytes: plan.memory.slotDeltaBytes,
        spoolPath: config.spoolPath,
      },
    });
    this.#ledger = new GroupLedger(plan.maxParallelism);
    this.#pauses = new PauseMeter(ports.env);
    this.#outbox = new Outbox({
      action: ports.action,
      deadLetter: ports.deadLetter,
      onDone: (entry, result) => {
        this.#ledger.add(result, entry.keyGroup);
        this.#schedule();
      },
      onFault: (fault) => this.#fault(fault),
    });
    this.#processor = new EventProcessor({
      plan,
      lineage: config.lineage,
      range: task.range,
      manager: this.#manager,
      outbox: this.#outbox,
      profileApi: ports.profileApi,
      ledger: this.#ledger,
      filter: this.#compile(config.script),
      onProgress: () => this.#schedule(),
      onFault: (fault) => this.#fault(fault),
    });
  }

  /** Restores, then runs until `close`. Reports `running` once events can flow. */
  async start(): Promise<void> {
    const { env, store, backend, report } = this.#ports;
    const { task, plan } = this.#config;
    this.#startedAt = env.monotonic();
    const restored = await restoreState({
      store,
      backend,
      expiry: this.#manager.expiry,
      range: this.#range,
      snapshots: task.restore,
      checkpointId: task.restoredId,
    });
    this.#manager.restored(restored.users);
    const volatile = await restoreVolatile(store, task.restore, this.#range, this.#ledger);
    this.#restored = this.#ledger.totals(0, 0);
    this.#checkpointer = new Checkpointer({
      env,
      store,
      backend,
      chain: restored.chain,
      range: this.#range,
      subtask: task.subtask,
      attempt: task.attempt,
      lastBarrier: task.restore.length > 0 ? task.restoredId : 0,
      report,
      onFault: (fault) => this.#fault(fault),
    });
    if (this.#closed) return;
    this.#outbox.restore(volatile.outbox);
    this.#processor.handle(volatile.parked);
    this.#restoreMs = env.monotonic() - this.#startedAt;
    this.#running = true;
    this.#source.assign(task.splits);
    const { attempt, subtask } = task;
    report({ type: 'running', attempt, subtask, restoreMs: this.#restoreMs });
    this.#source.run().catch((fault: unknown) => {
      if (!this.#closed) this.#fault(fault);
    });
    this.#scheduleHousekeeping(Math.min(HOUSEKEEPING_MS, plan.state.ttlMs));
    this.#schedule();
  }

  /** A frame came in on `channel`, in order. */
  receive(channel: number, frame: Frame): void {
    if (this.#closed) return;
    try {
      this.#gate.offer(channel, frame);
    } catch (fault) {
      this.#fault(fault);
    }
    this.#schedule();
  }

  credited(target: number, bytes: Uint8Array | null): void {
    this.#senders[target]!.grant(bytes);
    this.#source.resume();
  }

  /** The JobManager triggered a checkpoint: the source takes it in-line. */
  trigger(checkpointId: number, triggeredAt: number, script: ScriptVersion): void {
    if (!this.#running) {
      const { attempt, subtask } = this.#config.task;
      const reason = 'the task is still restoring';
      this.#ports.report({ type: 'decline', attempt, checkpointId, subtask, reason });
      return;
    }
    this.#positions.set(checkpointId, this.#source.barrier(checkpointId, triggeredAt, script));
  }

  /** P21: the checkpoint is over without us. */
  abort(checkpointId: number): void {
    this.#aligner.cancel(checkpointId);
    this.#positions.delete(checkpointId);
    this.#pauses.cancel(checkpointId);
    this.#schedule();
  }

  addSplits(splits: readonly SplitPosition[]): void {
    this.#source.assign(splits);
  }

  metrics(cpuSeconds: number): SubtaskMetrics {
    const { task } = this.#config;
    return slotMetrics({
      task,
      cpuSeconds,
      source: this.#source.stats,
      processor: this.#processor,
      manager: this.#manager,
      outbox: this.#outbox,
      ledger: this.#ledger,
      deferred: this.#deferredRecords(),
      stateBusyMs: this.#stateBusyMs,
      restoreMs: this.#restoreMs,
      pauses: this.#pauses,
      ports: this.#ports,
      uptimeMs: this.#ports.env.monotonic() - this.#startedAt,
      stateBytes: this.#checkpointer?.stateBytes ?? 0,
      restored: this.#restored,
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#outbox.close();
    await Promise.allSettled([
      this.#source.close(),
      this.#ports.action.close(),
      this.#ports.deadLetter.close(),
      this.#ports.profileApi?.close(),
      this.#checkpointer?.close(),
    ]);
    await this.#ports.backend.close();
  }

  #compile(script: ScriptVersion) {
    const { filter } = this.#config.plan;
    return compileFilter({ ...filter, language: script.language, script: script.text });
  }

  #fault(fault: unknown): void {
    if (!this.#closed) this.#ports.fault(fault);
  }

  #schedule(): void {
    if (this.#scheduled || !this.#running || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#closed) return;
      try {
        if (this.#pump()) this.#schedule();
      } catch (fault) {
        this.#fault(fault);
      }
    });
  }

  /** One turn; true when there is more to do at once. */
  #pump(): boolean {
    const { env } = this.#ports;
    const startedAt = env.monotonic();
    const end = startedAt + TURN_MS;
    const stalled = this.#stalled();
    this.#source.pause(stalled);
    let worked = false;
    do {
      if (!(stalled ? this.#stepStalled() : this.#step())) break;
      worked = true;
    } while (env.monotonic() < end && !this.#stalled());
    if (this.#checkpointer!.draining && !this.#backendStalled) {
      if (this.#manager.flushSlice(SLICE_MS)) {
        this.#checkpointer!.drained(this.#manager.takeClosedDelta());
      }
      worked = true;
    }
    this.#stateBusyMs += env.monotonic() - startedAt;
    return worked;
  }

  /** P17: no room for what processing would create, or RocksDB wants no writes (P8). */
  #stalled(): boolean {
    const budget = this.#config.plan.memory.slotOutboxBytes;
    return (
      this.#outbox.bytes > budget ||
      this.#processor.parkedBytes > budget ||
      this.#checkpointer!.owedBytes > OWED_LIMIT_BYTES ||
      this.#backendStalled
    );
  }

  #step(): boolean {
    const deferred = this.#deferred.shift();
    if (deferred !== undefined) {
      this.#processor.handle(deferred.records);
      this.#ports.credit(deferred.channel, deferred.frame.bytes);
      return true;
    }
    const item = this.#gate.next();
    if (item !== null) this.#take(item);
    return item !== null;
  }

  /**
   * Stalled, but barriers must pass (I10): what stands before them is accepted and kept as it is, at most
   * the credit the senders hold, which they get back only once it is processed.
   */
  #stepStalled(): boolean {
    for (const { channel, frame } of this.#gate.takeBeforeBarriers()) {
      const records = this.#processor.accept(frame);
      this.#deferred.push({ channel, frame, records });
    }
    const item = this.#gate.nextControl();
    if (item !== null) this.#take(item);
    return item !== null;
  }

  #take({ channel, frame }: Received): void {
    switch (frame.kind) {
      case 'data':
        this.#pauses.workBegins();
        this.#processor.handle(this.#processor.accept(frame));
        this.#pauses.workEnds();
        this.#ports.credit(channel, frame.bytes);
        return;
      case 'barrier':
        this.#barrier(channel, frame);
        return;
      case 'splits':
        this.#processor.addSplits(frame.splits, frame.replayUntil);
        return;
      case 'clock':
        this.#channelClocks[channel] = frame.time;
        return;
    }
  }

  #barrier(channel: number, frame: BarrierFrame): void {
    const outcome = this.#aligner.onBarrier(channel, frame.checkpointId);
    if (outcome.kind === 'ignored') return;
    if (outcome.superseded !== null) {
      const { attempt, subtask } = this.#config.task;
      const reason = `superseded by checkpoint ${frame.checkpointId}`;
      const checkpointId = outcome.superseded;
      this.#positions.delete(checkpointId);
      this.#ports.report({ type: 'decline', attempt, checkpointId, subtask, reason });
    }
    const startDelayMs = Math.max(0, this.#ports.env.now() - frame.triggeredAt);
    if (this.#pauses.barrier(frame.checkpointId, startDelayMs)) this.#limitAlignment(frame);
    if (outcome.kind === 'aligned') this.#aligned(frame);
  }

  /** P21: a leader that died after triggering some sources must not block the rest for ever. */
  #limitAlignment({ checkpointId }: BarrierFrame): void {
    const limitMs = this.#config.plan.checkpointing.timeoutMs;
    this.#ports.env.timer(limitMs, () => {
      if (this.#closed || this.#aligner.pending !== checkpointId) return;
      const { attempt, subtask } = this.#config.task;
      const reason = `not aligned within ${limitMs} ms`;
      this.abort(checkpointId);
      this.#ports.report({ type: 'decline', attempt, checkpointId, subtask, reason });
    });
  }

  /** All of interval i is in, nothing of i+1: the synchronous part, by reference only. */
  #aligned(frame: BarrierFrame): void {
    const { checkpointId, script } = frame;
    this.#pauses.aligned(checkpointId);
    const parked = this.#parked();
    const capture: BarrierCapture = {
      checkpointId,
      volatile: {
        ledger: captureLedger(this.#ledger, this.#range),
        parked,
        outbox: this.#outbox.snapshot(),
      },
      splits: this.#snapshotPositions(checkpointId),
      script,
      ledger: this.#ledger.totals(parked.length, this.#outbox.size),
      users: this.#manager.stats.users,
      figures: { alignmentMs: 0, syncMs: 0, startDelayMs: 0 },
    };
    this.#manager.freeze();
    // P34: the version the barrier carries rules from here on.
    if (script.version !== this.#processor.filter.version) {
      this.#processor.setFilter(this.#compile(script));
    }
    capture.figures = this.#pauses.synced(checkpointId);
    this.#checkpointer!.begin(capture);
  }

  #snapshotPositions(checkpointId: number): SplitPosition[] {
    const taken = this.#positions.get(checkpointId) ?? [];
    this.#positions.delete(checkpointId);
    // The defect `offsets-before-snapshot`: positions of now, beyond what the state has seen.
    return this.#config.mutant === 'offsets-before-snapshot' ? this.#source.positions() : taken;
  }

  /** Parked for the Profile API, then deferred input: the order in which a restore handles them. */
  #parked(): VolatileRecord[] {
    const loading = this.#processor.parkedRecords().map(({ event, ...place }) => ({
      ...place,
      value: Buffer.from(event.raw),
    }));
    return [...loading, ...this.#deferred.flatMap(({ records }) => records)];
  }

  #deferredRecords(): number {
    return this.#deferred.reduce((sum, { records }) => sum + records.length, 0);
  }

  /** Once in a while: RocksDB's own brake (P8), expired users. */
  #scheduleHousekeeping(delayMs: number): void {
    this.#ports.env.timer(delayMs, () => {
      if (this.#closed) return;
      this.#backendStalled = this.#ports.backend.stalled();
      this.#schedule();
      this.#purge()
        .then(() => this.#scheduleHousekeeping(delayMs))
        .catch((fault: unknown) => this.#fault(fault));
    });
  }

  /** P37: users that expired, by the slowest split's time less a grace, leave the state. */
  async #purge(): Promise<void> {
    const slowest = Math.min(...this.#channelClocks);
    const until = slowest - this.#config.plan.state.ttlGraceMs;
    if (!Number.isFinite(until) || until <= this.#purgedUntil) return;
    this.#purgedUntil = until;
    const manager = this.#manager;
    const range = manager.expiry.expiredRange(until);
    const scan = this.#ports.backend.scan({ ...range, maxRows: PURGE_ROWS, maxBytes: 1 << 20 });
    for await (const rows of scan) {
      if (this.#closed) return;
      const marks = rows.map(({ key }) => manager.expiry.parse(key));
      manager.purge(marks, until, (userId) => this.#processor.isBusy(userId));
    }
  }
}

/** Buffers per channel that the network budget of a slot allows, 2 to 8. */
function initialCredit(plan: JobPlan, channels: number): number {
  const perSlot = plan.memory.networkBytes / plan.slotsPerTaskManager;
  return Math.max(2, Math.min(8, Math.floor(perSlot / (plan.bufferBytes * channels))));
}
