/**
 * What Kubernetes is to hold for a job: a pure function from the deployed TriggerJob, its
 * deployment and the operator's settings to objects with only the fields that are ours, for
 * server-side apply. In an order in which each finds what it needs.
 *
 *     ServiceAccounts, Role, RoleBinding   access.ts
 *     Secret (create only)                 secret.ts
 *     ConfigMap                            job-config.ts
 *     Services                             services.ts
 *     NetworkPolicies                      network-policy.ts
 *     PodDisruptionBudgets                 disruption-budget.ts
 *     StatefulSets                         stateful-sets.ts: pod.ts, volumes.ts, resources.ts
 *
 * The pods' templates depend on everything that a restart is needed for, and on nothing else: a
 * changed script or number of TaskManagers leaves them as they are, byte for byte.
 */
import { createHash } from 'node:crypto';
import type { V1StatefulSet } from '@kubernetes/client-node';
import type { KubeObject } from '../kube/port.ts';
import { accessObjects } from './access.ts';
import type { DeployedJob } from './deployed-job.ts';
import { disruptionBudget } from './disruption-budget.ts';
import { jobConfig } from './job-config.ts';
import { ANNOTATIONS, type Typed } from './names.ts';
import { networkPolicies, type RestClients } from './network-policy.ts';
import { type HmacKeys, jobSecret, secretName } from './secret.ts';
import { services } from './services.ts';
import { jobManagers, taskManagers } from './stateful-sets.ts';

export interface OperatorSettings {
  /** Image of the pods of a job that names none. */
  workerImage: string;
  hmacKeys: HmacKeys;
  /** Such as cluster.local; empty: names end in .svc, and the pods' search path does the rest. */
  clusterDomain: string;
  operatorNamespace: string;
  restClients: RestClients;
}

export interface Deployment {
  /** Greater than that of every deployment before it (`--run`). */
  run: number;
  /** Pods of each role; left out: as many as the spec says. 0 keeps everything else. */
  replicas?: { jobManagers?: number; taskManagers?: number };
  /** Begins without state. Only ever by the user's own word (I6). */
  stateless?: boolean;
  /** No deployment before it is known to have stored anything. */
  first?: boolean;
  /** Generation of the spec for which pods were last to be made anew within the run. */
  podsGeneration?: number;
  /** Savepoint that it begins with, in place of spec.restore.savepoint. */
  savepoint?: string | null;
}

export function desiredObjects(
  job: DeployedJob,
  deployment: Deployment,
  settings: OperatorSettings,
): KubeObject[] {
  const { replicas = {}, savepoint = null } = deployment;
  const { hmacKeys, operatorNamespace, restClients, clusterDomain } = settings;
  const pods = {
    image: job.spec.image ?? settings.workerImage,
    secretName: secretName(job, hmacKeys),
    clusterDomain,
  };
  const jobManagerCount = replicas.jobManagers ?? job.plan.jobManagers;
  const taskManagerCount = replicas.taskManagers ?? job.plan.taskManagers;
  const { run, podsGeneration = 0 } = deployment;
  const podsOf = hashOf([run, podsGeneration, pods.secretName]);
  const fenced = job.spec.networkPolicy.enabled;
  const objects: KubeObject[] = [
    ...accessObjects(job),
    jobSecret(job, hmacKeys),
    jobConfig(job, savepoint),
    ...services(job),
    ...(fenced ? networkPolicies(job, operatorNamespace, restClients) : []),
    disruptionBudget(job, 'jobmanager'),
    disruptionBudget(job, 'taskmanager'),
    frozen(jobManagers(job, { ...pods, replicas: jobManagerCount }, deployment), podsOf),
    frozen(taskManagers(job, { ...pods, replicas: taskManagerCount }), podsOf),
  ];
  return objects.map(stamped);
}

/** To be created, and never touched again: the operator has no other right to a Secret. */
export function isCreateOnly(object: KubeObject): boolean {
  return object.kind === 'Secret';
}

/**
 * With a hash of what the API server refuses to change in a StatefulSet. Where an existing one has
 * another hash, it must be deleted (its pods with it) before this one can be applied. And with what
 * the pods were made for: their template may differ only where that does (decide/held-pods.ts).
 */
function frozen(set: Typed<V1StatefulSet>, podsOf: string): Typed<V1StatefulSet> {
  const { serviceName, podManagementPolicy, selector, volumeClaimTemplates = [] } = set.spec!;
  const fixed = { serviceName, podManagementPolicy, selector, volumeClaimTemplates };
  const known = annotated(set, ANNOTATIONS.immutableHash, hashOf(fixed));
  const template = hashOf(set.spec!.template);
  return annotated(
    annotated(known, ANNOTATIONS.templateHash, template),
    ANNOTATIONS.podsOf,
    podsOf,
  );
}

/** With a hash of itself: an object as it was applied last is told from one that is out of date. */
const stamped = (object: KubeObject): KubeObject =>
  annotated(object, ANNOTATIONS.desiredHash, hashOf(object));

function annotated<T extends KubeObject>(object: T, key: string, value: string): T {
  const annotations = { ...object.metadata.annotations, [key]: value };
  return { ...object, metadata: { ...object.metadata, annotations } };
}

const HASH_CHARACTERS = 16;

/** The same for the same content, whatever the order of its keys. */
function hashOf(value: unknown): string {
  const text = JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
  return createHash('sha256').update(text).digest('hex').slice(0, HASH_CHARACTERS);
}
