/** What a new leader takes from the reports of the tasks that it adopts. Pure. */
import type { RunningAttempt, RunningTask } from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';

export interface AdoptedTasks {
  attempt: number;
  parallelism: number;
  /** Highest checkpoint of which any task has sent or seen a barrier; 0 = none. */
  seen: number;
  /** Subtasks that have yet to report `drained` or `decline` for it. */
  unsettled: number[];
  allRunning: boolean;
}

export function adoptedTasks(attempts: readonly RunningAttempt[]): AdoptedTasks {
  const tasks = attempts.flatMap((one) => one.tasks);
  const seen = Math.max(0, ...tasks.map((task) => task.seen));
  const settled = ({ taken, drained }: RunningTask) => drained && taken === seen;
  return {
    attempt: attempts[0]?.attempt ?? 0,
    parallelism: attempts[0]?.ranges.length ?? 0,
    seen,
    unsettled: tasks.filter((task) => seen > 0 && !settled(task)).map(({ subtask }) => subtask),
    allRunning: tasks.every(({ running }) => running),
  };
}

/**
 * The splits of the newest checkpoint as it has them, released where a task reads them already,
 * and those that were found after it. Positions stay those of the checkpoint: what a task has read
 * beyond it no release of a held split may count on (P26).
 */
export function adoptedSplits(
  stored: readonly SplitPosition[],
  attempts: readonly RunningAttempt[],
): SplitPosition[] {
  const reported = new Map<number, SplitPosition>();
  for (const split of attempts.flatMap((one) => one.tasks.flatMap((task) => task.splits))) {
    const known = reported.get(split.split.index);
    if (known === undefined || known.held === true) reported.set(split.split.index, split);
  }
  const merged = stored.map((position) => {
    const said = reported.get(position.split.index);
    reported.delete(position.split.index);
    if (position.held !== true || said === undefined || said.held === true) return position;
    const { held: _, ...released } = position;
    return released;
  });
  const later = [...reported.values()].toSorted((a, b) => a.split.index - b.split.index);
  return [...merged, ...later];
}
