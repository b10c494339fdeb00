/**
 * deletionPolicy: Delete. What a job has stored only its JobManager can reach: so it is asked to
 * delete it before its pods go. Where none answers, nothing is waited for that may never come: what
 * is left is named, with its place.
 */
import type { JobOperation } from '../../../worker/src/plan/status-schema.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';
import { type Draft, POLL, timeOf, triggerIdOf } from './decision.ts';
import { enter } from './operation.ts';
import { fieldAt } from './spec.ts';
import { tryAgain } from './stopping.ts';

/** How long a JobManager that does not answer is waited for: one that was lost is back by then. */
const SILENT_LIMIT_MS = 60_000;

export function cleaning(draft: Draft, operation: JobOperation): void {
  const { facts, jobManager, status } = draft;
  operation.triggerId ??= `${triggerIdOf(facts.job, 'disposal', status.run ?? 0)}-1`;
  const id = operation.triggerId;
  const progress = facts.progress.get(id);
  draft.within(POLL.soonMs);
  if (progress?.phase === 'Completed') {
    cleaned(draft, operation, progress.left);
    return;
  }
  if (jobManager === null) {
    operation.waitingSince ??= draft.now;
    if (facts.now - timeOf(operation.waitingSince) < SILENT_LIMIT_MS) return;
    leaveState(draft, operation, 'no JobManager answers');
    return;
  }
  delete operation.waitingSince;
  if (progress?.phase === 'Failed') tryAgain(draft, operation, progress.error, 'disposal');
  else if (progress?.phase !== 'InProgress') {
    draft.act({ do: 'trigger', kind: 'disposal', triggerId: id });
  }
}

function cleaned(draft: Draft, operation: JobOperation, left: string | undefined): void {
  operation.reason = 'what it had stored is deleted';
  if (left === undefined) draft.tell('Normal', 'StateDeleted', 'Delete', operation.reason);
  else {
    operation.reason += `, but for ${left}`;
    draft.tell('Warning', 'StateLeft', 'Delete', `${operation.reason}: delete it by hand`);
  }
  enter(draft, 'ScalingDown');
}

/** What was stored stays, and where that is, is said. */
export function leaveState(draft: Draft, operation: JobOperation, why: string): void {
  operation.reason = `what it has stored is left: ${storedAt(draft.facts.job)}`;
  draft.tell('Warning', 'StateLeft', 'Delete', `${why}: ${operation.reason}; delete it by hand`);
  enter(draft, 'ScalingDown');
}

/** Total: also of a job whose spec nobody can read. */
export function storedAt({ metadata, spec, status }: TriggerJobObject): string {
  const { namespace = '', name } = metadata;
  const directory = (path: string): string | null => {
    const text = fieldAt(spec, path);
    return typeof text === 'string' && text !== '' ? text.replace(/\/+$/, '') : null;
  };
  const found = /^(.+)\/manifests\//.exec(status?.lastCheckpoint?.location ?? '')?.[1];
  const parent = directory('checkpointing.directory') ?? 'its checkpoint directory';
  const savepoints = directory('savepoints.directory') ?? status?.lastSavepoint;
  const folder = found ?? `${parent}/${namespace}/${name}`;
  return savepoints === undefined || savepoints === null
    ? folder
    : `${folder}, and its savepoints at ${savepoints}`;
}
