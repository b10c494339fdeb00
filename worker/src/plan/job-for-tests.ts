/** The TriggerJob that the tests of plan/ change one thing of. */
import type { Fault } from './fault.ts';
import type { JobPlan } from './job-plan.ts';
import { type ResolveOptions, resolveJob } from './resolve.ts';

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `patch` over `base`; undefined removes a field, a list or scalar replaces it. */
function merge(base: Fields, patch: Fields): Fields {
  const merged: Fields = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const old = merged[key];
    if (value === undefined) delete merged[key];
    else merged[key] = isFields(value) && isFields(old) ? merge(old, value) : value;
  }
  return merged;
}

const MINIMAL: Fields = {
  apiVersion: 'triggerjob.io/v1alpha1',
  kind: 'TriggerJob',
  metadata: { name: 'user-events' },
  spec: {
    source: { kafka: { bootstrapServers: 'kafka:9092', topic: 'events' } },
    filter: { script: 'event.triggerable' },
    action: { debug: {} },
    checkpointing: { directory: 's3://bucket/checkpoints' },
  },
};

/** The smallest valid job for a cluster, with `spec` patched into its spec. */
export function jobWith(spec: Fields = {}, rest: Fields = {}): Fields {
  return merge(MINIMAL, { ...rest, spec });
}

/** The faults of that job. */
export function faultsOf(spec: Fields, options: ResolveOptions = {}): Fault[] {
  const resolution = resolveJob(jobWith(spec), options);
  return 'faults' in resolution ? resolution.faults : [];
}

/** The plan of that job; throws its faults if it has any. */
export function planOf(spec: Fields = {}, options: ResolveOptions = {}): JobPlan {
  const resolution = resolveJob(jobWith(spec), options);
  if ('plan' in resolution) return resolution.plan;
  throw new Error(resolution.faults.map(({ message }) => message).join('\n'));
}
