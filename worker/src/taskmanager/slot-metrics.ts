/** One subtask's figures for the heartbeat, gathered from its parts. */
import type { ActionExecutor } from '../action/action.ts';
import type { SubtaskMetrics, TaskDeployment } from '../rpc/messages.ts';
import type { StateBackend } from '../state/backend.ts';
import type { ProfileApi } from '../state/profile-api.ts';
import type { UserStateManager } from '../state/user-state-manager.ts';
import type { EventProcessor } from './event-processor.ts';
import { type GroupLedger, imbalance } from './ledger.ts';
import type { Outbox } from './outbox.ts';
import type { PauseMeter } from './pause-meter.ts';
import type { SourceStats } from './source-task.ts';

export interface SlotMetricParts {
  task: TaskDeployment;
  cpuSeconds: number;
  uptimeMs: number;
  source: SourceStats;
  processor: EventProcessor;
  manager: UserStateManager;
  outbox: Outbox;
  ledger: GroupLedger;
  /** Records accepted before a barrier while the task could not process. */
  deferred: number;
  stateBusyMs: number;
  stateBytes: number;
  restoreMs: number;
  pauses: PauseMeter;
  ports: { profileApi: ProfileApi | null; action: ActionExecutor; backend: StateBackend };
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
    openSplits: source.openSplits,
    busyMs,
    backPressuredMs: source.backPressuredMs,
    idleMs: Math.max(0, parts.uptimeMs - busyMs - source.backPressuredMs),
    ledgerImbalance: imbalance(ledger),
    restoreMs: parts.restoreMs,
    pauseCount: pauses.stats.count,
    pauseP99Ms: pauses.stats.p99Ms,
    pauseMaxMs: pauses.stats.maxMs,
    extra: extras(parts, api),
  };
}

function extras(parts: SlotMetricParts, api: Record<string, number>): Record<string, number> {
  const extra: Record<string, number> = {
    skewed_records: parts.source.skewedRecords,
    dirty_users: parts.manager.stats.dirty,
    repeats_dropped: parts.processor.stats.repeats,
    splits_handed_over: parts.source.handedOver,
    catch_up_records: parts.source.caughtUpRecords,
    ...parts.ports.backend.stats(),
  };
  for (const [name, value] of Object.entries(api)) extra[`profile_${name}`] = value;
  for (const [name, value] of Object.entries(parts.ports.action.stats())) {
    extra[`action_${name}`] = value;
  }
  return extra;
}
