/**
 * The conditions, by kstatus' rules: Ready says whether the job does its work, Reconciling and
 * Stalled are there only while they are true. Messages hold nothing that changes by itself, or each
 * look would be a write.
 */
import type { JobCondition } from '../../../worker/src/plan/status-schema.ts';
import type { Draft } from './decision.ts';
import type { PodTrouble } from './pod-trouble.ts';
import { overdue } from './running.ts';
import type { CheckedSpec } from './spec.ts';
import { isTerminal } from './stopping.ts';

export interface Cause {
  reason: string;
  message: string;
}

interface Verdict extends Cause {
  status: 'True' | 'False' | 'Unknown';
}

const is = (status: Verdict['status'], reason: string, message: string): Verdict => ({
  status,
  reason,
  message,
});

/** Checkpoints that may be missed before they are called unhealthy. */
const MISSED_INTERVALS = 3;
const SLACK_MS = 30_000;

export function conditions(draft: Draft, trouble: PodTrouble | null): JobCondition[] {
  const stalled = stalledBy(draft);
  const reconciling = reconcilingBy(draft, stalled);
  const verdicts: [string, Verdict | null][] = [
    ['Ready', readiness(draft, trouble)],
    ['Reconciling', reconciling && { status: 'True', ...reconciling }],
    ['Stalled', stalled && { status: 'True', ...stalled }],
    ['CheckpointHealthy', checkpointHealth(draft)],
    ['SavepointInProgress', savepointProgress(draft)],
  ];
  return verdicts.flatMap(([type, verdict]) =>
    verdict === null ? [] : [conditionOf(draft, type, verdict)],
  );
}

function conditionOf(draft: Draft, type: string, verdict: Verdict): JobCondition {
  const before = draft.facts.job.status?.conditions?.find((one) => one.type === type);
  const same = before?.status === verdict.status ? before.lastTransitionTime : undefined;
  return {
    type,
    ...verdict,
    observedGeneration: draft.generation,
    lastTransitionTime: same ?? draft.now,
  };
}

function readiness(draft: Draft, trouble: PodTrouble | null): Verdict {
  const { jobManager, status, deployed, facts } = draft;
  if (facts.job.metadata.deletionTimestamp) return is('False', 'Deleting', 'it is being deleted');
  if (status.resumeFrom !== undefined) return is('False', 'Suspended', 'the job is suspended');
  if (status.run === undefined) return is('False', 'NotDeployed', 'nothing is deployed yet');
  const wanted = deployed?.plan.parallelism ?? jobManager?.parallelism;
  if (jobManager !== null && draft.running && jobManager.parallelism === wanted) {
    return is('True', 'Running', `all ${wanted} subtasks run`);
  }
  if (jobManager !== null && isTerminal(jobManager.state)) return ended(jobManager.state, draft);
  if (trouble !== null) {
    return is('False', trouble.reason, `pod ${trouble.pod}: ${trouble.message}`);
  }
  if (jobManager === null) return is('False', 'JobManagerUnreachable', unreachable(draft));
  if (!draft.running) return is('False', 'NotRunning', `the job is ${jobManager.state}`);
  const some = `${jobManager.parallelism} of ${wanted} subtasks run`;
  return is('False', 'TooFewSubtasks', `${some}: the others wait for TaskManagers`);
}

function ended(state: string, draft: Draft): Verdict {
  if (state !== 'FAILED') return is('False', 'Finished', `the job has ended: ${state}`);
  return is('False', 'JobFailed', draft.jobManager?.error ?? 'the job failed');
}

export function unreachable({ facts }: Draft): string {
  const { jobManager } = facts;
  if (jobManager === null) return 'no JobManager runs yet';
  if ('unreachable' in jobManager) return jobManager.unreachable;
  return `run ${jobManager.status.run} answers still`;
}

/** What is under way does not get on by itself. */
const ENDS_RECONCILING: readonly string[] = ['NotHealthy', 'JobFailed', 'PodStuck'];

/** Why it does not get on without somebody's help; null: it does. */
export function stalledBy(draft: Draft): Cause | null {
  const { fault, blocked, status, facts, jobManager } = draft;
  if (draft.stuck !== null) return draft.stuck;
  if (facts.job.metadata.deletionTimestamp !== undefined) return null;
  if (fault !== null) return { reason: 'InvalidSpec', message: kept(draft, fault) };
  if (blocked !== null) {
    return { reason: blocked.reason, message: kept(draft, blocked.message) };
  }
  if (status.rejectedGeneration === draft.generation) {
    const why = status.lastUpgrade?.error ?? status.operation?.reason ?? 'it was not healthy';
    const fix = 'change the spec to try again';
    return { reason: 'RolledBack', message: `generation ${draft.generation}: ${why}; ${fix}` };
  }
  const refused = facts.memory.applyError;
  if (refused !== null) return { reason: 'RefusedByServer', message: refused };
  if (jobManager?.state === 'FAILED') {
    return { reason: 'JobFailed', message: jobManager.error ?? 'the job failed' };
  }
  const late = lateness(draft, draft.deployed);
  if (late !== null) return { reason: 'NotHealthy', message: late };
  return scriptRefused(draft);
}

const kept = ({ status }: Draft, message: string): string =>
  status.deployedSpec === undefined ? message : `${message} (the spec before goes on)`;

function lateness(draft: Draft, deployed: CheckedSpec | null): string | null {
  const step = draft.status.operation?.step;
  if (deployed === null || (step !== 'Deploying' && step !== 'Stabilizing')) return null;
  return overdue(draft, deployed);
}

function scriptRefused({ jobManager, deployed }: Draft): Cause | null {
  const refused = jobManager?.refusedScript ?? null;
  if (refused === null || jobManager?.scriptVersion === deployed?.scriptVersion) return null;
  const message = `spec.filter.script is refused, the one before runs on: ${refused.error}`;
  return { reason: 'ScriptRefused', message };
}

function reconcilingBy(draft: Draft, stalled: Cause | null): Cause | null {
  const { operation } = draft.status;
  if (draft.annotation('paused') === 'true') {
    if (draft.wanted === null || draft.status.deployedGeneration === draft.generation) return null;
    return { reason: 'Paused', message: 'annotation triggerjob.io/paused holds changes back' };
  }
  if (operation === undefined) return waitsForChange(draft, stalled);
  if (stalled !== null && ENDS_RECONCILING.includes(stalled.reason)) return null;
  const { kind, step, reason, error } = operation;
  const said = [reason, error].filter((one) => one !== undefined && one !== '');
  return { reason: `${kind}${step}`, message: said.join('; ') };
}

function waitsForChange({ actions }: Draft, stalled: Cause | null): Cause | null {
  if (stalled !== null || !actions.some((one) => one.do === 'rehearse')) return null;
  return { reason: 'Checking', message: 'the API server is asked about the new spec' };
}

function checkpointHealth(draft: Draft): Verdict {
  const { jobManager, deployed, facts } = draft;
  if (jobManager === null || !draft.running || deployed === null) {
    return is('Unknown', 'NotRunning', 'checkpoints are taken while the job runs');
  }
  const { lastCheckpoint, since, failedCheckpoints } = jobManager;
  const { intervalMs } = deployed.plan.checkpointing;
  const age = facts.now - Math.max(lastCheckpoint?.completedAt ?? 0, since);
  if (age > MISSED_INTERVALS * intervalMs + SLACK_MS) {
    const failing = failedCheckpoints > 0;
    const last =
      lastCheckpoint === null ? 'none has completed' : `the last is ${lastCheckpoint.id}`;
    const reason = failing ? 'CheckpointsFail' : 'CheckpointOverdue';
    return is('False', reason, `no checkpoint for ${MISSED_INTERVALS} intervals: ${last}`);
  }
  if (lastCheckpoint === null) return is('Unknown', 'NoCheckpointYet', 'the first one is awaited');
  return is('True', 'Completing', 'checkpoints complete');
}

function savepointProgress({ status }: Draft): Verdict {
  const phase = status.savepoint?.phase;
  if (phase === 'Pending' || phase === 'InProgress') {
    const { requestToken = '' } = status.savepoint ?? {};
    return is('True', phase, `asked for by annotation, token ${requestToken}`);
  }
  if (status.operation?.step === 'Stopping') {
    return is('True', 'Stopping', 'the job stops with a savepoint');
  }
  return is('False', 'None', 'no savepoint is under way');
}
