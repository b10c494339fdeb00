/** Writes the status before anything is done that it speaks of. */
import type { TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import type { KubeApi } from '../kube/port.ts';
import type { TriggerJobObject } from '../observe/facts.ts';

/**
 * The job as it is after the write. Rejects with KUBE_CONFLICT when the job is not as it was looked
 * at: then what was decided is decided anew.
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
  return await kube.patch<TriggerJobObject>({ apiVersion, kind, namespace, name }, patch, 'status');
}

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** RFC 7386: what turns `before` into `after`; null removes. */
export function mergePatch(before: Fields, after: Fields): Fields {
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
