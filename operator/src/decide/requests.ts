/**
 * What is asked for by annotation: the value is a token, and each token is acted on once. A request
 * always ends, Completed or Failed, and a failed one says what to do.
 */
import { formatDuration } from '../../../worker/src/plan/duration.ts';
import type { TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import { type Draft, POLL, timeOf, triggerIdOf } from './decision.ts';
import { isTerminal } from './stopping.ts';

type Request = NonNullable<TriggerJobStatus['savepoint']>;
type Asked = 'savepoint' | 'checkpoint';

/** How long a request waits for the job to run. */
const PENDING_LIMIT_MS = 120_000;
/** How long one that was made waits for a JobManager that does not answer. */
const SILENT_LIMIT_MS = 600_000;

const REASONS = {
  savepoint: { done: 'SavepointCompleted', failed: 'SavepointFailed', begun: 'SavepointTriggered' },
  checkpoint: {
    done: 'CheckpointCompleted',
    failed: 'CheckpointFailed',
    begun: 'CheckpointTriggered',
  },
} as const;

export function requests(draft: Draft): void {
  for (const asked of ['savepoint', 'checkpoint'] as const) {
    const token = draft.annotation(asked);
    if (token !== null) snapshot(draft, asked, token);
  }
  restartWithoutRun(draft);
}

function snapshot(draft: Draft, asked: Asked, token: string): void {
  const { status, facts } = draft;
  let request = status[asked];
  if (request?.requestToken !== token) {
    const triggerId = triggerIdOf(facts.job, asked, token);
    request = { requestToken: token, phase: 'Pending', triggerId, startedAt: draft.now };
    status[asked] = request;
    draft.tell('Normal', REASONS[asked].begun, 'Snapshot', `${asked} asked for by ${token}`);
  }
  if (request.phase === 'Completed' || request.phase === 'Failed') return;
  draft.within(POLL.soonMs);
  const { triggerId = '' } = request;
  const progress = facts.progress.get(triggerId);
  if (progress?.phase === 'Completed') completed(draft, asked, request, progress);
  else if (progress?.phase === 'Failed') failed(draft, asked, request, progress.error);
  else if (progress?.phase === 'InProgress') request.phase = 'InProgress';
  else waiting(draft, asked, request, triggerId);
}

/** The JobManager does not know of it yet, or can't be asked. */
function waiting(draft: Draft, asked: Asked, request: Request, triggerId: string): void {
  const never = neverRuns(draft);
  const step = draft.status.operation?.step;
  const ending = step === 'Stopping' || step === 'ScalingDown' || step === 'Cleaning';
  if (draft.running && !ending) {
    request.phase = 'InProgress';
    draft.act({ do: 'trigger', kind: asked, triggerId });
    return;
  }
  if (never !== null) {
    failed(draft, asked, request, never);
    return;
  }
  const waited = draft.facts.now - timeOf(request.startedAt);
  const limit = request.phase === 'InProgress' ? SILENT_LIMIT_MS : PENDING_LIMIT_MS;
  if (waited < limit) return;
  const state = draft.jobManager?.state ?? 'without a JobManager that answers';
  const fix = 'wait until its state is Running and ask again with another token';
  failed(draft, asked, request, `the job is ${state} for ${formatDuration(limit)}: ${fix}`);
}

/** Why a job will not run by itself; null: it may. */
function neverRuns(draft: Draft): string | null {
  const { status, jobManager, facts } = draft;
  const last = status.lastSavepoint === undefined ? '' : ` (its savepoint: ${status.lastSavepoint})`;
  if (facts.job.metadata.deletionTimestamp !== undefined) return 'the job is being deleted';
  if (status.resumeFrom !== undefined) {
    return `the job is suspended${last}: set spec.suspend to false and ask again`;
  }
  if (status.run === undefined) return 'the job has not been deployed: see its conditions';
  if (jobManager !== null && isTerminal(jobManager.state) && status.operation === undefined) {
    return `the job is ${jobManager.state}${last}: restart it and ask again`;
  }
  return null;
}

function completed(
  draft: Draft,
  asked: Asked,
  request: Request,
  { location, bytes }: { location: string | null; bytes: number | null },
): void {
  request.phase = 'Completed';
  if (location !== null) request.location = location;
  if (bytes !== null) request.bytes = bytes;
  if (asked === 'savepoint' && location !== null) draft.status.lastSavepoint = location;
  end(draft, request);
  draft.tell('Normal', REASONS[asked].done, 'Snapshot', `${asked} ${location ?? ''}`.trim());
}

function failed(draft: Draft, asked: Asked, request: Request, error: string): void {
  request.phase = 'Failed';
  request.error = error;
  end(draft, request);
  draft.tell('Warning', REASONS[asked].failed, 'Snapshot', error);
}

function end(draft: Draft, request: Request): void {
  request.completedAt = draft.now;
  const tookMs = Math.max(0, draft.facts.now - timeOf(request.startedAt));
  request.duration = tookMs < 60_000 ? `${tookMs / 1000}s` : formatDuration(tookMs - (tookMs % 1000));
}

/** The token of a restart that was not acted on yet; it is written down as begun. */
export function restartAsked(draft: Draft): string | null {
  const token = draft.annotation('restart');
  if (token === null || draft.status.restart?.requestToken === token) return null;
  draft.status.restart = { requestToken: token, phase: 'InProgress', startedAt: draft.now };
  return token;
}

/** Whatever operation there was is over, and the job with it begun anew or suspended. */
export function restartEnded(draft: Draft): void {
  const { restart } = draft.status;
  if (restart?.phase !== 'InProgress') return;
  restart.phase = 'Completed';
  end(draft, restart);
}

function restartWithoutRun(draft: Draft): void {
  const token = draft.annotation('restart');
  if (token === null || draft.status.restart?.requestToken === token) return;
  const never = neverRuns(draft);
  if (never === null || (draft.status.run !== undefined && !draft.status.resumeFrom)) return;
  const startedAt = draft.now;
  draft.status.restart = { requestToken: token, phase: 'Failed', startedAt, error: never };
  end(draft, draft.status.restart);
}
