/**
 * The kinds that the operator reads or writes: their types and where they lie in the API. Types are
 * those of @kubernetes/client-node, as they are on the wire: its classes speak of Date where JSON
 * has text.
 */
import type {
  EventsV1Event,
  V1ConfigMap,
  V1Lease,
  V1NetworkPolicy,
  V1Node,
  V1ObjectMeta,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1Pod,
  V1PodDisruptionBudget,
  V1Role,
  V1RoleBinding,
  V1Secret,
  V1Service,
  V1ServiceAccount,
  V1StatefulSet,
} from '@kubernetes/client-node';
import type { KubeObject, ObjectRef } from './port.ts';

/**
 * A type of @kubernetes/client-node as JSON carries it: times are RFC 3339 text, and fields that
 * its generator took for reserved words (`_from`) have their own names.
 */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? Wire<Item>[]
    : T extends object
      ? { [Key in keyof T as Key extends `_${infer Name}` ? Name : Key]: Wire<T[Key]> }
      : T;

type Of<T> = Omit<Wire<T>, 'apiVersion' | 'kind' | 'metadata'> & KubeObject;

export type ObjectMeta = Wire<V1ObjectMeta>;
export type StatefulSet = Of<V1StatefulSet>;
export type Service = Of<V1Service>;
export type ConfigMap = Of<V1ConfigMap>;
export type Secret = Of<V1Secret>;
export type ServiceAccount = Of<V1ServiceAccount>;
export type Role = Of<V1Role>;
export type RoleBinding = Of<V1RoleBinding>;
export type PodDisruptionBudget = Of<V1PodDisruptionBudget>;
export type NetworkPolicy = Of<V1NetworkPolicy>;
export type Pod = Of<V1Pod>;
export type Node = Of<V1Node>;
export type PersistentVolume = Of<V1PersistentVolume>;
export type PersistentVolumeClaim = Of<V1PersistentVolumeClaim>;
export type Lease = Of<V1Lease>;
export type Event = Of<EventsV1Event>;

/** One kind of the API. */
export interface Kind {
  apiVersion: string;
  kind: string;
  plural: string;
  namespaced: boolean;
}

const kind = (apiVersion: string, name: string, plural: string, namespaced = true): Kind => ({
  apiVersion,
  kind: name,
  plural,
  namespaced,
});

export const KINDS = {
  TriggerJob: kind('triggerjob.io/v1alpha1', 'TriggerJob', 'triggerjobs'),
  StatefulSet: kind('apps/v1', 'StatefulSet', 'statefulsets'),
  Service: kind('v1', 'Service', 'services'),
  ConfigMap: kind('v1', 'ConfigMap', 'configmaps'),
  Secret: kind('v1', 'Secret', 'secrets'),
  ServiceAccount: kind('v1', 'ServiceAccount', 'serviceaccounts'),
  Role: kind('rbac.authorization.k8s.io/v1', 'Role', 'roles'),
  RoleBinding: kind('rbac.authorization.k8s.io/v1', 'RoleBinding', 'rolebindings'),
  PodDisruptionBudget: kind('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets'),
  NetworkPolicy: kind('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies'),
  Pod: kind('v1', 'Pod', 'pods'),
  Node: kind('v1', 'Node', 'nodes', false),
  PersistentVolume: kind('v1', 'PersistentVolume', 'persistentvolumes', false),
  PersistentVolumeClaim: kind('v1', 'PersistentVolumeClaim', 'persistentvolumeclaims'),
  Lease: kind('coordination.k8s.io/v1', 'Lease', 'leases'),
  Event: kind('events.k8s.io/v1', 'Event', 'events'),
} as const satisfies Record<string, Kind>;

function kindOf(ref: { apiVersion: string; kind: string }): Kind {
  const found = Object.values(KINDS).find(
    (known) => known.kind === ref.kind && known.apiVersion === ref.apiVersion,
  );
  if (found === undefined) throw new Error(`unknown kind ${ref.apiVersion} ${ref.kind}`);
  return found;
}

/** Path of a collection; no namespace = all of them. */
export function collectionPath(of: Kind, namespace?: string): string {
  const group = of.apiVersion.includes('/') ? `/apis/${of.apiVersion}` : `/api/${of.apiVersion}`;
  const scope =
    of.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${group}${scope}/${of.plural}`;
}

/** Path of the collection that an object is created in. */
export function parentPath(ref: { apiVersion: string; kind: string; namespace?: string }): string {
  const of = kindOf(ref);
  if (of.namespaced && ref.namespace === undefined) {
    throw new Error(`a ${ref.kind} needs a namespace`);
  }
  return collectionPath(of, ref.namespace);
}

export function objectPath(ref: ObjectRef): string {
  return `${parentPath(ref)}/${encodeURIComponent(ref.name)}`;
}

/** The name of an object in words: `StatefulSet ns/name`. */
export function nameOf(ref: { kind: string; namespace?: string; name: string }): string {
  return `${ref.kind} ${ref.namespace === undefined ? '' : `${ref.namespace}/`}${ref.name}`;
}

export function refOf(object: KubeObject): ObjectRef {
  const { namespace, name } = object.metadata;
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    ...(namespace === undefined ? {} : { namespace }),
    name,
  };
}
