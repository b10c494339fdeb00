/** A run from the moment it is decided until it is known to be healthy, or taken back. */
import type { JobOperation } from '../../../worker/src/plan/status-schema.ts';
import { type Draft, POLL, timeOf, triggerIdOf } from './decision.ts';
import { holds } from './drift.ts';
import { withHeldPods } from './held-pods.ts';
import { beginRollback, enter, finish } from './operation.ts';
import { type CheckedSpec, fieldAt } from './spec.ts';
import { deploymentOf } from './steady.ts';
import { isTerminal } from './stopping.ts';

/** Objects are applied by steady.ts; here is only waited for whom they start. */
export function deploying(draft: Draft, deployed: CheckedSpec): void {
  draft.within(POLL.busyMs);
  if (draft.jobManager !== null) enter(draft, 'Stabilizing');
  else judgeDelay(draft, deployed);
}

/**
 * Healthy: all subtasks run, and a checkpoint has completed since they last began to. A job that
 * fails again and again, or whose store or webhook does not bear the new spec, never gets there.
 */
export function stabilizing(draft: Draft, deployed: CheckedSpec, operation: JobOperation): void {
  draft.within(POLL.busyMs);
  const { jobManager, status } = draft;
  if (jobManager === null) {
    judgeDelay(draft, deployed);
    return;
  }
  if (isTerminal(jobManager.state)) {
    // Nobody takes a number of pods back: a scale of what has failed is over.
    if (jobManager.state === 'FAILED' && operation.kind !== 'Scale') {
      takeBack(draft, deployed, `the job failed: ${jobManager.error ?? 'no reason given'}`);
    } else finish(draft);
    return;
  }
  const whole = draft.running && jobManager.parallelism === deployed.plan.parallelism;
  if (operation.kind === 'Scale') {
    if (whole && podsSettled(draft, deployed)) finish(draft);
    return;
  }
  const { lastCheckpoint, since, numRestarts } = jobManager;
  const settled = whole && podsSettled(draft, deployed);
  const from = Math.max(since, timeOf(operation.stepStartedAt));
  if (settled && lastCheckpoint !== null && lastCheckpoint.completedAt >= from) {
    if (status.deployedSpec !== undefined) status.stableSpec = status.deployedSpec;
    if (status.deployedGeneration !== undefined) {
      status.stableGeneration = status.deployedGeneration;
    }
    finish(draft);
    return;
  }
  if (draft.running) {
    // The interval may be longer than the health timeout.
    const token = `${status.run}-${numRestarts}-${operation.startedAt}`;
    const triggerId = triggerIdOf(draft.facts.job, 'stable', token);
    draft.act({ do: 'trigger', kind: 'checkpoint', triggerId });
    draft.within(POLL.soonMs);
  }
  judgeDelay(draft, deployed);
}

/** The StatefulSets are as desired, and every pod is of the newest template. */
function podsSettled(draft: Draft, deployed: CheckedSpec): boolean {
  const objects = draft.settings.desired(deployed, deploymentOf(draft, deployed));
  return (['jobmanager', 'taskmanager'] as const).every((role) => {
    const set = draft.statefulSet(role);
    const { name } = draft.refOf(role);
    const wanted = objects.find((one) => one.kind === 'StatefulSet' && one.metadata.name === name);
    if (set === null || wanted === undefined) return false;
    if (!holds(withHeldPods(draft, wanted, set), set)) return false;
    const {
      observedGeneration = 0,
      replicas = 0,
      currentRevision,
      updateRevision,
    } = set.status ?? {};
    return (
      replicas === set.spec?.replicas &&
      observedGeneration >= (set.metadata.generation ?? 0) &&
      currentRevision === updateRevision
    );
  });
}

/** What a run that is not healthy by now is told of it; null while it still has time. */
export function overdue(draft: Draft, deployed: CheckedSpec): string | null {
  const { status, facts } = draft;
  if (draft.operation?.kind === 'Scale') return null;
  // A rolling change is of a run that may be old.
  const begun = Math.max(timeOf(status.deployedAt), timeOf(status.operation?.startedAt));
  const waited = facts.now - begun;
  if (waited < deployed.healthTimeoutMs) return null;
  const limit = fieldAt(deployed.complete, 'upgrade.healthTimeout') ?? '10m';
  const missing =
    draft.jobManager === null
      ? 'its JobManager does not answer'
      : draft.running
        ? 'no checkpoint has completed'
        : `the job is ${draft.jobManager.state}`;
  return `run ${status.run} is not healthy after ${limit}: ${missing}`;
}

function judgeDelay(draft: Draft, deployed: CheckedSpec): void {
  const refused = draft.facts.memory.applyError;
  if (refused !== null) takeBack(draft, deployed, `the API server refuses it: ${refused}`);
  const late = overdue(draft, deployed);
  if (late !== null && draft.operation?.kind !== 'Rollback') takeBack(draft, deployed, late);
}

/** To the spec that was healthy last, where there is another one and the user did not forbid it. */
function takeBack(draft: Draft, deployed: CheckedSpec, reason: string): void {
  const { status } = draft;
  const kind = draft.operation?.kind;
  if (kind === 'Rollback' || kind === 'Scale' || !deployed.rollback) return;
  if (status.stableSpec === undefined || status.stableSpec === status.deployedSpec) return;
  // What the user asked to go back to is not given up for what they left.
  const asked = fieldAt(deployed.complete, 'restore.savepoint');
  if (asked !== '' && asked === status.runFrom?.savepoint) return;
  if (draft.kept(status.stableSpec) === null) return;
  beginRollback(draft, reason);
}
