/**
 * Defects on purpose, to see the checks go red. Some are built into the slot (SlotConfig.mutant);
 * these act on what passes between the parts, as if the code behind it had the bug.
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import { SegmentWriter } from '../checkpoint/segment.ts';
import { openSegment } from '../checkpoint/segment-reader.ts';
import type { ObjectRef, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { overlapping, splitsBySubtask } from '../jobmanager/assign.ts';
import type { Deployment } from '../rpc/messages.ts';
import type { TaskReport } from '../taskmanager/checkpointer.ts';
import type { Action } from './actions.ts';
import type { Scenario } from './scenario.ts';
import { readLine } from './stored-job.ts';

export const MUTANTS = [
  'alignment-off',
  'offsets-before-snapshot',
  'owed-delta-dropped',
  'parked-left-out',
  'outbox-left-out',
  'older-checkpoint-restored',
  'claims-over-a-fresh-takeover',
] as const;
/** Of selective replay. */
export const REPLAY_MUTANTS = [
  'handover-off-by-one',
  'vector-ignored',
  'live-overtakes',
  'goals-ignored',
] as const;
/** Of cuts, stops and savepoints. */
export const DISTURBANCE_MUTANTS = [
  'woken-goes-on',
  'broken-link-resumed',
  'savepoint-loses-an-object',
] as const;
export type Mutant =
  | (typeof MUTANTS)[number]
  | (typeof REPLAY_MUTANTS)[number]
  | (typeof DISTURBANCE_MUTANTS)[number];

/** Whether a run can show it at all: others need not be tried. */
export function mayShow(mutant: Mutant, { plan, actions }: Scenario): boolean {
  if (REPLAY_MUTANTS.some((one) => one === mutant)) return plan.selectiveReplay;
  const has = (what: (action: Action) => boolean) => actions.some(({ action }) => what(action));
  switch (mutant) {
    case 'woken-goes-on':
      return has((action) => action.do === 'freeze' && action.role === 'taskmanager');
    case 'broken-link-resumed': {
      const { heartbeatTimeoutMs: limit } = plan;
      return has((action) => action.do === 'cut shuffle' && action.lost && action.ms < limit);
    }
    case 'savepoint-loses-an-object':
      return has((action) => action.do === 'savepoint');
    default:
      return true;
  }
}

export interface RunOptions {
  mutant?: Mutant;
  /** false: ledgers and counts are not looked at, only their effects. */
  ledgers?: boolean;
  trace?: (line: string) => void;
}

export interface Mutation {
  mutant: Mutant | null;
  objects: StoredObjects;
  /** Names of objects that a published manifest names. */
  published: ReadonlySet<string>;
}

const PARKED = 1;
const OUTBOX = 2;

export async function mutated(report: TaskReport, mutation: Mutation): Promise<TaskReport> {
  if (report.type !== 'ack') return report;
  const { snapshot, checkpointId } = report;
  switch (mutation.mutant) {
    case 'owed-delta-dropped':
      return { ...report, snapshot: withoutOwed(snapshot, checkpointId, mutation) };
    case 'parked-left-out':
      return { ...report, snapshot: await withoutRows(snapshot, PARKED, mutation) };
    case 'outbox-left-out':
      return { ...report, snapshot: await withoutRows(snapshot, OUTBOX, mutation) };
    default:
      return report;
  }
}

/** What an aborted checkpoint stored is forgotten, as if its rows were dirty still (P16). */
function withoutOwed(
  snapshot: SubtaskSnapshot,
  checkpointId: number,
  { published }: Mutation,
): SubtaskSnapshot {
  const deltas = snapshot.deltas.map((delta) => {
    const owed =
      delta.to < checkpointId && delta.object !== null && !published.has(delta.object.name);
    return owed ? { ...delta, object: null } : delta;
  });
  return { ...snapshot, deltas };
}

async function withoutRows(
  snapshot: SubtaskSnapshot,
  kind: number,
  { objects }: Mutation,
): Promise<SubtaskSnapshot> {
  const ref = snapshot.volatile;
  if (ref === null) return snapshot;
  const reader = await openSegment(objects.get(ref.name)!.content, ref.name);
  const writer = new SegmentWriter({ ...reader.header });
  for (const keyGroup of reader.groups.keys()) {
    const rows = [];
    for await (const batch of reader.readGroup(keyGroup)) {
      rows.push(...batch.filter(({ key }) => key[2] !== kind));
    }
    await writer.addGroup(keyGroup, rows);
  }
  const { content, bytes, sha256 } = await writer.finish();
  const volatile: ObjectRef = { name: `${ref.name}x`, bytes, sha256 };
  objects.set(volatile.name, { content, modifiedAt: objects.get(ref.name)!.modifiedAt });
  return { ...snapshot, volatile };
}

/** The checkpoint before the one that the log says. */
export function deploymentOf(command: Deployment, { mutant, objects }: Mutation): Deployment {
  if (mutant !== 'older-checkpoint-restored') return command;
  const older = readLine(objects).at(-2);
  if (older === undefined || older.kind === 'initial') return command;
  const splits = splitsBySubtask(older.splits, command.ranges.length);
  const tasks = command.tasks.map((task) => ({
    ...task,
    splits: splits[task.subtask]!,
    restore: overlapping(older.subtasks, task.range),
    restoredId: older.checkpointId,
  }));
  return { ...command, tasks };
}
