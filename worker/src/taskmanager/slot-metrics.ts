/** One subtask's figures for the heartbeat, gathered from its parts. */
import type { ActionExecutor } from '../action/action.ts';
import { imbalance } from '../checkpoint/conservation.ts';
import type { ChannelSender } from '../exchange/channel-sender.ts';
import { channelCredit } from '../exchange/credit.ts';
import type { InputGate } from '../exchange/input-gate.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Tallies } from '../rpc/figures.ts';
import type { SubtaskMetrics, TaskDeployment } from '../rpc/messages.ts';
import { type Bounds, flattened } from '../runtime/bound.ts';
import { type Histograms, noHistogram } from '../runtime/histogram.ts';
import { HELD_BYTES } from '../source/kafka-fetcher.ts';
import type { SplitReader } from '../source/source.ts';
import type { StateBackend } from '../state/backend.ts';
import { sharedTexts } from '../state/history-columns.ts';
import { hydrationLimit } from '../state/hydrating-backend.ts';
import type { ProfileApi } from '../state/profile-api.ts';
import { sharedFields } from '../state/profile-fields.ts';
import type { UserStateManager } from '../state/user-state-manager.ts';
import { KEEP_BYTES } from './body-pool.ts';
import { OWED_LIMIT_BYTES } from './checkpointer.ts';
import type { EventProcessor } from './event-processor.ts';
import type { GroupLedger } from './ledger.ts';
import { MAX_UNDER_WAY, type Outbox } from './outbox.ts';
import type { PauseMeter } from './pause-meter.ts';
import type { SlotFigures } from './slot-figures.ts';
import type { SlotInspection } from './slot-inspection.ts';
import type { SourceStats } from './source-task.ts';

export interface SlotMetricParts {
  task: TaskDeployment;
  plan: JobPlan;
  cpuSeconds: number;
  uptimeMs: number;
  source: SourceStats;
  processor: EventProcessor;
  manager: UserStateManager;
  outbox: Outbox;
  ledger: GroupLedger;
  /** Records accepted before a barrier while the task could not process. */
  deferred: number;
  deferredFrames: number;
  gate: InputGate;
  senders: readonly ChannelSender[];
  owedBytes: number;
  stateBusyMs: number;
  stateBytes: number;
  restoreMs: number;
  pauses: PauseMeter;
  figures: SlotFigures;
  inspection: SlotInspection;
  ports: {
    profileApi: ProfileApi | null;
    action: ActionExecutor;
    backend: StateBackend;
    reader: SplitReader;
  };
  /**
   * Counters of the ledger at the start of the attempt, so that metrics count this attempt alone.
   */
  restored: { delivered: number; deadLettered: number };
}

export function slotMetrics(parts: SlotMetricParts): SubtaskMetrics {
  const { source, processor, manager, outbox, pauses, ports, task } = parts;
  const state = manager.stats;
  const parked = processor.parked + parts.deferred;
  const ledger = parts.ledger.totals(parked, outbox.size);
  const api = ports.profileApi?.stats() ?? {};
  const backend = ports.backend.stats();
  const busyMs = source.busyMs + parts.stateBusyMs;
  return {
    subtask: task.subtask,
    attempt: task.attempt,
    slot: task.slot,
    cpuSeconds: parts.cpuSeconds,
    recordsRead: source.recordsRead,
    recordsProcessed: processor.stats.processed,
    bytesRead: source.bytesRead,
    matched: processor.stats.matched,
    delivered: ledger.delivered - parts.restored.delivered,
    deadLettered: ledger.deadLettered - parts.restored.deadLettered,
    filterErrors: processor.stats.filterErrors,
    profileRequests: api['requests'] ?? 0,
    profileErrors: api['errors'] ?? 0,
    parked,
    outbox: outbox.size,
    outboxBytes: outbox.bytes,
    usersCached: state.cached,
    users: state.users,
    stateBytes: parts.stateBytes,
    cacheBytes: state.cacheBytes,
    cacheHits: state.hits,
    cacheMisses: state.misses,
    expired: state.expired,
    truncatedEvents: state.truncatedEvents,
    divergent: processor.stats.divergent,
    pendingRecords: source.pendingRecords,
    recordsLagMax: source.recordsLagMax,
    emitEventTimeLagMs: source.emitEventTimeLagMs,
    openSplits: source.openSplits,
    busyMs,
    backPressuredMs: source.backPressuredMs,
    idleMs: parts.figures.idleMs(parts.uptimeMs, busyMs + source.backPressuredMs),
    ledger,
    ledgerImbalance: imbalance(ledger),
    restoreMs: parts.restoreMs,
    pauseCount: pauses.stats.count,
    pauseP99Ms: pauses.stats.p99Ms,
    pauseMaxMs: pauses.stats.maxMs,
    tallies: tallies(parts, api, backend),
    histograms: histograms(parts),
    eventLoopLagP99Ms: 0,
    extra: extras(parts, api, backend),
  };
}

function tallies(
  { figures, ports }: SlotMetricParts,
  api: Record<string, number>,
  backend: Record<string, number>,
): Tallies {
  const action = ports.action.stats();
  return {
    webhook2xx: action['status2xx'] ?? 0,
    webhook3xx: action['status3xx'] ?? 0,
    webhook4xx: action['status4xx'] ?? 0,
    webhook5xx: action['status5xx'] ?? 0,
    webhookTimeout: action['timeouts'] ?? 0,
    webhookNetwork: action['networkErrors'] ?? 0,
    webhookRefused: action['refusedAddresses'] ?? 0,
    webhookRetries: action['retries'] ?? 0,
    ...figures.deadLetters,
    profileRetries: api['retries'] ?? 0,
    profileBreakerOpened: api['breakerOpened'] ?? 0,
    compactionSeconds: backend['rocksdb_compaction_seconds'] ?? 0,
    compactionWrittenBytes: backend['rocksdb_compaction_written_bytes'] ?? 0,
  };
}

/** Copies: what is told is of one moment. */
function histograms({ figures, manager, ports }: SlotMetricParts): Histograms {
  const copy = ({ counts, sum }: Histograms['userBytes']) => ({ counts: [...counts], sum });
  return {
    endToEndSeconds: copy(figures.endToEnd),
    webhookSeconds: copy(ports.action.attemptSeconds ?? noHistogram('webhookSeconds')),
    profileSeconds: copy(ports.profileApi?.attemptSeconds ?? noHistogram('profileSeconds')),
    userBytes: copy(manager.userBytes),
  };
}

function extras(
  parts: SlotMetricParts,
  api: Record<string, number>,
  backend: Record<string, number>,
): Record<string, number> {
  const extra: Record<string, number> = {
    skewed_records: parts.source.skewedRecords,
    dirty_users: parts.manager.stats.dirty,
    repeats_dropped: parts.processor.stats.repeats,
    splits_handed_over: parts.source.handedOver,
    catch_up_records: parts.source.caughtUpRecords,
    frozen_users: parts.manager.frozenUsers,
    ...backend,
    ...flattened(bounds(parts, api, backend)),
  };
  for (const [name, value] of Object.entries(api)) extra[`profile_${name}`] = value;
  for (const [name, value] of Object.entries(parts.ports.action.stats())) {
    extra[`action_${name}`] = value;
  }
  return extra;
}

/** Every bounded place of the slot (I7); what each is: "Limits" in ARCHITECTURE.md. */
function bounds(
  parts: SlotMetricParts,
  api: Record<string, number>,
  backend: Record<string, number>,
): Bounds {
  const { plan, senders, outbox, processor, manager, inspection, ports } = parts;
  const { memory } = plan;
  const credit = channelCredit(plan, senders.length);
  // One buffer of overdraft per channel: what stands before a barrier (P17).
  const buffers = senders.length * (credit + 1);
  const underWay = senders.reduce((sum, sender) => sum + credit - sender.credit, 0);
  const action = ports.action.stats();
  return {
    source_held_bytes: { value: ports.reader.heldBytes ?? 0, limit: HELD_BYTES },
    channel_buffers: { value: underWay, limit: buffers },
    gate_frames: { value: parts.gate.queued, limit: buffers },
    deferred_frames: { value: parts.deferredFrames, limit: buffers },
    parked_bytes: { value: processor.parkedBytes, limit: memory.slotOutboxBytes },
    outbox_bytes: { value: outbox.bytes, limit: memory.slotOutboxBytes },
    outbox_deliveries: { value: outbox.underWay, limit: MAX_UNDER_WAY },
    body_pool_bytes: { value: outbox.bodies.keptBytes, limit: KEEP_BYTES },
    cache_bytes: { value: manager.stats.cacheBytes, limit: memory.slotCacheBytes },
    profile_fields: sharedFields.bound,
    history_texts: sharedTexts.bound,
    hydration_bytes: {
      value: backend['hydration_bytes'] ?? 0,
      limit: hydrationLimit(memory.slotCacheBytes),
    },
    delta_bytes: { value: manager.deltaBytes, limit: 2 * memory.slotDeltaBytes },
    owed_bytes: { value: parts.owedBytes, limit: OWED_LIMIT_BYTES },
    rocksdb_block_cache_bytes: {
      value: backend['rocksdb_block_cache_bytes'] ?? 0,
      limit: memory.slotBlockCacheBytes,
    },
    rocksdb_memtable_bytes: {
      value: backend['rocksdb_memtable_bytes'] ?? 0,
      limit: memory.slotMemtableBytes,
    },
    profile_users_in_flight: {
      value: api['inFlight'] ?? 0,
      limit: plan.state.profileApi?.maxConcurrent ?? 0,
    },
    profile_answer_bytes: { value: api['answerBytes'] ?? 0, limit: api['answerRoomBytes'] ?? 0 },
    tap_records: inspection.taps.kept,
    followed_users: inspection.decisions.followed,
    action_in_flight: { value: action['inFlight'] ?? 0, limit: ports.action.maxInFlight },
  };
}
