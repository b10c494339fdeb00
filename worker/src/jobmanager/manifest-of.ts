/** The manifest of a checkpoint whose tasks have all acknowledged. Pure. */
import type { Manifest, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { invariant } from '../runtime/errors.ts';
import type { SplitPosition } from '../source/source.ts';
import { keyGroupRanges } from './assign.ts';

export interface ManifestFacts {
  plan: JobPlan;
  /** Of the attempt that made it. */
  parallelism: number;
  lineage: string;
  leaderEpoch: number;
  attempt: number;
  checkpointId: number;
  triggeredAt: number;
  completedAt: number;
  /** All splits, held ones included. */
  splits: readonly SplitPosition[];
  /** What the barrier brought. */
  script: ScriptVersion;
  snapshots: readonly SubtaskSnapshot[];
}

/** Throws INVARIANT unless the snapshots cover every key group exactly as deployed. */
export function manifestOf(facts: ManifestFacts): Manifest {
  const { plan, parallelism } = facts;
  const subtasks = facts.snapshots.toSorted((a, b) => a.subtask - b.subtask);
  const ranges = keyGroupRanges(parallelism, plan.maxParallelism);
  invariant(subtasks.length === ranges.length, 'a checkpoint has one snapshot per subtask');
  for (const [subtask, range] of ranges.entries()) {
    const snapshot = subtasks[subtask];
    invariant(
      snapshot?.subtask === subtask &&
        snapshot.range.first === range.first &&
        snapshot.range.last === range.last,
      `the snapshot of subtask ${subtask} covers key groups ${range.first}..${range.last}`,
    );
  }
  return { ...frame(facts), kind: 'checkpoint', subtasks };
}

/** Before the first record: only where the splits start (P25). Restoring it is a fresh start. */
export function initialManifest(facts: Omit<ManifestFacts, 'snapshots'>): Manifest {
  return { ...frame(facts), kind: 'initial', subtasks: [] };
}

function frame(facts: Omit<ManifestFacts, 'snapshots'>): Omit<Manifest, 'kind' | 'subtasks'> {
  const { plan } = facts;
  return {
    format: 1,
    checkpointId: facts.checkpointId,
    leaderEpoch: facts.leaderEpoch,
    lineage: facts.lineage,
    job: { namespace: plan.namespace, name: plan.name },
    keyBy: plan.keyBy,
    maxParallelism: plan.maxParallelism,
    parallelism: facts.parallelism,
    attempt: facts.attempt,
    triggeredAt: facts.triggeredAt,
    completedAt: facts.completedAt,
    splits: [...facts.splits],
    script: { ...facts.script },
  };
}
