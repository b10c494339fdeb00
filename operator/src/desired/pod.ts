/**
 * A pod of a role: what both have in common, under the restricted Pod Security Standard, with the
 * user's podTemplate merged in. Ours wins where the processes rely on it: labels that select, own
 * annotations, POD_NAME and its like.
 */
import type {
  V1Affinity,
  V1EnvVar,
  V1PodSpec,
  V1PodTemplateSpec,
  V1Probe,
  V1ResourceRequirements,
  V1TopologySpreadConstraint,
} from '@kubernetes/client-node';
import { serviceAccountName } from './access.ts';
import type { DeployedJob, PodTemplate } from './deployed-job.ts';
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

const OWN_PREFIX = 'triggerjob.io/';

/** The role's podTemplate over the common one: maps and env by name, lists one after the other. */
function mergedTemplate(job: DeployedJob, role: Role): PodTemplate {
  const { podTemplate: common = {}, jobManager, taskManager } = job.spec;
  const own = (role === 'jobmanager' ? jobManager : taskManager).podTemplate ?? {};
  const spread = own.topologySpreadConstraints ?? common.topologySpreadConstraints;
  const priorityClassName = own.priorityClassName ?? common.priorityClassName;
  return {
    labels: { ...common.labels, ...own.labels },
    annotations: { ...common.annotations, ...own.annotations },
    nodeSelector: { ...common.nodeSelector, ...own.nodeSelector },
    tolerations: [...(common.tolerations ?? []), ...(own.tolerations ?? [])],
    affinity: { ...common.affinity, ...own.affinity },
    env: byName([...(common.env ?? []), ...(own.env ?? [])]),
    ...(priorityClassName === undefined ? {} : { priorityClassName }),
    ...(spread === undefined ? {} : { topologySpreadConstraints: spread }),
  };
}

/** The last one of a name counts, in the place of the first. */
function byName(env: V1EnvVar[]): V1EnvVar[] {
  return [...new Map(env.map((variable) => [variable.name, variable])).values()];
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

function zones(job: DeployedJob, role: Role): V1TopologySpreadConstraint[] {
  return [
    {
      maxSkew: 1,
      topologyKey: 'topology.kubernetes.io/zone',
      whenUnsatisfiable: 'ScheduleAnyway',
      labelSelector: { matchLabels: podSelector(job, role) },
    },
  ];
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

function environment(env: V1EnvVar[], given: V1EnvVar[]): V1EnvVar[] {
  const own = new Set(IDENTITY.map(({ name }) => name));
  return [...IDENTITY, ...byName([...env, ...given]).filter(({ name }) => !own.has(name))];
}

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
  const foreign = Object.entries(given.annotations ?? {}).filter(
    ([key]) => !key.startsWith(OWN_PREFIX),
  );
  const annotations = { ...Object.fromEntries(foreign), ...parts.annotations };
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
    topologySpreadConstraints: given.topologySpreadConstraints ?? zones(job, role),
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
    ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    args: parts.args,
    env: environment(parts.env, given.env ?? []),
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
