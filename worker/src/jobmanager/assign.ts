/**
 * Who owns what: key groups and splits to subtasks. Pure and stable, so that every leader and every
 * restart of the same parallelism computes the same table.
 */
import type { KeyGroupRange, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { SplitPosition } from '../source/source.ts';

/**
 * ranges[s] = the contiguous key groups of subtask s: those with floor(kg * parallelism / max) ==
 * s, Flink's assignment. Throws PARALLELISM when there are more subtasks than key groups.
 */
export function keyGroupRanges(parallelism: number, maxParallelism: number): KeyGroupRange[] {
  if (parallelism < 1 || parallelism > maxParallelism) {
    throw new TriggerJobError(
      'PARALLELISM',
      `spec.parallelism ${parallelism} must be from 1 to spec.maxParallelism (${maxParallelism})`,
    );
  }
  return Array.from({ length: parallelism }, (_, subtask) => ({
    first: Math.ceil((subtask * maxParallelism) / parallelism),
    last: Math.ceil(((subtask + 1) * maxParallelism) / parallelism) - 1,
  }));
}

/**
 * slots[s] = where subtask s runs: over all TaskManagers in turn, so that none is full while
 * another one idles. By id, not by registration: who comes back under its old name gets its old
 * subtasks. Fewer than `parallelism` when there are not enough.
 */
export function assignSlots<Host extends { readonly id: string; readonly slots: number }>(
  parallelism: number,
  hosts: readonly Host[],
): { host: Host; slot: number }[] {
  const sorted = hosts.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const most = Math.max(0, ...sorted.map(({ slots }) => slots));
  const chosen: { host: Host; slot: number }[] = [];
  for (let slot = 0; slot < most; slot++) {
    for (const host of sorted) {
      if (slot < host.slots && chosen.length < parallelism) chosen.push({ host, slot });
    }
  }
  return chosen;
}

/** Splits are numbered densely in order of discovery, so this is even within one. */
function subtaskOfSplit(splitIndex: number, parallelism: number): number {
  return splitIndex % parallelism;
}

/** The positions each subtask reads: result[s]. */
export function splitsBySubtask(
  positions: readonly SplitPosition[],
  parallelism: number,
): SplitPosition[][] {
  const bySubtask: SplitPosition[][] = Array.from({ length: parallelism }, () => []);
  for (const position of positions) {
    bySubtask[subtaskOfSplit(position.split.index, parallelism)]?.push(position);
  }
  return bySubtask;
}

/**
 * Snapshots a task of `range` must read: all that hold some of its key groups (rescale included).
 */
export function overlapping(
  snapshots: readonly SubtaskSnapshot[],
  range: KeyGroupRange,
): SubtaskSnapshot[] {
  return snapshots.filter(
    (snapshot) => snapshot.range.first <= range.last && snapshot.range.last >= range.first,
  );
}
