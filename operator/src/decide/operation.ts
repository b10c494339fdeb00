/**
 * What the operator does over several steps. The step that is under way is in the status, and
 * written there before anything of it is done; so whoever reads it, after whatever crash, does the
 * same again.
 *
 *     Deploy, Resume                       Deploying -> Stabilizing
 *     Upgrade, Restart     Stopping -> ScalingDown -> Deploying -> Stabilizing
 *     Rollback                         ScalingDown -> Deploying -> Stabilizing
 *     Suspend              Stopping -> ScalingDown
 *     Scale                                Deploying -> Stabilizing   (the same run)
 *
 * L1 A run's number is in the status before any object speaks of it, and never goes back.
 * L2 The next run is deployed only when no pod of the last one is left.
 * L3 What a run begins with is decided once and kept (`runFrom`). Empty only if the spec that is
 *    deployed says upgradeMode: stateless, or nothing ever ran (I6).
 * L4 What is deployed is `deployedSpec`, never the user's spec as it may stand just now.
 */
import type { JobOperation } from '../../../worker/src/plan/status-schema.ts';
import { type Draft, timeOf } from './decision.ts';
import { type CheckedSpec, fieldAt, type UpgradeMode } from './spec.ts';

export type Kind = JobOperation['kind'];
type Mode = NonNullable<JobOperation['mode']>;
interface Start {
  mode: Mode | 'fresh';
  savepoint: string | null;
}

export function enter(draft: Draft, step: JobOperation['step']): void {
  const { operation } = draft.status;
  if (operation === undefined) return;
  operation.step = step;
  operation.stepStartedAt = draft.now;
  delete operation.error;
}

function begin(draft: Draft, kind: Kind, step: JobOperation['step'], reason: string): JobOperation {
  const operation: JobOperation = {
    kind,
    step,
    generation: draft.generation,
    startedAt: draft.now,
    stepStartedAt: draft.now,
    reason,
  };
  draft.status.operation = operation;
  return operation;
}

/** The first step of what ends the run: its state goes by `mode`. */
export function beginStop(draft: Draft, kind: Kind, mode: UpgradeMode, reason: string): void {
  begin(draft, kind, mode === 'savepoint' ? 'Stopping' : 'ScalingDown', reason).mode = mode;
}

/** Another number of pods for the run that is there. */
export function beginScale(draft: Draft, kind: 'Scale' | 'Upgrade', reason: string): void {
  begin(draft, kind, 'Deploying', reason);
}

/** A new run with the spec that was healthy last, from the newest checkpoint. */
export function beginRollback(draft: Draft, reason: string): void {
  const { status } = draft;
  if (status.deployedGeneration !== undefined)
    status.rejectedGeneration = status.deployedGeneration;
  begin(draft, 'Rollback', 'ScalingDown', reason).mode = 'last-state';
  draft.tell('Warning', 'Rollback', 'Rollback', `${reason}: back to the spec that was healthy`);
}

/** The next run (L1): what it is and what it begins with, for good. */
export function beginRun(
  draft: Draft,
  target: { kind: Kind; spec: CheckedSpec; generation: number | undefined },
  start: Start,
): void {
  const { status } = draft;
  const operation =
    status.operation ?? begin(draft, target.kind, 'Deploying', `generation ${draft.generation}`);
  operation.kind = target.kind;
  status.run = (status.run ?? 0) + 1;
  status.deployedAt = draft.now;
  const begins = start.mode === 'last-state' && !hasStored(draft) ? 'fresh' : start.mode;
  status.runFrom = { mode: begins };
  if (start.savepoint !== null) status.runFrom.savepoint = start.savepoint;
  setDeployed(draft, target.spec, target.generation);
  delete status.resumeFrom;
  if (start.mode !== 'fresh') operation.mode = start.mode;
  enter(draft, 'Deploying');
  const from =
    start.savepoint ??
    { fresh: 'nothing', 'last-state': 'the newest checkpoint' }[
      start.mode as 'fresh' | 'last-state'
    ];
  const note = `run ${status.run} begins from ${from ?? 'no state, as upgradeMode says'}`;
  draft.tell('Normal', 'RunDeployed', 'Deploy', note);
}

/** Whether any run is known to have stored a state; a run that does not find it is refused (I6). */
const hasStored = ({ status, jobManager }: Draft): boolean =>
  (status.lastCheckpoint ?? status.stableSpec ?? status.lastSavepoint) !== undefined ||
  jobManager?.lastCheckpoint != null;

export function setDeployed(draft: Draft, spec: CheckedSpec, generation: number | undefined): void {
  draft.status.deployedSpec = JSON.stringify(spec.written);
  if (generation === undefined) delete draft.status.deployedGeneration;
  else draft.status.deployedGeneration = generation;
}

/** What a first run, or one whose user names another savepoint, begins with. */
export function startOf(spec: CheckedSpec, otherwise: Start): Start {
  const savepoint = fieldAt(spec.complete, 'restore.savepoint');
  if (typeof savepoint !== 'string' || savepoint === '') return otherwise;
  return { mode: 'savepoint', savepoint };
}

/**
 * What a run begins with after one that ended by `mode`. Without state only if the spec that is to
 * be deployed says so itself (L3).
 */
export function carriedStart(mode: Mode, savepoint: string | undefined, spec: CheckedSpec): Start {
  if (savepoint !== undefined && savepoint !== '') return { mode: 'savepoint', savepoint };
  if (mode === 'stateless' && spec.upgradeMode === 'stateless') {
    return { mode: 'stateless', savepoint: null };
  }
  return { mode: 'last-state', savepoint: null };
}

export function finish(draft: Draft): void {
  const { status } = draft;
  const { operation } = status;
  if (operation === undefined) return;
  delete status.operation;
  if (operation.kind === 'Deploy' || operation.kind === 'Suspend') return;
  const { kind, mode, generation, startedAt, stoppedAt } = operation;
  const since = draft.jobManager?.since ?? draft.facts.now;
  status.lastUpgrade = {
    kind,
    ...(mode === undefined ? {} : { mode }),
    ...(generation === undefined ? {} : { generation }),
    ...(startedAt === undefined ? {} : { startedAt }),
    completedAt: draft.now,
    ...(stoppedAt === undefined ? {} : { pauseMs: Math.max(0, since - timeOf(stoppedAt)) }),
    ...(kind === 'Rollback' ? { rolledBack: true, error: operation.reason ?? '' } : {}),
  };
}
