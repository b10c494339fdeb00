/**
 * Which objects the operator keeps in memory, and how much of each. Of what it applies itself,
 * everything is kept: drift is found by comparing. Secrets and the jobs' own Leases are not looked
 * at: it may only create the former, and the latter change every two seconds.
 */
import type { TriggerJobStatus } from '../../worker/src/plan/status-schema.ts';
import {
  KINDS,
  type Node,
  type PersistentVolume,
  type PersistentVolumeClaim,
  type Pod,
  type StatefulSet,
} from './kube/objects.ts';
import type { KubeObject, ObjectCache } from './kube/port.ts';

/** The user's object. `spec` is what was written: nobody has checked it yet. */
export interface TriggerJobObject extends KubeObject {
  spec?: Readonly<Record<string, unknown>>;
  status?: TriggerJobStatus;
}

export interface WatchedTypes {
  TriggerJob: TriggerJobObject;
  StatefulSet: StatefulSet;
  Pod: Pod;
  PersistentVolumeClaim: PersistentVolumeClaim;
  PersistentVolume: PersistentVolume;
  Node: Node;
  Service: KubeObject;
  ConfigMap: KubeObject;
  ServiceAccount: KubeObject;
  Role: KubeObject;
  RoleBinding: KubeObject;
  PodDisruptionBudget: KubeObject;
  NetworkPolicy: KubeObject;
}
export type WatchedKind = keyof WatchedTypes & keyof typeof KINDS;
export type Caches = { [Kind in WatchedKind]: ObjectCache<WatchedTypes[Kind]> };

export interface Watched<T extends KubeObject> {
  labelSelector?: string;
  keep?: (object: T) => T;
}

const OURS = 'app.kubernetes.io/managed-by=triggerjob-operator';
/** Claims get their labels of the StatefulSet's selector, which says no more than this. */
const OF_A_JOB = 'app.kubernetes.io/name=triggerjob';

function keepPod(pod: Pod): Pod {
  const { apiVersion, kind, metadata, spec, status } = pod;
  const claims = spec?.volumes?.filter((volume) => volume.persistentVolumeClaim !== undefined);
  return {
    apiVersion,
    kind,
    metadata,
    spec: {
      containers: [],
      ...(spec?.nodeName === undefined ? {} : { nodeName: spec.nodeName }),
      ...(claims === undefined ? {} : { volumes: claims }),
    },
    ...(status === undefined ? {} : { status }),
  };
}

function keepNode(node: Node): Node {
  const { apiVersion, kind, metadata, spec, status } = node;
  return {
    apiVersion,
    kind,
    metadata,
    spec: {
      ...(spec?.unschedulable === undefined ? {} : { unschedulable: spec.unschedulable }),
      ...(spec?.taints === undefined ? {} : { taints: spec.taints }),
    },
    status: { conditions: status?.conditions?.filter(({ type }) => type === 'Ready') ?? [] },
  };
}

function keepVolume(volume: PersistentVolume): PersistentVolume {
  const { apiVersion, kind, metadata, spec, status } = volume;
  return {
    apiVersion,
    kind,
    metadata,
    spec: {
      ...(spec?.claimRef === undefined ? {} : { claimRef: spec.claimRef }),
      ...(spec?.nodeAffinity === undefined ? {} : { nodeAffinity: spec.nodeAffinity }),
      ...(spec?.storageClassName === undefined ? {} : { storageClassName: spec.storageClassName }),
    },
    status: status?.phase === undefined ? {} : { phase: status.phase },
  };
}

export const WATCHED: { [Kind in WatchedKind]: Watched<WatchedTypes[Kind]> } = {
  TriggerJob: {},
  StatefulSet: { labelSelector: OURS },
  Pod: { labelSelector: OF_A_JOB, keep: keepPod },
  PersistentVolumeClaim: { labelSelector: OF_A_JOB },
  PersistentVolume: { keep: keepVolume },
  Node: { keep: keepNode },
  Service: { labelSelector: OURS },
  ConfigMap: { labelSelector: OURS },
  ServiceAccount: { labelSelector: OURS },
  Role: { labelSelector: OURS },
  RoleBinding: { labelSelector: OURS },
  PodDisruptionBudget: { labelSelector: OURS },
  NetworkPolicy: { labelSelector: OURS },
};

/** namespace/name of the TriggerJob that an object belongs to; null: it says none. */
export function jobKeyOf(object: KubeObject): string | null {
  const { namespace, name, labels, ownerReferences } = object.metadata;
  if (namespace === undefined) return null;
  if (object.kind === KINDS.TriggerJob.kind) return `${namespace}/${name}`;
  const owner = ownerReferences?.find((candidate) => candidate.kind === KINDS.TriggerJob.kind);
  const job =
    owner?.name ?? labels?.['triggerjob.io/job'] ?? labels?.['app.kubernetes.io/instance'];
  return job === undefined ? null : `${namespace}/${job}`;
}

const isReady = (node: Node): boolean =>
  node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ??
  false;

export const readinessChanged = (node: Node, before: Node): boolean =>
  isReady(node) !== isReady(before);

/** Jobs with a volume that only this node has. */
export function jobsWithDiskOn(nodeName: string, caches: Caches): string[] {
  const keys = new Set<string>();
  for (const { spec } of caches.PersistentVolume.list()) {
    const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
    const bound = terms.some((term) =>
      [...(term.matchExpressions ?? []), ...(term.matchFields ?? [])].some((expression) =>
        expression.values?.includes(nodeName),
      ),
    );
    const { namespace = '', name = '' } = spec?.claimRef ?? {};
    const claim = bound ? caches.PersistentVolumeClaim.get(namespace, name) : undefined;
    const key = claim === undefined ? null : jobKeyOf(claim);
    if (key !== null) keys.add(key);
  }
  return [...keys];
}
