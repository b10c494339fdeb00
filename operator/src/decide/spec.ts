/** A user's spec as decisions read it: checked, with everything filled in, or all of its faults. */
import { parseDuration } from '../../../worker/src/plan/duration.ts';
import type { JobPlan } from '../../../worker/src/plan/job-plan.ts';
import { scriptVersion } from '../../../worker/src/plan/script-version.ts';
import { type DeployedJob, deployedJob } from '../desired/deployed-job.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';

export type Fields = Readonly<Record<string, unknown>>;
export type UpgradeMode = 'savepoint' | 'last-state' | 'stateless';
export type DeletionPolicy = 'Retain' | 'Savepoint' | 'Delete';

/** The fields by which the operator alone acts. */
export interface Lifecycle {
  suspend: boolean;
  upgradeMode: UpgradeMode;
  healthTimeoutMs: number;
  rollback: boolean;
  deletionPolicy: DeletionPolicy;
  deletionTimeoutMs: number;
  lostNodeTimeoutMs: number;
}

export interface CheckedSpec extends Lifecycle {
  /** What desired/ makes objects from. */
  job: DeployedJob;
  /** As it was written. */
  written: Fields;
  /** With Flink's keys taken over and the defaults filled in. */
  complete: Fields;
  plan: JobPlan;
  /** null: the script lies in an object of the user's, which nobody but the JobManager reads. */
  scriptVersion: string | null;
}

/** `fault` names the fields and how each is put right. */
export type SpecVerdict = { spec: CheckedSpec } | { fault: string };

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export function fieldAt(value: unknown, path: string): unknown {
  let at = value;
  for (const name of path.split('.')) {
    if (!isFields(at) || !Object.hasOwn(at, name)) return undefined;
    at = at[name];
  }
  return at;
}

/** Total: also of a spec that nobody has checked, since a job with a bad one can be deleted. */
export function lifecycleOf(spec: unknown): Lifecycle {
  const duration = (path: string, otherwise: number): number => {
    const text = fieldAt(spec, path);
    return (typeof text === 'string' ? parseDuration(text) : null) ?? otherwise;
  };
  const word = <W extends string>(path: string, words: readonly [W, ...W[]]): W =>
    words.find((one) => one === fieldAt(spec, path)) ?? words[0];
  return {
    suspend: fieldAt(spec, 'suspend') === true,
    upgradeMode: word('upgradeMode', ['savepoint', 'last-state', 'stateless']),
    healthTimeoutMs: duration('upgrade.healthTimeout', 600_000),
    rollback: fieldAt(spec, 'upgrade.rollback') !== false,
    deletionPolicy: word('deletionPolicy', ['Retain', 'Savepoint', 'Delete']),
    deletionTimeoutMs: duration('deletionTimeout', 300_000),
    lostNodeTimeoutMs: duration('taskManager.localState.lostNodeTimeout', 300_000),
  };
}

export function checkSpec(object: TriggerJobObject, written: Fields): SpecVerdict {
  const { name, namespace = '', uid = '' } = object.metadata;
  const createdAt = Date.parse(object.metadata.creationTimestamp?.toString() ?? '') || 0;
  const made = deployedJob({ name, namespace, uid, createdAt }, written);
  if ('faults' in made) return { fault: made.faults.map(({ message }) => message).join('; ') };
  const { job } = made;
  const { plan } = job;
  const complete: Fields = { ...job.spec };
  const own = fieldAt(written, 'filter.script') !== undefined;
  const { language, script } = plan.filter;
  const version = own ? scriptVersion(language, script) : null;
  return {
    spec: { ...lifecycleOf(complete), job, written, complete, plan, scriptVersion: version },
  };
}

/** A spec that the status keeps as text. */
export function parseSpec(text: string): Fields {
  const value: unknown = JSON.parse(text);
  return isFields(value) ? value : {};
}
