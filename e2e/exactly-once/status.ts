/** Reads GET /api/v1/details into a Sample. A missing figure is 0; a missing state is ''. */
import type { Sample, SubtaskSample } from './history.ts';

type Json = Record<string, unknown>;

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

/** A checkpoint id that may come bare or as `{id}`. */
function idOf(value: unknown): number | null {
  if (typeof value === 'number') return value;
  const id = typeof value === 'object' && value !== null ? (value as Json)['id'] : undefined;
  return typeof id === 'number' ? id : null;
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? (value as Json[]) : [];
}

function subtaskOf(json: Json): SubtaskSample {
  return {
    subtask: number(json['subtask']),
    attempt: number(json['attempt']),
    cpuSeconds: number(json['cpuSeconds']),
    recordsRead: number(json['recordsRead']),
    recordsProcessed: number(json['recordsProcessed']),
    divergent: number(json['divergent']),
    usersCached: number(json['usersCached']),
  };
}

export function sampleOf(at: number, status: Json): Sample {
  const taskManagers = list(status['taskManagers']);
  const replacements = (status['replacements'] ?? {}) as Json;
  return {
    at,
    state: typeof status['state'] === 'string' ? status['state'] : '',
    pid: number(taskManagers[0]?.['pid']),
    taskManagers: taskManagers.map((one) => ({
      pid: number(one['pid']),
      tasks: number(one['slots']) - number(one['freeSlots']),
    })),
    restarts: number(status['restarts']),
    replaced: replacements['running'] === true ? null : number(replacements['done']),
    restored: idOf(status['restoredCheckpoint']),
    lastCheckpoint: idOf(status['lastCheckpoint']),
    ledgerImbalance: number(status['ledgerImbalance']),
    parked: number(status['parked']),
    outbox: number(status['outbox']),
    lag: number(status['lag']),
    rssBytes: taskManagers.reduce((sum, tm) => sum + number(tm['rssBytes']), 0),
    subtasks: list(status['subtasks']).map(subtaskOf),
  };
}

/**
 * The attempt that all of its figures are of; null: it shows none, or those of two. Once lost tasks
 * were replaced alone, tasks of several attempts are the rule, and it is the newest.
 */
export function attemptIn(sample: Sample): number | null {
  const attempts = new Set(sample.subtasks.map((one) => one.attempt));
  if (attempts.size > 1 && sample.replaced === 0) return null;
  return attempts.size === 0 || sample.replaced === null ? null : Math.max(...attempts);
}

/** All of its tasks are of one attempt, and read, unless there is nothing more to read. */
export function isWorking(sample: Sample, producerDone: boolean): boolean {
  const runs = sample.state === 'RUNNING' && attemptIn(sample) !== null;
  return runs && (producerDone || totalRead(sample) > 0);
}

export function totalRead(sample: Sample): number {
  return sample.subtasks.reduce((sum, subtask) => sum + subtask.recordsRead, 0);
}
