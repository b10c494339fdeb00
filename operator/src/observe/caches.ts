/** The kinds that a look at a job reads from caches. main.ts fills them, tests model them. */
import type {
  KINDS,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  StatefulSet,
} from '../kube/objects.ts';
import type { KubeObject, ObjectCache } from '../kube/port.ts';
import type { TriggerJobObject } from './facts.ts';

/** Of which nothing is read but whether they are as desired. */
type PlainKind =
  | 'Service'
  | 'ConfigMap'
  | 'ServiceAccount'
  | 'Role'
  | 'RoleBinding'
  | 'PodDisruptionBudget'
  | 'NetworkPolicy';

export type ObjectCaches = {
  TriggerJob: ObjectCache<TriggerJobObject>;
  StatefulSet: ObjectCache<StatefulSet>;
  Pod: ObjectCache<Pod>;
  PersistentVolumeClaim: ObjectCache<PersistentVolumeClaim>;
  PersistentVolume: ObjectCache<PersistentVolume>;
  Node: ObjectCache<Node>;
} & { [Kind in PlainKind & keyof typeof KINDS]: ObjectCache<KubeObject> };

/** null: a kind that no cache is kept of. */
export function cacheOf(caches: ObjectCaches, kind: string): ObjectCache<KubeObject> | null {
  return Object.hasOwn(caches, kind) ? caches[kind as keyof ObjectCaches] : null;
}
