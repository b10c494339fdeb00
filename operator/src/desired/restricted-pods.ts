/**
 * The restricted Pod Security Standard, by its rules, for tests: what an API server with
 * `pod-security.kubernetes.io/enforce: restricted` would refuse in a pod of ours.
 */
import type { V1Container, V1PodSpec, V1Volume } from '@kubernetes/client-node';

/** `volumes[*]` may be of these types only. */
const ALLOWED_VOLUMES = [
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
];

const volumeFaults = ({ name, ...sources }: V1Volume): string[] =>
  Object.keys(sources)
    .filter((source) => !ALLOWED_VOLUMES.includes(source))
    .map((source) => `volume ${name}: ${source}`);

function containerFaults(container: V1Container, pod: V1PodSpec): string[] {
  const own = container.securityContext ?? {};
  const { drop = [], add = [] } = own.capabilities ?? {};
  const seccomp = (own.seccompProfile ?? pod.securityContext?.seccompProfile)?.type;
  const user = own.runAsUser ?? pod.securityContext?.runAsUser;
  const rules: [string, boolean][] = [
    ['privileged', own.privileged !== true],
    ['allowPrivilegeEscalation', own.allowPrivilegeEscalation === false],
    ['capabilities.drop', drop.includes('ALL')],
    ['capabilities.add', add.every((name) => name === 'NET_BIND_SERVICE')],
    ['runAsNonRoot', (own.runAsNonRoot ?? pod.securityContext?.runAsNonRoot) === true],
    ['runAsUser', user !== 0],
    ['seccompProfile', seccomp === 'RuntimeDefault' || seccomp === 'Localhost'],
    ['procMount', own.procMount === undefined || own.procMount === 'Default'],
    ['hostPort', (container.ports ?? []).every(({ hostPort = 0 }) => hostPort === 0)],
    // Beyond the standard, and promised in README.
    ['readOnlyRootFilesystem', own.readOnlyRootFilesystem === true],
  ];
  return rules.filter(([, kept]) => !kept).map(([rule]) => `${container.name}: ${rule}`);
}

export function restrictedFaults(pod: V1PodSpec): string[] {
  const shared = (['hostNetwork', 'hostPID', 'hostIPC'] as const).filter((name) => pod[name]);
  const containers = [...(pod.initContainers ?? []), ...pod.containers];
  return [
    ...shared,
    ...(pod.securityContext?.sysctls ?? []).map(({ name }) => `sysctl ${name}`),
    ...(pod.volumes ?? []).flatMap(volumeFaults),
    ...containers.flatMap((container) => containerFaults(container, pod)),
  ];
}
