/** Whether a job may go on from a checkpoint or savepoint with the plan it has now. */
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { readWholeSavepoint } from '../checkpoint/savepoint.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import type { JobPlan, SourcePlan } from '../plan/job-plan.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { Split } from '../source/source.ts';

/**
 * The savepoint's manifest, if the job can begin with it: all objects are there, and it fits the
 * plan. Throws SAVEPOINT_MISSING, SAVEPOINT_CORRUPT, MANIFEST_VERSION, and what `refuseUnfit`
 * throws.
 */
export async function admitSavepoint(plan: JobPlan, source: ObjectStore): Promise<Manifest> {
  const manifest = await readWholeSavepoint(source);
  refuseUnfit(plan, manifest, `savepoint ${source.url}`);
  return manifest;
}

/**
 * Throws MAX_PARALLELISM_CHANGED, KEY_BY_CHANGED or SOURCE_CHANGED: state that would be looked for
 * in the wrong key group, or positions that would be of other records. `what` names the state.
 */
export function refuseUnfit(plan: JobPlan, manifest: Manifest, what: string): void {
  const { maxParallelism, keyBy } = manifest;
  if (maxParallelism !== plan.maxParallelism) {
    throw new TriggerJobError(
      'MAX_PARALLELISM_CHANGED',
      `spec.maxParallelism is ${plan.maxParallelism}, ${what} was made with ${maxParallelism}; ` +
        'it is fixed for the life of the state, set it back',
    );
  }
  if (keyBy !== undefined && keyBy !== plan.keyBy) {
    throw new TriggerJobError(
      'KEY_BY_CHANGED',
      `spec.keyBy is ${plan.keyBy}, ${what} holds state by ${keyBy}; set it back`,
    );
  }
  const fault = splitFault(
    plan.source,
    manifest.splits.map(({ split }) => split),
  );
  if (fault === null) return;
  throw new TriggerJobError('SOURCE_CHANGED', `${what} does not fit spec.source: ${fault}`);
}

/**
 * A log that begins with one savepoint has its lineage for good: another one's deliveries would
 * come under new ids (P30).
 */
export function refuseOtherLineage(manifest: Manifest, lineage: string | null, url: string): void {
  if (manifest.lineage === lineage) return;
  throw new TriggerJobError(
    'SAVEPOINT_OTHER_JOB',
    `${url} is a savepoint of another job than the one that this checkpoint directory was begun ` +
      'with; use an empty one',
  );
}

/** Why these splits can't be read from `source`, or null. */
function splitFault(source: SourcePlan, splits: readonly Split[]): string | null {
  const kind = kindOf(splits);
  if (kind !== null && kind !== source.kind) {
    return `it holds positions of a ${kind} source, the job reads from ${source.kind}`;
  }
  switch (source.kind) {
    case 'kafka': {
      const other = splits.find(({ id, partition }) => id !== `${source.topic}-${partition}`);
      return other === undefined ? null : `it holds ${other.id}, the job reads ${source.topic}`;
    }
    case 'datagen':
      if (splits.length === source.splits) return null;
      return `it holds ${splits.length} splits, the generated stream has ${source.splits}`;
    case 'file': {
      const known = new Set(splits.map(({ id }) => id));
      const added = source.paths.find((path) => !known.has(path));
      const removed = splits.find(({ id }) => !source.paths.includes(id));
      if (removed !== undefined) return `it holds ${removed.id}, which is not read any more`;
      return added === undefined ? null : `${added} is not in it, and would never be read`;
    }
  }
}

/** By the identity that every source gives its splits (P30); null: there is none. */
function kindOf(splits: readonly Split[]): SourcePlan['kind'] | null {
  const [first] = splits;
  if (first === undefined) return null;
  if (first.sourceId.startsWith('datagen:')) return 'datagen';
  return first.sourceId.startsWith('file:') ? 'file' : 'kafka';
}
