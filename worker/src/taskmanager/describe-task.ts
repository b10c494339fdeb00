/** What a task says of itself to a leader that knows nothing of it (P45). Pure. */
import type { RunningTask, TaskDeployment } from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';

/** `running`: null while its state is being restored; then not all splits are `known` yet. */
export function describeTask(
  { subtask, slot, splits }: TaskDeployment,
  known: readonly SplitPosition[],
  running: {
    barriers: { seen: number; taken: number };
    checkpointer: { draining: boolean };
  } | null,
): RunningTask {
  const { seen, taken } = running?.barriers ?? { seen: 0, taken: 0 };
  const drained = running?.checkpointer.draining !== true;
  const indexes = new Set(known.map((position) => position.split.index));
  const deployed = splits.filter((position) => !indexes.has(position.split.index));
  const all = running === null ? [...known, ...deployed] : [...known];
  return { subtask, slot, running: running !== null, seen, taken, drained, splits: all };
}
