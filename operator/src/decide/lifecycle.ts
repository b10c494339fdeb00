/** Which operation is begun, how far each one is, and what a change of mind makes of it. */
import type { JobOperation } from '../../../worker/src/plan/status-schema.ts';
import { type Draft, POLL } from './decision.ts';
import {
  beginRun,
  beginScale,
  beginStop,
  carriedStart,
  enter,
  finish,
  setDeployed,
  startOf,
} from './operation.ts';
import { rehearsed } from './rehearsal.ts';
import { restartAsked, restartEnded } from './requests.ts';
import { deploying, stabilizing } from './running.ts';
import type { CheckedSpec } from './spec.ts';
import { type SpecChange, specChange, stateFault } from './spec-change.ts';
import { taskManagersHeld } from './steady.ts';
import { isTerminal, scaledDown, stopping } from './stopping.ts';

/** Steps that one look may take: each is decided by facts that hold for all of them. */
const MAX_STEPS = 4;

export function live(draft: Draft): void {
  for (let step = 0; step < MAX_STEPS; step++) {
    const before = JSON.stringify(draft.status.operation ?? null);
    const { operation } = draft;
    if (operation === null) begin(draft);
    else advance(draft, operation);
    if (JSON.stringify(draft.status.operation ?? null) === before) return;
  }
}

function begin(draft: Draft): void {
  const { status, wanted } = draft;
  if (status.run === undefined || status.resumeFrom !== undefined) {
    if (wanted !== null && !wanted.suspend) start(draft, wanted);
    return;
  }
  const { deployed } = draft;
  if (wanted?.suspend) {
    beginStop(draft, 'Suspend', wanted.upgradeMode, 'spec.suspend is true');
    return;
  }
  const change = pendingChange(draft, deployed);
  if (change !== null && wanted !== null) {
    if (apply(draft, wanted, change)) return;
  }
  restart(draft);
}

/** As asked for by annotation: true if it was, and is begun. */
function restart(draft: Draft): boolean {
  const current = draft.wanted ?? draft.deployed;
  const token = current === null ? null : restartAsked(draft);
  if (token === null || current === null) return false;
  beginStop(draft, 'Restart', modeOf(current), `annotation triggerjob.io/restart=${token}`);
  return true;
}

/** A restart is no wish for an empty state, whatever the spec says of changes. */
const modeOf = (spec: CheckedSpec) =>
  spec.upgradeMode === 'stateless' ? 'last-state' : spec.upgradeMode;

/** The first run, or the first after a suspension. */
function start(draft: Draft, wanted: CheckedSpec): void {
  const { status, generation } = draft;
  const { resumeFrom } = status;
  const last = draft.deployed;
  if (resumeFrom === undefined || last === null) {
    if (!rehearsed(draft, wanted)) return;
    const fresh = { mode: 'fresh', savepoint: null } as const;
    beginRun(draft, { kind: 'Deploy', spec: wanted, generation }, startOf(wanted, fresh));
    return;
  }
  const carried = carriedStart(resumeFrom.mode, resumeFrom.savepoint, wanted);
  const asked = specChange(last, wanted)?.restore != null;
  const begins = asked ? startOf(wanted, carried) : carried;
  if (begins.mode !== 'stateless') {
    const fault = stateFault(last, wanted, begins.savepoint !== null);
    if (fault !== null) {
      draft.blocked = { reason: 'InvalidChange', message: fault };
      return;
    }
  }
  if (!rehearsed(draft, wanted)) return;
  beginRun(draft, { kind: 'Resume', spec: wanted, generation }, begins);
}

/** What the user wants otherwise than it runs; null: nothing, or nothing that is tried. */
function pendingChange(draft: Draft, deployed: CheckedSpec | null): SpecChange | null {
  const { wanted, status, generation } = draft;
  if (wanted === null || generation === status.rejectedGeneration) return null;
  if (deployed === null) {
    // What runs is nothing that this operator would accept: the whole of it is replaced.
    return { class: 'savepoint-restart', paths: ['spec'], restore: null };
  }
  return specChange(deployed, wanted);
}

/** A JobManager of this release is not put before TaskManagers of another: all of them change. */
const endsRun = (draft: Draft, change: SpecChange): boolean =>
  change.class === 'savepoint-restart' || (change.class === 'rolling' && taskManagersHeld(draft));

/** Whether anything was begun or taken over. */
function apply(draft: Draft, wanted: CheckedSpec, change: SpecChange): boolean {
  const { deployed, generation } = draft;
  const reason = `changed: ${change.paths.map((path) => `spec.${path}`).join(', ')}`;
  if (!endsRun(draft, change)) {
    setDeployed(draft, wanted, generation);
    if (change.class === 'rolling') draft.status.podsGeneration = generation;
    delete draft.status.rejectedGeneration;
    draft.tell('Normal', 'SpecChanged', 'Upgrade', `${reason} (${change.class})`);
    if (change.class === 'scale') beginScale(draft, 'Scale', reason);
    else if (change.class === 'rolling') beginScale(draft, 'Upgrade', reason);
    return true;
  }
  const mode = change.class === 'rolling' ? modeOf(wanted) : wanted.upgradeMode;
  const stateless = mode === 'stateless';
  const carried = mode === 'savepoint' || change.restore !== null;
  const fault = stateless || deployed === null ? null : stateFault(deployed, wanted, carried);
  if (fault !== null) {
    draft.blocked = { reason: 'InvalidChange', message: fault };
    return false;
  }
  if (!rehearsed(draft, wanted)) return false;
  delete draft.status.rejectedGeneration;
  draft.tell('Normal', 'SpecChanged', 'Upgrade', `${reason} (savepoint-restart)`);
  beginStop(draft, 'Upgrade', mode, reason);
  return true;
}

function advance(draft: Draft, operation: JobOperation): void {
  const { step } = operation;
  if (step === 'Stopping' || step === 'ScalingDown') {
    redirect(draft, operation);
    if (step === 'Stopping') stopping(draft, operation, () => lastStateAllowed(draft));
    else if (scaledDown(draft, operation)) afterStop(draft, operation);
    return;
  }
  if (changeOfMind(draft, operation)) return;
  const { deployed, jobManager } = draft;
  // What has ended gets no healthier by waiting.
  if (jobManager !== null && isTerminal(jobManager.state) && restart(draft)) return;
  draft.within(POLL.busyMs);
  if (deployed === null) return;
  if (step === 'Deploying') deploying(draft, deployed);
  else stabilizing(draft, deployed, operation);
  if (draft.status.operation === undefined) restartEnded(draft);
}

/** While a run ends, what comes after it may still change. */
function redirect(draft: Draft, operation: JobOperation): void {
  const { wanted } = draft;
  if (wanted === null || operation.kind === 'Rollback') return;
  if (wanted.suspend) operation.kind = 'Suspend';
  else if (operation.kind === 'Suspend') operation.kind = 'Restart';
  operation.generation = draft.generation;
  const waits = operation.step === 'Stopping' && operation.mode === 'savepoint';
  if (!waits || wanted.upgradeMode === 'savepoint' || operation.kind === 'Restart') return;
  operation.mode = wanted.upgradeMode;
  enter(draft, 'ScalingDown');
}

/** Whether the newest checkpoint lies where the next run looks for it. */
function lastStateAllowed(draft: Draft): boolean {
  const { wanted, deployed } = draft;
  if (wanted === null || deployed === null) return true;
  return stateFault(deployed, wanted, false) === null;
}

function afterStop(draft: Draft, operation: JobOperation): void {
  const { status, wanted, generation } = draft;
  const { kind, mode = 'last-state', savepoint } = operation;
  if (kind === 'Suspend') {
    status.resumeFrom = { mode };
    if (savepoint !== undefined) status.resumeFrom.savepoint = savepoint;
    draft.tell('Normal', 'Suspended', 'Suspend', `suspended, to go on from ${savepoint ?? mode}`);
    finish(draft);
    return;
  }
  if (kind === 'Rollback') {
    const stable = draft.kept(status.stableSpec);
    if (stable === null) return;
    const target = { kind, spec: stable, generation: status.stableGeneration };
    beginRun(draft, target, { mode: 'last-state', savepoint: null });
    return;
  }
  const { deployed } = draft;
  const rejected = generation === status.rejectedGeneration;
  const change = deployed === null || wanted === null ? null : specChange(deployed, wanted);
  let target = wanted !== null && !rejected ? wanted : deployed;
  if (target === null) return;
  let begins = carriedStart(mode, savepoint, target);
  if (change?.restore != null && target === wanted) begins = startOf(target, begins);
  if (deployed !== null && target !== deployed && begins.mode !== 'stateless') {
    const fault = stateFault(deployed, target, begins.savepoint !== null);
    if (fault !== null) {
      draft.blocked = { reason: 'InvalidChange', message: fault };
      target = deployed;
      begins = carriedStart(mode === 'stateless' ? 'last-state' : mode, savepoint, deployed);
    }
  }
  const deployedGeneration = target === wanted ? generation : status.deployedGeneration;
  beginRun(draft, { kind, spec: target, generation: deployedGeneration }, begins);
}

/** A run that is being started, and another wish: true if something else was begun. */
function changeOfMind(draft: Draft, operation: JobOperation): boolean {
  const { wanted, deployed } = draft;
  if (wanted?.suspend) {
    beginStop(draft, 'Suspend', wanted.upgradeMode, 'spec.suspend is true');
    return true;
  }
  const change = pendingChange(draft, deployed);
  if (change === null || wanted === null) return false;
  if (endsRun(draft, change)) return apply(draft, wanted, change);
  setDeployed(draft, wanted, draft.generation);
  if (change.class === 'rolling') draft.status.podsGeneration = draft.generation;
  operation.generation = draft.generation;
  if (operation.kind === 'Scale') enter(draft, 'Deploying');
  return false;
}
