/** PodDisruptionBudgets: a drained node takes one pod of a role at a time. */
import type { V1PodDisruptionBudget } from '@kubernetes/client-node';
import type { Typed } from './names.ts';
import { type JobIdentity, metadataOf, podSelector, type Role, roleName } from './names.ts';

/**
 * By what may be missing, not by what must be there: a single JobManager can still be moved, its
 * tasks run on meanwhile. A pod that is not healthy never holds up a drain.
 */
export function disruptionBudget(job: JobIdentity, role: Role): Typed<V1PodDisruptionBudget> {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: metadataOf(job, roleName(job, role), role),
    spec: {
      maxUnavailable: 1,
      selector: { matchLabels: podSelector(job, role) },
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
    },
  };
}
