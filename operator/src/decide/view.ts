/** What a user reads: the job in one word, in one sentence, in figures. */
import type { JobState, TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import { podSelector } from '../desired/names.ts';
import { type Cause, conditions, stalledBy, unreachable } from './conditions.ts';
import { type Draft, timeText } from './decision.ts';
import { isPodReady, type PodTrouble, podTrouble } from './pod-trouble.ts';

const OPERATION_STATES: Readonly<Record<string, JobState>> = {
  Deploy: 'Deploying',
  Resume: 'Deploying',
  Upgrade: 'Upgrading',
  Rollback: 'RollingBack',
  Suspend: 'Suspending',
  Restart: 'Restarting',
  Scale: 'Scaling',
  Delete: 'Deleting',
};

export function describe(draft: Draft): void {
  const { status, facts } = draft;
  const trouble = podTrouble(facts.pods);
  const stalled = stalledBy(draft);
  const before = facts.job.status;
  figures(draft);
  status.observedGeneration = draft.generation;
  status.state = stateOf(draft);
  status.conditions = conditions(draft, trouble);
  status.summary = summaryOf(draft, stalled, trouble);
  const error = errorOf(draft, stalled);
  if (error === null) delete status.error;
  else status.error = error;
  if (status.state !== before?.state) {
    const bad = status.state === 'Failed' || status.state === 'RollingBack';
    draft.tell(bad ? 'Warning' : 'Normal', `State${status.state}`, 'Observe', status.summary);
  }
  const known = before?.conditions?.find(({ type }) => type === 'Stalled');
  if (stalled !== null && known?.reason !== stalled.reason) {
    draft.tell('Warning', stalled.reason, 'Observe', stalled.message);
  }
}

function stateOf(draft: Draft): JobState {
  const { status, facts, jobManager, wanted } = draft;
  if (facts.job.metadata.deletionTimestamp !== undefined) return 'Deleting';
  const { operation } = status;
  const first = operation?.kind === 'Deploy' || operation?.kind === 'Resume';
  if (first && jobManager?.state === 'FAILED') return 'Failed';
  if (operation !== undefined) return OPERATION_STATES[operation.kind] ?? 'Deploying';
  if (status.resumeFrom !== undefined) return 'Suspended';
  if (status.run === undefined) return wanted?.suspend ? 'Suspended' : 'Pending';
  if (jobManager === null) return 'Restarting';
  switch (jobManager.state) {
    case 'RUNNING':
      return 'Running';
    case 'FINISHED':
    case 'CANCELED':
      return 'Finished';
    case 'FAILED':
      return 'Failed';
    default:
      return 'Restarting';
  }
}

function errorOf(draft: Draft, stalled: Cause | null): string | null {
  if (stalled !== null) return stalled.message;
  if (draft.status.operation?.error !== undefined) return draft.status.operation.error;
  return draft.running ? null : (draft.jobManager?.error ?? null);
}

const HELD =
  '; its pods are as the operator made them before its own change, until the job restarts ' +
  '(annotation triggerjob.io/restart)';

function summaryOf(draft: Draft, stalled: Cause | null, trouble: PodTrouble | null): string {
  const { status, jobManager } = draft;
  const { operation, run } = status;
  const pod = trouble === null ? '' : `; pod ${trouble.pod}: ${trouble.reason} ${trouble.message}`;
  const help = stalled === null ? '' : `; ${stalled.message}`;
  if (draft.annotation('paused') === 'true') return 'paused by annotation: nothing is changed';
  if (operation !== undefined) {
    const { kind, step, reason = '', error } = operation;
    const failed = error === undefined ? '' : `; ${error}`;
    return `${kind}: ${step} (${reason})${failed}${pod}`;
  }
  if (status.resumeFrom !== undefined) {
    const from = status.resumeFrom.savepoint ?? status.resumeFrom.mode;
    return `suspended; it goes on from ${from}${help}`;
  }
  if (run === undefined) return `not deployed${help}`;
  if (jobManager === null) return `run ${run}: ${unreachable(draft)}${pod}${help}`;
  const count = `${jobManager.parallelism} subtasks`;
  const held = draft.heldPods ? HELD : '';
  return `run ${run} is ${jobManager.state} with ${count}${draft.running ? '' : pod}${held}${help}`;
}

/** From the JobManager while it answers; what it said last stays until then. */
function figures(draft: Draft): void {
  const { status, facts, jobManager, deployed } = draft;
  const { metadata } = facts.job;
  const selector = podSelector({ name: metadata.name }, 'taskmanager');
  status.selector = Object.entries(selector)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
  const component = 'app.kubernetes.io/component';
  const workers = facts.pods.filter((pod) => pod.metadata.labels?.[component] === 'taskmanager');
  const wanted = status.resumeFrom === undefined ? (deployed?.plan.taskManagers ?? 0) : 0;
  status.replicas = workers.length;
  status.ready = `${workers.filter(isPodReady).length}/${wanted}`;
  if (jobManager === null) {
    if (status.resumeFrom !== undefined) status.parallelism = 0;
    return;
  }
  status.parallelism = draft.running ? jobManager.parallelism : 0;
  status.restarts = jobManager.numRestarts;
  if (jobManager.lag === null) delete status.lag;
  else status.lag = jobManager.lag;
  const { lastCheckpoint } = jobManager;
  if (lastCheckpoint === null) return;
  const { id, completedAt, bytes, durationMs, location } = lastCheckpoint;
  status.lastCheckpoint = { id, completedAt: timeText(completedAt), bytes, durationMs, location };
}

/** What moves all the time; it alone is no reason for a write each look. */
const MOVING: readonly (keyof TriggerJobStatus)[] = ['lag', 'lastCheckpoint'];
const MOVING_MS = 30_000;

/** Whether a user would miss the new status. */
export function worthWriting(
  before: TriggerJobStatus | undefined,
  after: TriggerJobStatus,
  sinceWriteMs: number,
): boolean {
  const without = (status: TriggerJobStatus) =>
    JSON.stringify(status, (key, value: unknown) =>
      MOVING.some((name) => name === key) ? undefined : value,
    );
  const old = before ?? {};
  if (!sameJson(without(old), without(after))) return true;
  return sinceWriteMs >= MOVING_MS && !sameJson(JSON.stringify(old), JSON.stringify(after));
}

/** The API server gives keys back in another order. */
function sameJson(a: string, b: string): boolean {
  return a === b || canonical(JSON.parse(a)) === canonical(JSON.parse(b));
}

const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
