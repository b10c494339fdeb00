/**
 * A pod of a role: what both have in common, under the restricted Pod Security Standard, with the
 * user's podTemplate merged in.
 */
import type {
  V1Affinity,
  V1EnvVar,
  V1PodSpec,
  V1PodTemplateSpec,
  V1Probe,
  V1ResourceRequirements,
  V1Toleration,
  V1TopologySpreadConstraint,
} from '@kubernetes/client-node';
import { serviceAccountName } from './access.ts';
import type { DeployedJob } from './deployed-job.ts';
import { labelsOf, PORTS, podSelector, type Role } from './names.ts';
import type { MountedVolume } from './volumes.ts';

/** The user `node` of the images; a number, so that the kubelet can tell it is not root. */
const USER_ID = 1000;

export interface PodParts {
  image: string;
  args: string[];
  ports: (keyof typeof PORTS)[];
  /** Where /healthz and /readyz are. */
  probed: keyof typeof PORTS;
  env: V1EnvVar[];
  resources: V1ResourceRequirements;
  volumes: MountedVolume[];
  annotations: Record<string, string>;
  apiAccess: boolean;
  terminationGracePeriodSeconds: number;
}

/** What a user may say of the pods, as Kubernetes types it. */
interface PodTemplate {
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  nodeSelector?: Record<string, string>;
  tolerations?: V1Toleration[];
  affinity?: V1Affinity;
  priorityClassName?: string;
  env?: V1EnvVar[];
  topologySpreadConstraints?: V1TopologySpreadConstraint[];
}

/**
 * The role's podTemplate over the common one: maps by key, env by name, affinity by kind; another
 * list takes the place of the common one.
 */
function mergedTemplate({ spec }: DeployedJob, role: Role): PodTemplate {
  const { podTemplate: own = {} } = role === 'jobmanager' ? spec.jobManager : spec.taskManager;
  const { podTemplate: common = {} } = spec;
  const merged = {
    ...common,
    ...own,
    labels: { ...common.labels, ...own.labels },
    annotations: { ...common.annotations, ...own.annotations },
    nodeSelector: { ...common.nodeSelector, ...own.nodeSelector },
    affinity: { ...common.affinity, ...own.affinity },
    env: byName([...(common.env ?? []), ...(own.env ?? [])]),
  };
  // The schema leaves what Kubernetes alone judges open, and so without a type.
  return merged as unknown as PodTemplate;
}

/** The last one of a name counts, in the place of the first. */
function byName<T extends { name: string }>(variables: T[]): T[] {
  return [...new Map(variables.map((variable) => [variable.name, variable])).values()];
}

/** Apart if there are nodes for it; a cluster of one node runs the job all the same. */
function affinityOf(job: DeployedJob, role: Role, given: V1Affinity = {}): V1Affinity {
  const apart = {
    weight: 100,
    podAffinityTerm: {
      topologyKey: 'kubernetes.io/hostname',
      labelSelector: { matchLabels: podSelector(job, role) },
    },
  };
  const podAntiAffinity = { preferredDuringSchedulingIgnoredDuringExecution: [apart] };
  return { podAntiAffinity, ...given };
}

/** Evenly over zones if that can be; of the pods of the role, where the user says no other. */
function spreadOf(
  job: DeployedJob,
  role: Role,
  given: V1TopologySpreadConstraint[] = [
    {
      maxSkew: 1,
      topologyKey: 'topology.kubernetes.io/zone',
      whenUnsatisfiable: 'ScheduleAnyway',
    },
  ],
): V1TopologySpreadConstraint[] {
  const labelSelector = { matchLabels: podSelector(job, role) };
  return given.map((constraint) => ({ labelSelector, ...constraint }));
}

const field = (name: string, fieldPath: string): V1EnvVar => ({
  name,
  valueFrom: { fieldRef: { fieldPath } },
});

/** Before all others: arguments refer to them. */
const IDENTITY: V1EnvVar[] = [
  field('POD_NAME', 'metadata.name'),
  field('POD_NAMESPACE', 'metadata.namespace'),
  field('POD_IP', 'status.podIP'),
];

/**
 * Up to five minutes for a start on a cold node; then a minute of silence ends the container, far
 * beyond a pause of the garbage collector. Readiness is looked at often: what waits for a pod (a
 * rolling update, kubectl wait) goes on within two seconds.
 */
function probes(port: string): Record<'startup' | 'liveness' | 'readiness', V1Probe> {
  const healthz = { httpGet: { path: '/healthz', port }, timeoutSeconds: 5 };
  return {
    startup: { ...healthz, periodSeconds: 1, failureThreshold: 300 },
    liveness: { ...healthz, periodSeconds: 10, failureThreshold: 6 },
    readiness: {
      httpGet: { path: '/readyz', port },
      timeoutSeconds: 5,
      periodSeconds: 2,
      failureThreshold: 3,
    },
  };
}

export function podTemplateOf(job: DeployedJob, role: Role, parts: PodParts): V1PodTemplateSpec {
  const given = mergedTemplate(job, role);
  const annotations = { ...given.annotations, ...parts.annotations };
  return {
    metadata: {
      labels: { ...given.labels, ...labelsOf(job, role) },
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    },
    spec: podSpec(job, role, parts, given),
  };
}

function podSpec(job: DeployedJob, role: Role, parts: PodParts, given: PodTemplate): V1PodSpec {
  const { nodeSelector = {}, tolerations = [], priorityClassName } = given;
  const { imagePullSecrets = [] } = job.spec;
  return {
    serviceAccountName: serviceAccountName(job, role),
    automountServiceAccountToken: parts.apiAccess,
    // Thousands of Services of the namespace would be as many variables.
    enableServiceLinks: false,
    terminationGracePeriodSeconds: parts.terminationGracePeriodSeconds,
    ...(imagePullSecrets.length === 0 ? {} : { imagePullSecrets }),
    ...(priorityClassName === undefined ? {} : { priorityClassName }),
    ...(Object.keys(nodeSelector).length === 0 ? {} : { nodeSelector }),
    ...(tolerations.length === 0 ? {} : { tolerations }),
    affinity: affinityOf(job, role, given.affinity),
    topologySpreadConstraints: spreadOf(job, role, given.topologySpreadConstraints),
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER_ID,
      runAsGroup: USER_ID,
      fsGroup: USER_ID,
      // A full disk of RocksDB is not walked through at each start.
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [container(job, role, parts, given)],
    volumes: parts.volumes.flatMap(({ volume }) => volume ?? []),
  };
}

function container(job: DeployedJob, role: Role, parts: PodParts, given: PodTemplate) {
  const { startup, liveness, readiness } = probes(parts.probed);
  const { imagePullPolicy } = job.spec;
  return {
    name: role,
    image: parts.image,
    // What a process said last is shown where its pod's trouble is (decide/pod-trouble.ts).
    terminationMessagePolicy: 'FallbackToLogsOnError',
    ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    args: parts.args,
    env: byName([...IDENTITY, ...parts.env, ...(given.env ?? [])]),
    ports: parts.ports.map((name) => ({ name, containerPort: PORTS[name], protocol: 'TCP' })),
    resources: parts.resources,
    startupProbe: startup,
    livenessProbe: liveness,
    readinessProbe: readiness,
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
    },
    volumeMounts: parts.volumes.map(({ mount }) => mount),
  };
}
