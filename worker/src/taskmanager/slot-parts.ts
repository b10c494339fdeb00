/**
 * The parts of one slot and how they are joined. Everything outside comes in through `SlotPorts`,
 * so the simulation builds this very slot.
 */
import type { ActionExecutor, DeadLetterWriter } from '../action/action.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { BarrierAligner } from '../exchange/aligner.ts';
import { ChannelSender } from '../exchange/channel-sender.ts';
import { channelCredit } from '../exchange/credit.ts';
import type { Frame } from '../exchange/frame.ts';
import { InputGate } from '../exchange/input-gate.ts';
import { ownerTable } from '../exchange/key-groups.ts';
import { compileFilter } from '../filter/compile.ts';
import type { CompiledFilter } from '../filter/filter.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { ScriptVersion, TaskDeployment } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import type { SplitReader } from '../source/source.ts';
import type { StateBackend } from '../state/backend.ts';
import type { ProfileApi } from '../state/profile-api.ts';
import { SlabPool } from '../state/row-slabs.ts';
import { UserStateManager } from '../state/user-state-manager.ts';
import type { TaskReport } from './checkpointer.ts';
import { EventProcessor } from './event-processor.ts';
import { GroupLedger } from './ledger.ts';
import { Outbox } from './outbox.ts';
import { PackPace } from './pack-pace.ts';
import { PauseMeter } from './pause-meter.ts';
import { SlotFigures } from './slot-figures.ts';
import { SlotInspection } from './slot-inspection.ts';
import { SlotLoad } from './slot-load.ts';
import { SourceTask } from './source-task.ts';

export interface SlotPorts {
  env: Env;
  store: ObjectStore;
  backend: StateBackend;
  profileApi: ProfileApi | null;
  action: ActionExecutor;
  deadLetter: DeadLetterWriter;
  reader: SplitReader;
  /** One more of the same source. */
  openReader(): Promise<SplitReader>;
  report(report: TaskReport): void;
  /** To that attempt of `target`. Sends in order, never loses silently. */
  send(target: number, frame: Frame, attempt: number): void;
  /** Gives a frame's buffer and its credit back to the sender on `channel`, if it is that one. */
  credit(channel: number, bytes: Uint8Array, attempt: number): void;
  /** The task can't go on: crash-only. */
  fault(fault: unknown): void;
}

export interface SlotConfig {
  jobId: string;
  lineage: string;
  plan: JobPlan;
  script: ScriptVersion;
  ranges: readonly KeyGroupRange[];
  /** Of all subtasks, by number. */
  attempts: readonly number[];
  task: TaskDeployment;
  /** Prefix of spool files; null in the simulation. */
  spoolPath: string | null;
  /** Deliberate defects, for tests of the checkers only. */
  mutant: string | null;
}

/** What the parts ask of the slot that holds them. */
export interface SlotHooks {
  /** There may be something to do: room in the outbox, an answer. */
  progress(): void;
  /** With which attempt of a subtask to speak. */
  attemptOf(subtask: number): number;
  caughtUp(): void;
  fault(fault: unknown): void;
}

export interface SlotParts {
  aligner: BarrierAligner;
  gate: InputGate;
  senders: ChannelSender[];
  source: SourceTask;
  manager: UserStateManager;
  load: SlotLoad;
  packPace: PackPace;
  ledger: GroupLedger;
  outbox: Outbox;
  processor: EventProcessor;
  pauses: PauseMeter;
  figures: SlotFigures;
  inspection: SlotInspection;
}

const DELTA_RUN_SHARE = 0.75;

/** The plan's filter with the text of one version (P34). */
export function compileVersion(plan: JobPlan, script: ScriptVersion): CompiledFilter {
  return compileFilter({ ...plan.filter, language: script.language, script: script.text });
}

export function buildSlotParts(ports: SlotPorts, config: SlotConfig, hooks: SlotHooks): SlotParts {
  const { plan, task, ranges } = config;
  const channels = ranges.length;
  const aligner = new BarrierAligner(config.mutant === 'alignment-off' ? 1 : channels);
  const credit = channelCredit(plan, channels);
  const { bufferBytes } = plan;
  const senders = ranges.map((_, target) => {
    const send = (frame: Frame) => ports.send(target, frame, hooks.attemptOf(target));
    return new ChannelSender({ bufferBytes, credit, send });
  });
  const load = new SlotLoad();
  const packPace = new PackPace(ports.env, load);
  const manager = buildManager(ports, config, packPace);
  const ledger = new GroupLedger(plan.maxParallelism);
  const { env } = ports;
  const figures = new SlotFigures(env, plan.source.kind === 'kafka');
  const inspection = new SlotInspection({ env, plan, ...task, manager });
  const outbox = new Outbox({
    action: ports.action,
    deadLetter: ports.deadLetter,
    onDone: (entry, result) => {
      ledger.add(result, entry.keyGroup);
      figures.left(entry, result);
      if (inspection.taps.open.fired) inspection.tapFired(entry, result);
      hooks.progress();
    },
    onFault: hooks.fault,
  });
  return {
    aligner,
    gate: new InputGate(channels, aligner),
    senders,
    source: buildSource(ports, config, senders, inspection, hooks.caughtUp),
    manager,
    load,
    packPace,
    ledger,
    outbox,
    processor: new EventProcessor({
      plan,
      lineage: config.lineage,
      range: task.range,
      manager,
      outbox,
      profileApi: ports.profileApi,
      ledger,
      filter: compileVersion(plan, config.script),
      inspection,
      attempt: task.attempt,
      mutant: config.mutant,
      onProgress: hooks.progress,
      onFault: hooks.fault,
    }),
    pauses: new PauseMeter(ports.env),
    figures,
    inspection,
  };
}

function buildSource(
  ports: SlotPorts,
  config: SlotConfig,
  senders: readonly ChannelSender[],
  inspection: SlotInspection,
  onCaughtUp: () => void,
): SourceTask {
  const { plan, task, ranges, mutant } = config;
  return new SourceTask({
    env: ports.env,
    reader: ports.reader,
    openReader: () => ports.openReader(),
    senders,
    owners: ownerTable(ranges, plan.maxParallelism),
    keyBy: plan.keyBy,
    maxParallelism: plan.maxParallelism,
    allowedSkewMs: plan.state.allowedSkewMs,
    inspection,
    bufferTimeoutMs: plan.bufferTimeoutMs,
    restored: task.attempt > 1,
    liveTimestamps: plan.source.kind === 'kafka',
    ttlGraceMs: plan.state.ttlGraceMs,
    onCaughtUp,
    mutant,
  });
}

function buildManager(
  ports: SlotPorts,
  { plan, task, spoolPath }: SlotConfig,
  packPace: PackPace,
): UserStateManager {
  const { historyMaxEvents, maxBytesPerUser, ttlMs } = plan.state;
  return new UserStateManager(ports.backend, ports.env, {
    limits: { historyMaxEvents, maxBytesPerUser },
    ttlMs,
    cacheBytes: plan.memory.slotCacheBytes,
    delta: {
      range: task.range,
      // A run that is being packed to disk lies in memory beside the next one.
      limitBytes: Math.floor(plan.memory.slotDeltaBytes * DELTA_RUN_SHARE),
      spoolPath,
      slabs: new SlabPool(plan.memory.slotDeltaBytes),
      pace: () => packPace.run(),
    },
  });
}
