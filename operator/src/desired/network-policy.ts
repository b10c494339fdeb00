/**
 * NetworkPolicies: who may connect to a job's pods. RPC and shuffle ask for the job's secret too
 * (the worker's rpc/transport.ts), so this is a second fence; REST reads have only this one. The
 * kubelet's probes come from the node, which a policy does not stop.
 */
import type {
  V1NetworkPolicy,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
  V1NetworkPolicySpec,
} from '@kubernetes/client-node';
import {
  type JobIdentity,
  metadataOf,
  OPERATOR_NAME,
  PORTS,
  podSelector,
  type Role,
  roleName,
  type Typed,
} from './names.ts';

/** Who may read REST and metrics, beside the operator. */
export type RestClients = readonly V1NetworkPolicyPeer[] | 'anywhere';

/** Of an environment variable: `"anywhere"`, or peers as JSON. Throws with what it should be. */
export function parseRestClients(text: string): RestClients {
  const value: unknown = text === '' ? [] : JSON.parse(text);
  if (value === 'anywhere' || Array.isArray(value)) return value;
  throw new Error('REST_CLIENTS is neither "anywhere" nor a list of NetworkPolicy peers');
}

/** As JSON has it; the client's class calls the field `_from`. */
interface Ingress {
  from?: readonly V1NetworkPolicyPeer[];
  ports: V1NetworkPolicyPort[];
}

type WirePolicy = Omit<Typed<V1NetworkPolicy>, 'spec'> & {
  spec: Omit<V1NetworkPolicySpec, 'ingress'> & { ingress: Ingress[] };
};

const podsOf = (job: JobIdentity, role: Role): V1NetworkPolicyPeer => ({
  podSelector: { matchLabels: podSelector(job, role) },
});

const port = (name: keyof typeof PORTS) => [{ port: PORTS[name], protocol: 'TCP' }];

function policy(job: JobIdentity, role: Role, ingress: Ingress[]): WirePolicy {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: metadataOf(job, roleName(job, role), role),
    spec: {
      podSelector: { matchLabels: podSelector(job, role) },
      policyTypes: ['Ingress'],
      ingress,
    },
  };
}

export function networkPolicies(
  job: JobIdentity,
  operatorNamespace: string,
  restClients: RestClients,
): WirePolicy[] {
  const operator: V1NetworkPolicyPeer = {
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': operatorNamespace } },
    podSelector: { matchLabels: { 'app.kubernetes.io/name': OPERATOR_NAME } },
  };
  // A standby asks the leader. A rule without `from` lets everybody in.
  const known = [podsOf(job, 'jobmanager'), operator];
  const rest = restClients === 'anywhere' ? {} : { from: [...known, ...restClients] };
  return [
    policy(job, 'jobmanager', [
      { from: [podsOf(job, 'taskmanager')], ports: port('rpc') },
      { ...rest, ports: port('rest') },
    ]),
    policy(job, 'taskmanager', [{ from: [podsOf(job, 'taskmanager')], ports: port('shuffle') }]),
  ];
}
