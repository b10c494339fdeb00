/** TaskManagers as the UI shows them: Flink's list joined with what heartbeats tell. Pure. */
import type { Details, SubtaskDetail, TaskManagerDetail, TaskManagers } from './api-types.ts';
import type { Span } from './span.ts';

export interface Worker {
  id: string;
  path: string;
  lastBeat: number;
  slots: number;
  freeSlots: number;
  limitBytes: number;
  process: TaskManagerDetail | null;
}

export function workersOf(list: TaskManagers, details: Details | null): Worker[] {
  return list.taskmanagers.map((one) => ({
    id: one.id,
    path: one.path,
    lastBeat: one.timeSinceLastHeartbeat,
    slots: one.slotsNumber,
    freeSlots: one.freeSlots,
    limitBytes: one.hardware.physicalMemory,
    process: details?.taskManagers.find(({ id }) => id === one.id) ?? null,
  }));
}

/** Cores in use; null when that is not known, as of another process. */
export function cpuOf(process: TaskManagerDetail | null, span: Span<Details>): number | null {
  const { before, now } = span;
  const then = before?.taskManagers.find(
    ({ id, pid }) => id === process?.id && pid === process.pid,
  );
  const ms = now.now - (before?.now ?? now.now);
  if (process === null || then === undefined || ms <= 0) return null;
  return Math.max(0, ((process.cpuSeconds - then.cpuSeconds) * 1000) / ms);
}

export interface SlotThread {
  metrics: SubtaskDetail;
  cpu: number | null;
  busy: number | null;
}

export function threadsOf(taskManagerId: string, { before, now }: Span<Details>): SlotThread[] {
  const tasks = now.tasks.filter((task) => task.taskManagerId === taskManagerId);
  const here = new Set(tasks.map(({ subtask }) => subtask));
  const ms = now.now - (before?.now ?? now.now);
  const share = (is: number, was: number | undefined) =>
    was === undefined || ms <= 0 ? null : Math.min(1, Math.max(0, (is - was) / ms));
  return now.subtasks
    .filter(({ subtask }) => here.has(subtask))
    .map((metrics) => {
      const then = before?.subtasks.find(
        ({ subtask, attempt }) => subtask === metrics.subtask && attempt === metrics.attempt,
      );
      return {
        metrics,
        cpu: share(metrics.cpuSeconds * 1000, then && then.cpuSeconds * 1000),
        busy: share(metrics.busyMs, then?.busyMs),
      };
    })
    .sort((a, b) => a.metrics.slot - b.metrics.slot);
}
