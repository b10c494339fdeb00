/**
 * The end of a run: a savepoint that the job stops with where its mode wants one, then no pods. As
 * Flink's operator decides, and as it does not: a job that can't make its savepoint for a while
 * goes on from its newest checkpoint, never from nothing, and never waits for ever.
 */
import type { JobOperation } from '../../../worker/src/plan/status-schema.ts';
import { type Draft, POLL, type Role, timeOf, triggerIdOf } from './decision.ts';
import { enter } from './operation.ts';

/** How long a job that is not RUNNING is waited for before its newest checkpoint must do. */
const NOT_RUNNING_GRACE_MS = 30_000;
/** From a failed savepoint to the next try; grows with the tries. */
const RETRY_MS = 10_000;
const LONGEST_RETRY_MS = 60_000;

const TERMINAL: readonly string[] = ['FINISHED', 'CANCELED', 'FAILED'];

export const isTerminal = (state: string): boolean => TERMINAL.includes(state);

/** Whether the newest checkpoint may be gone on from; else a savepoint is waited for. */
export type LastStateAllowed = () => boolean;

export function stopping(draft: Draft, operation: JobOperation, allowed: LastStateAllowed): void {
  const { jobManager, facts } = draft;
  const id = stopTrigger(draft, operation);
  const progress = facts.progress.get(id);
  draft.within(POLL.soonMs);
  if (jobManager !== null && isTerminal(jobManager.state)) {
    // A savepoint that it names may be an older one: only this stop's own is where it ended.
    const own = progress?.phase === 'Completed' ? progress.location : null;
    if (progress !== undefined) stopped(draft, operation, own);
    return;
  }
  if (draft.running) {
    delete operation.waitingSince;
    // One that is complete while the job runs: its leader died before the job had ended by it, and
    // the job has gone on. The same trigger makes it anew.
    if (progress?.phase === 'Failed') tryAgain(draft, operation, progress.error, 'savepoint');
    else if (progress?.phase !== 'InProgress') {
      draft.act({ do: 'trigger', kind: 'stop', triggerId: id });
    }
    return;
  }
  operation.waitingSince ??= draft.now;
  if (facts.now - timeOf(operation.waitingSince) < NOT_RUNNING_GRACE_MS) return;
  const why = jobManager === null ? 'no JobManager answers' : `the job is ${jobManager.state}`;
  if (!allowed()) operation.error = `${why}, so no savepoint can be made`;
  else withoutSavepoint(draft, operation, why);
}

/** Derived from the run: it can be stopped once, whatever the reason has become meanwhile. */
function stopTrigger(draft: Draft, operation: JobOperation): string {
  const { job } = draft.facts;
  operation.triggerId ??= `${triggerIdOf(job, 'stop', draft.status.run ?? 0)}-1`;
  return operation.triggerId;
}

const FAILED = { savepoint: 'SavepointFailed', disposal: 'DisposalFailed' } as const;

/** Under another id, later and later. */
export function tryAgain(
  draft: Draft,
  operation: JobOperation,
  error: string,
  what: keyof typeof FAILED,
): void {
  const [, base = '', tries = '1'] = /^(.*)-(\d+)$/.exec(operation.triggerId ?? '') ?? [];
  const waited = draft.facts.now - timeOf(operation.stepStartedAt);
  operation.error = `the ${what} failed: ${error}`;
  if (waited < Math.min(RETRY_MS * Number(tries), LONGEST_RETRY_MS)) return;
  operation.triggerId = `${base}-${Number(tries) + 1}`;
  operation.stepStartedAt = draft.now;
  draft.tell('Warning', FAILED[what], 'Stop', `${error}; it is tried again`);
}

function stopped(draft: Draft, operation: JobOperation, location: string | null): void {
  if (location === null) operation.mode = 'last-state';
  else {
    operation.savepoint = location;
    draft.status.lastSavepoint = location;
    draft.tell('Normal', 'SavepointCompleted', 'Stop', `stopped with savepoint ${location}`);
  }
  operation.stoppedAt = draft.now;
  enter(draft, 'ScalingDown');
}

function withoutSavepoint(draft: Draft, operation: JobOperation, why: string): void {
  operation.mode = 'last-state';
  const note = `${why}: without a savepoint, from the newest checkpoint`;
  draft.tell('Warning', 'SavepointSkipped', 'Stop', note);
  enter(draft, 'ScalingDown');
}

const ROLES: readonly Role[] = ['jobmanager', 'taskmanager'];

/** Scales both to nothing; true once no pod is left (L2). */
export function scaledDown(draft: Draft, operation: JobOperation): boolean {
  operation.stoppedAt ??= draft.now;
  let down = draft.facts.live;
  for (const role of ROLES) {
    const set = draft.statefulSet(role);
    if (set === null) continue;
    if (set.spec?.replicas !== 0) {
      draft.act({ do: 'scale', ref: draft.refOf(role), replicas: 0 });
      down = false;
      continue;
    }
    const { observedGeneration = 0, replicas = 0 } = set.status ?? {};
    if (observedGeneration < (set.metadata.generation ?? 0) || replicas > 0) down = false;
  }
  draft.within(POLL.soonMs);
  return down && draft.facts.pods.length === 0;
}
