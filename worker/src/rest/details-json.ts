/** GET /api/v1/details: one answer for the command line's live view and for tests. Pure. */
import type { JobView } from '../jobmanager/job-view.ts';
import type { TaskManagerMetrics } from '../rpc/messages.ts';
import type { JsonObject } from '../runtime/json.ts';

export function details(view: JobView): JsonObject {
  const { counters, gauges, checkpoints, exceptions, subtasks } = view;
  const { restored, latestCompleted } = checkpoints;
  const newest = exceptions.entries[0];
  return {
    now: view.now,
    state: view.status,
    eventsPerSecond: Math.round(view.eventsPerSecond),
    processed: counters.recordsProcessed,
    matched: counters.matched,
    delivered: counters.delivered,
    deadLettered: counters.deadLettered,
    users: gauges.users,
    parked: gauges.parked,
    outbox: gauges.outbox,
    lag: view.lag,
    inputEnded: inputEnded(view),
    restoredCheckpoint: restored === null ? null : { id: restored.id, at: restored.at },
    lastCheckpoint:
      latestCompleted === null
        ? null
        : {
            id: latestCompleted.id,
            at: latestCompleted.triggeredAt + latestCompleted.durationMs,
            bytes: latestCompleted.checkpointedBytes,
            stateBytes: latestCompleted.stateBytes,
            durationMs: latestCompleted.durationMs,
          },
    restarts: view.restarts,
    replacements: { ...view.replacements },
    parallelism: view.parallelism,
    wantedParallelism: view.scaling.wanted,
    rescales: view.scaling.rescales,
    scaling: view.scaling.events.map((event) => ({ ...event })),
    taskManagers: view.taskManagers.map(({ id, pid, slots, freeSlots, metrics }) => ({
      id,
      pid,
      slots,
      freeSlots,
      ...processOf(metrics),
      shuffle: metrics === null ? null : { ...metrics.shuffle },
    })),
    tasks: view.tasks.map(({ subtask, taskManagerId }) => ({ subtask, taskManagerId })),
    filter: { ...view.filter },
    failure: newest === undefined ? null : `${newest.code}: ${newest.message}`,
    ledgerImbalance: gauges.ledgerImbalance,
    subtasks: subtasks.map(({ histograms: _, tallies, extra, ledger, ...figures }) => ({
      ...figures,
      tallies: { ...tallies },
      extra: { ...extra },
      ledger: { ...ledger },
    })),
  };
}

/** As told by every subtask: their TaskManagers report one after the other. */
function inputEnded({ subtasks, parallelism }: JobView): boolean {
  const all = subtasks.length === parallelism;
  return all && subtasks.every(({ openSplits }) => openSplits === 0);
}

/** Zeros before the first heartbeat. */
function processOf(metrics: TaskManagerMetrics | null): JsonObject {
  const system = metrics?.system ?? null;
  return {
    rssBytes: metrics?.rssBytes ?? 0,
    cpuSeconds: metrics?.cpuSeconds ?? 0,
    heapBytes: metrics?.heapBytes ?? 0,
    heapTotalBytes: metrics?.heapTotalBytes ?? 0,
    memoryLimitBytes: metrics?.memoryLimitBytes ?? 0,
    eventLoopLagP99Ms: metrics?.eventLoopLagP99Ms ?? 0,
    system:
      system === null
        ? null
        : { ...system, network: system.network.map((device) => ({ ...device })) },
  };
}
