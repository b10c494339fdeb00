/**
 * The end of a job. The finalizer goes when the pods are gone and the policy is served, and at the
 * latest after deletionTimeout, whatever is in the way: an invalid spec, a job that never ran, a
 * namespace that is being emptied, a JobManager that never answers. What Kubernetes holds of the
 * job goes by owner references.
 */
import type { TriggerJobObject } from '../watched-kinds.ts';
import { type Decision, type Draft, POLL, timeOf } from './decision.ts';
import { cleaning, leaveState, storedAt } from './disposal.ts';
import { type DeletionPolicy, fieldAt, lifecycleOf } from './spec.ts';
import { isTerminal, scaledDown, stopping } from './stopping.ts';

export const FINALIZER = 'triggerjob.io/deletion';

const deletedAt = ({ metadata }: TriggerJobObject): number =>
  timeOf(metadata.deletionTimestamp?.toString());

/** Lets go of the object, whatever else is true of it; the status is not worth a write any more. */
function released(job: TriggerJobObject, event: Decision['events'][number]): Decision {
  const finalizers = (job.metadata.finalizers ?? []).filter((one) => one !== FINALIZER);
  return {
    status: job.status ?? {},
    actions: [{ do: 'finalizers', finalizers }],
    events: [event],
    requeueAfterMs: POLL.busyMs,
  };
}

/** Of an object whose time is up. Looks at as little as possible, so that nothing can fail. */
export function overdueDeletion(job: TriggerJobObject, now: number): Decision | null {
  const { deletionTimeoutMs, deletionPolicy } = lifecycleOf(job.spec);
  if (!(job.metadata.finalizers ?? []).includes(FINALIZER)) return null;
  if (now < deletedAt(job) + deletionTimeoutMs) return null;
  const { operation } = job.status ?? {};
  const limit = fieldAt(job.spec, 'deletionTimeout') ?? '5m';
  const why = operation?.error ?? `step ${operation?.step ?? 'none'} was not over`;
  const unclean = deletionPolicy === 'Delete' && operation?.step === 'Cleaning';
  const left = unclean ? `; what it has stored is left: ${storedAt(job)}` : '';
  const note = `not finished within deletionTimeout ${limit} (${why}): let go all the same${left}`;
  return released(job, { type: 'Warning', reason: 'DeletionForced', action: 'Delete', note });
}

/** One look at a job that is being deleted; null: not over yet. */
export function deletion(draft: Draft): Decision | null {
  const { facts, status } = draft;
  const { deletionPolicy, deletionTimeoutMs } = lifecycleOf(facts.job.spec);
  draft.within(Math.max(0, deletedAt(facts.job) + deletionTimeoutMs - facts.now));
  const event = (note: string) =>
    ({ type: 'Normal', reason: 'Deleted', action: 'Delete', note }) as const;
  if (status.run === undefined) return released(facts.job, event('it was never deployed'));
  if (status.operation?.kind !== 'Delete') beginDeletion(draft, deletionPolicy);
  const { operation } = status;
  if (operation === undefined) return null;
  if (operation.step === 'Stopping') stopping(draft, operation, () => true);
  else if (operation.step === 'Cleaning') cleaning(draft, operation);
  if (operation.step !== 'ScalingDown' || !scaledDown(draft, operation)) return null;
  if (deletionPolicy === 'Delete') return released(facts.job, event(operation.reason ?? ''));
  const kept = status.lastSavepoint ?? status.lastCheckpoint?.location;
  const note = kept === undefined ? 'no state was made' : `its state is kept at ${kept}`;
  return released(facts.job, event(note));
}

function beginDeletion(draft: Draft, policy: DeletionPolicy): void {
  const { status, jobManager } = draft;
  const before = status.operation;
  const ended = jobManager !== null && isTerminal(jobManager.state);
  const gone = status.resumeFrom !== undefined || before?.step === 'ScalingDown';
  const stops = policy === 'Savepoint' && !ended && !gone;
  const cleans = policy === 'Delete' && !gone;
  status.operation = {
    kind: 'Delete',
    step: stops ? 'Stopping' : cleans ? 'Cleaning' : 'ScalingDown',
    mode: stops ? 'savepoint' : 'last-state',
    startedAt: draft.now,
    stepStartedAt: draft.now,
    reason: 'the TriggerJob is deleted',
    // A stop that is under way is this one.
    ...(before?.triggerId === undefined || !stops ? {} : { triggerId: before.triggerId }),
  };
  draft.tell('Normal', 'Deleting', 'Delete', 'the job is being deleted');
  if (policy === 'Delete' && gone) leaveState(draft, status.operation, 'no JobManager runs');
}
