/**
 * The four stages and their subtasks with rates, from two answers of the REST API some seconds
 * apart: what happened in between is what is shown. Pure.
 */
import type { Details, JobDetail, SubtaskDetail, Vertex } from './api-types.ts';
import type { Span } from './span.ts';

export type Pressure = 'calm' | 'warm' | 'hot' | 'unknown';

export interface Stage {
  name: string;
  status: string;
  parallelism: number;
  inPerSecond: number | null;
  outPerSecond: number | null;
  busy: number | null;
  backPressured: number | null;
  pressure: Pressure;
  /** What waits here, in words: `12k to read`. */
  queue: { label: string; value: number | null }[];
}

/** Ratios of a stage's time. */
const WARM = 0.5;
const HOT = 0.8;

export function stagesOf({ before, now }: Span<JobDetail>, details: Details): Stage[] {
  return now.vertices.map((vertex) => {
    const then = before?.vertices.find(({ id }) => id === vertex.id) ?? null;
    const ms = before === null ? 0 : now.now - before.now;
    const busy = ratio(then, vertex, 'accumulated-busy-time', ms);
    const backPressured = ratio(then, vertex, 'accumulated-backpressured-time', ms);
    return {
      name: vertex.name,
      status: vertex.status,
      parallelism: vertex.parallelism,
      inPerSecond: perSecond(then, vertex, 'read-records', ms),
      outPerSecond: perSecond(then, vertex, 'write-records', ms),
      busy,
      backPressured,
      pressure: pressureOf(busy, backPressured),
      queue: queueOf(vertex.name, details),
    };
  });
}

function pressureOf(busy: number | null, backPressured: number | null): Pressure {
  if (busy === null && backPressured === null) return 'unknown';
  const most = Math.max(busy ?? 0, backPressured ?? 0);
  if (most >= HOT) return 'hot';
  return most >= WARM ? 'warm' : 'calm';
}

function queueOf(stage: string, details: Details): Stage['queue'] {
  switch (stage) {
    case 'Source':
      return [{ label: 'records behind', value: details.lag }];
    case 'UserStateManager':
      return [
        { label: 'users', value: details.users },
        { label: 'wait for a profile', value: details.parked },
      ];
    case 'EventFilter':
      return [{ label: 'matched', value: details.matched }];
    case 'ActionExecutor':
      return [
        { label: 'in the outbox', value: details.outbox },
        { label: 'dead letters', value: details.deadLettered },
      ];
    default:
      return [];
  }
}

/** null where a counter began anew: its task was deployed in between. */
function grown(before: Vertex | null, now: Vertex, metric: string): number | null {
  const was = before?.metrics[metric];
  const is = now.metrics[metric];
  if (typeof was !== 'number' || typeof is !== 'number' || is < was) return null;
  return is - was;
}

function perSecond(then: Vertex | null, now: Vertex, metric: string, ms: number): number | null {
  const count = grown(then, now, metric);
  return count === null || ms <= 0 ? null : (count * 1000) / ms;
}

function ratio(then: Vertex | null, now: Vertex, metric: string, ms: number): number | null {
  const time = grown(then, now, metric);
  if (time === null || ms <= 0 || now.parallelism === 0) return null;
  return Math.min(1, time / (ms * now.parallelism));
}

export interface HotSubtask {
  subtask: number;
  taskManagerId: string | null;
  busy: number | null;
  backPressured: number | null;
  cpu: number | null;
  eventsPerSecond: number | null;
  behind: number | null;
  users: number;
  stateBytes: number;
  outbox: number;
}

/** The busiest first. */
export function hotSubtasks({ before, now }: Span<Details>): HotSubtask[] {
  const ms = before === null ? 0 : now.now - before.now;
  const all = now.subtasks.map((subtask) => {
    const then = before?.subtasks.find(
      (one) => one.subtask === subtask.subtask && one.attempt === subtask.attempt,
    );
    const share = (time: (of: SubtaskDetail) => number): number | null => {
      if (then === undefined || ms <= 0) return null;
      return Math.min(1, Math.max(0, time(subtask) - time(then)) / ms);
    };
    const task = now.tasks.find((one) => one.subtask === subtask.subtask);
    const events = then && subtask.recordsProcessed - then.recordsProcessed;
    return {
      subtask: subtask.subtask,
      taskManagerId: task?.taskManagerId ?? null,
      busy: share((of) => of.busyMs),
      backPressured: share((of) => of.backPressuredMs),
      cpu: share((of) => of.cpuSeconds * 1000),
      eventsPerSecond: events === undefined || ms <= 0 ? null : (events * 1000) / ms,
      behind: subtask.pendingRecords < 0 ? null : subtask.pendingRecords,
      users: subtask.users,
      stateBytes: subtask.stateBytes,
      outbox: subtask.outbox,
    };
  });
  return all.sort((a, b) => (b.busy ?? -1) - (a.busy ?? -1) || a.subtask - b.subtask);
}
