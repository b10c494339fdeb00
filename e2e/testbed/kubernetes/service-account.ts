/**
 * What a pod's service account gives its processes: a folder with `token` and `ca.crt`, and the
 * environment that leads to the API server; for processes that act like those of a pod.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ControlPlane } from './control-plane.ts';

/** As the operator grants it to a JobManager: its own Lease and nothing else. */
const LEASE_RULES = [
  {
    apiGroups: ['coordination.k8s.io'],
    resources: ['leases'],
    verbs: ['get', 'create', 'update'],
  },
];

/** Makes account and role `name` in namespace default. Answers the processes' environment. */
export async function leaseAccount(
  plane: ControlPlane,
  name: string,
  folder: string,
): Promise<Record<string, string>> {
  const metadata = { name, namespace: 'default' };
  const group = 'rbac.authorization.k8s.io';
  const objects = [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    { apiVersion: `${group}/v1`, kind: 'Role', metadata, rules: LEASE_RULES },
    {
      apiVersion: `${group}/v1`,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: group, kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', ...metadata }],
    },
  ];
  const list = { apiVersion: 'v1', kind: 'List', items: objects };
  await plane.kubectl(['apply', '-f', '-'], JSON.stringify(list));
  await rotateToken(plane, name, folder);
  const config = await readFile(plane.kubeconfig, 'utf8');
  await writeFile(join(folder, 'ca.crt'), await authorityOf(config));
  const { hostname, port } = new URL(plane.server);
  return {
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    TRIGGERJOB_SERVICE_ACCOUNT_DIR: folder,
  };
}

/** A new token in the place of the old one, as the kubelet does it. */
export async function rotateToken(
  plane: ControlPlane,
  name: string,
  folder: string,
): Promise<void> {
  await writeFile(join(folder, 'token'), await plane.kubectl(['create', 'token', name]));
}

async function authorityOf(config: string): Promise<string> {
  const inline = /certificate-authority-data"?: *"?([\w+/=]+)/.exec(config)?.[1];
  if (inline !== undefined) return Buffer.from(inline, 'base64').toString();
  const path = /certificate-authority"?: *"?([^"\n]+)/.exec(config)?.[1];
  if (path === undefined) throw new Error(`no certificate authority in the kubeconfig:\n${config}`);
  return await readFile(path, 'utf8');
}
