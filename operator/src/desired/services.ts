/** Services: one name per pod for the processes among themselves, one address for REST. */
import type { V1Service, V1ServicePort } from '@kubernetes/client-node';
import {
  type JobIdentity,
  metadataOf,
  PORTS,
  podSelector,
  type Role,
  restServiceName,
  roleName,
  type Typed,
} from './names.ts';

type PortName = keyof typeof PORTS;

/** By the container's port names. */
const ports = (...names: PortName[]): V1ServicePort[] =>
  names.map((name) => ({ name, port: PORTS[name], targetPort: name, protocol: 'TCP' }));

/**
 * Pods are found before they are ready: a TaskManager registers with a JobManager that becomes
 * ready only by it, and a standby is never "ready" in the sense of leading.
 */
function headless(job: JobIdentity, role: Role, names: PortName[]): Typed<V1Service> {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadataOf(job, roleName(job, role), role),
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: podSelector(job, role),
      ports: ports(...names),
    },
  };
}

export function services(job: JobIdentity): Typed<V1Service>[] {
  return [
    headless(job, 'jobmanager', ['rpc', 'rest']),
    headless(job, 'taskmanager', ['shuffle', 'health']),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: metadataOf(job, restServiceName(job), 'jobmanager'),
      spec: {
        type: 'ClusterIP',
        selector: podSelector(job, 'jobmanager'),
        ports: ports('rest'),
      },
    },
  ];
}
