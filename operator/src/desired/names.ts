/**
 * Names, labels, ports and paths that everything of one job agrees on. A job's name has at most 40
 * characters (worker/src/plan/schema.ts), so that the longest of these fits into a label.
 */
import type { V1OwnerReference } from '@kubernetes/client-node';
import type { KubeObject } from '../kube/port.ts';

export const API_VERSION = 'triggerjob.io/v1alpha1';
export const KIND = 'TriggerJob';

export type Role = 'jobmanager' | 'taskmanager';

/** Which TriggerJob an object belongs to. */
export interface JobIdentity {
  name: string;
  namespace: string;
  uid: string;
  /** ms; a job that is made again under its name is told from this one by it. */
  createdAt?: number;
}

/** In a cluster the same for every job: each pod has an address of its own. */
export const PORTS = { rpc: 6123, rest: 8081, shuffle: 6122, health: 8082 } as const;

export const PATHS = {
  job: '/etc/triggerjob/job',
  jobFile: 'triggerjob.yaml',
  secret: '/etc/triggerjob/secret',
  tmp: '/tmp',
  logs: '/var/log/flink',
} as const;

export const ANNOTATIONS = {
  run: 'triggerjob.io/run',
  desiredHash: 'triggerjob.io/desired-hash',
  immutableHash: 'triggerjob.io/immutable-hash',
  podsOf: 'triggerjob.io/pods-of',
  templateHash: 'triggerjob.io/template-hash',
} as const;

export const OPERATOR_NAME = 'triggerjob-operator';

export const roleName = (job: { name: string }, role: Role): string => `${job.name}-${role}`;
/** Of the volume that RocksDB is on, in a TaskManager's pod. */
export const LOCAL_STATE = 'local';
/** Of the volume that the job's Secret is on. */
export const JOB_SECRET = 'secret';
export const restServiceName = (job: { name: string }): string => `${job.name}-rest`;
export const configName = (job: { name: string }): string => `${job.name}-config`;
export const leaseName = (job: { name: string }): string => `${job.name}-leader`;

/** Of the pod whose claim is named so by its StatefulSet; null: it is no such claim of this job. */
export function localClaimOrdinal(job: { name: string }, claim: string): number | null {
  const prefix = `${LOCAL_STATE}-${roleName(job, 'taskmanager')}-`;
  const ordinal = claim.startsWith(prefix) ? claim.slice(prefix.length) : '';
  return /^\d+$/.test(ordinal) ? Number(ordinal) : null;
}

/** Host name of a JobManager pod; `pod` may be an expression that the kubelet expands. */
export function jobManagerHost(job: JobIdentity, pod: string, clusterDomain: string): string {
  return `${pod}.${serviceHost(job, roleName(job, 'jobmanager'), clusterDomain)}`;
}

export function serviceHost(job: JobIdentity, service: string, clusterDomain: string): string {
  const domain = clusterDomain === '' ? '' : `.${clusterDomain}`;
  return `${service}.${job.namespace}.svc${domain}`;
}

/** What selects the pods of a role. Never changes: a StatefulSet's selector is immutable. */
export function podSelector(job: { name: string }, role: Role): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'triggerjob',
    'app.kubernetes.io/instance': job.name,
    'app.kubernetes.io/component': role,
  };
}

export function labelsOf(job: { name: string }, role?: Role): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'triggerjob',
    'app.kubernetes.io/instance': job.name,
    ...(role === undefined ? {} : { 'app.kubernetes.io/component': role }),
    'app.kubernetes.io/managed-by': OPERATOR_NAME,
    'triggerjob.io/job': job.name,
  };
}

function ownerOf(job: JobIdentity): V1OwnerReference {
  return {
    apiVersion: API_VERSION,
    kind: KIND,
    name: job.name,
    uid: job.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** metadata of an object of the job: it goes when the job goes. */
export function metadataOf(
  job: JobIdentity,
  name: string,
  role?: Role,
  annotations?: Record<string, string>,
): KubeObject['metadata'] {
  return {
    name,
    namespace: job.namespace,
    labels: labelsOf(job, role),
    ...(annotations === undefined ? {} : { annotations }),
    ownerReferences: [ownerOf(job)],
  };
}

/** An object with the fields of its kind's type. */
export type Typed<T> = KubeObject & Omit<T, keyof KubeObject>;
