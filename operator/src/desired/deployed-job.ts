/** The TriggerJob of a deployment: as its user wrote it, and with everything filled in. */
import type { Fault } from '../../../worker/src/plan/fault.ts';
import type { JobPlan } from '../../../worker/src/plan/job-plan.ts';
import { resolveJob } from '../../../worker/src/plan/resolve.ts';
import type { CompleteTriggerJob } from '../../../worker/src/plan/schema.ts';
import { API_VERSION, type JobIdentity, KIND } from './names.ts';

export interface DeployedJob extends JobIdentity {
  /** As the user wrote it; the JobManager reads it from the ConfigMap. */
  written: Readonly<Record<string, unknown>>;
  /** With Flink's keys and the defaults. */
  spec: CompleteTriggerJob['spec'];
  plan: JobPlan;
}

/** The JobManager reads the script of a ConfigMap or file itself; here only its place matters. */
const SCRIPT_ELSEWHERE = { text: 'true', origin: 'spec.filter' };

/** The job that `spec` describes, or all that is wrong with it. */
export function deployedJob(
  identity: JobIdentity,
  written: Readonly<Record<string, unknown>>,
): { job: DeployedJob } | { faults: Fault[] } {
  const { name, namespace } = identity;
  const document = { apiVersion: API_VERSION, kind: KIND, metadata: { name, namespace } };
  const resolution = resolveJob({ ...document, spec: written }, { script: SCRIPT_ELSEWHERE });
  if ('faults' in resolution) return resolution;
  const { plan, job } = resolution;
  return { job: { ...identity, written, spec: job.spec, plan } };
}
