/**
 * Who the pods are for the API server. A JobManager may do what its Lease needs, a TaskManager
 * nothing at all.
 */
import type {
  RbacV1Subject,
  V1Role,
  V1RoleBinding,
  V1ServiceAccount,
} from '@kubernetes/client-node';
import type { KubeObject } from '../kube/port.ts';
import type { DeployedJob } from './deployed-job.ts';
import { leaseName, metadataOf, type Role, roleName, type Typed } from './names.ts';

/** The user's own, for both roles, where the spec names one. */
export function serviceAccountName(job: DeployedJob, role: Role): string {
  return job.spec.serviceAccount.name ?? roleName(job, role);
}

export function accessObjects(job: DeployedJob): KubeObject[] {
  const own = job.spec.serviceAccount.name === undefined;
  const accounts = own
    ? [serviceAccount(job, 'jobmanager'), serviceAccount(job, 'taskmanager')]
    : [];
  return [...accounts, leaseRole(job), leaseRoleBinding(job)];
}

/** Pods say themselves whether they mount a token; one that is added by hand gets none. */
function serviceAccount(job: DeployedJob, role: Role): Typed<V1ServiceAccount> {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: metadataOf(job, roleName(job, role), role, job.spec.serviceAccount.annotations),
    automountServiceAccountToken: false,
  };
}

/** RBAC can't bind `create` to a name: the name is not known when it is asked. */
function leaseRole(job: DeployedJob): Typed<V1Role> {
  const leases = { apiGroups: ['coordination.k8s.io'], resources: ['leases'] };
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'Role',
    metadata: metadataOf(job, roleName(job, 'jobmanager'), 'jobmanager'),
    rules: [
      { ...leases, verbs: ['create'] },
      { ...leases, resourceNames: [leaseName(job)], verbs: ['get', 'update'] },
    ],
  };
}

function leaseRoleBinding(job: DeployedJob): Typed<V1RoleBinding> {
  const subject: RbacV1Subject = {
    kind: 'ServiceAccount',
    name: serviceAccountName(job, 'jobmanager'),
    namespace: job.namespace,
  };
  const name = roleName(job, 'jobmanager');
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: metadataOf(job, name, 'jobmanager'),
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
    subjects: [subject],
  };
}
