/** Writes the status before anything is done that it speaks of. */
import type { TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import type { KubeApi } from '../kube/port.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';

/**
 * The job as it is after the write. Rejects with KUBE_CONFLICT when the job is not as it was looked
 * at: then what was decided is decided anew. Rejects too when a field is not in it: an API server
 * drops in silence what its CRD does not know, and a step that is forgotten is taken again.
 */
export async function writeStatus(
  kube: Pick<KubeApi, 'patch'>,
  job: TriggerJobObject,
  status: TriggerJobStatus,
): Promise<TriggerJobObject> {
  const { apiVersion, kind, metadata } = job;
  const { namespace = '', name, resourceVersion, uid } = metadata;
  const patch = {
    metadata: { resourceVersion, uid },
    status: mergePatch(job.status ?? {}, status),
  };
  const ref = { apiVersion, kind, namespace, name };
  const written = await kube.patch<TriggerJobObject>(ref, patch, 'status');
  const lost = missing(status, written.status ?? {});
  if (lost === null) return written;
  const fix = 'apply crds/triggerjobs.yaml of this release';
  throw new Error(`status.${lost} was dropped: the CRD is older than the operator; ${fix}`);
}

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The first field of `wanted` that `found` has not; null: all are there. */
function missing(wanted: Fields, found: Fields): string | null {
  for (const [key, value] of Object.entries(wanted)) {
    if (value === undefined) continue;
    const there = found[key];
    if (there === undefined) return key;
    const below = isFields(value) && isFields(there) ? missing(value, there) : null;
    if (below !== null) return `${key}.${below}`;
  }
  return null;
}

/** RFC 7386: what turns `before` into `after`; null removes. */
function mergePatch(before: Fields, after: Fields): Fields {
  const patch: Fields = {};
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[key], after[key]];
    if (now === undefined) patch[key] = null;
    else if (isFields(old) && isFields(now)) {
      const below = mergePatch(old, now);
      if (Object.keys(below).length > 0) patch[key] = below;
    } else if (JSON.stringify(old) !== JSON.stringify(now)) patch[key] = now;
  }
  return patch;
}
