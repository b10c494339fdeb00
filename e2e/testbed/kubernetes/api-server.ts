/**
 * How etcd and the API server of a test cluster are started, with or without nodes behind them, and
 * when they are ready.
 */

import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import type { Authority, KeyPair } from './certificates.ts';
import type { Program } from './daemon.ts';

export const SERVICE_CIDR = '10.96.0.0/16';
/** The first address of SERVICE_CIDR: the Service `kubernetes`. */
const KUBERNETES_SERVICE = '10.96.0.1';

export function etcdProgram(kube: string, data: string, ports: { client: number; peer: number }) {
  const client = `http://127.0.0.1:${ports.client}`;
  const peer = `http://127.0.0.1:${ports.peer}`;
  const args = [
    ...['etcd', '--data-dir', data, '--log-level', 'warn', '--unsafe-no-fsync'],
    ...['--listen-client-urls', client, '--advertise-client-urls', client],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ...['--initial-cluster', `default=${peer}`],
  ];
  return { name: 'etcd', command: kube, args };
}

export interface ApiServerPlace {
  port: number;
  /** What it listens on. */
  bindAddress: string;
  /** What the Service `kubernetes` leads to; null leaves that Service without endpoints. */
  advertiseAddress: string | null;
  etcdPort: number;
}

export interface ApiServerKeys {
  authority: Authority;
  serving: KeyPair;
  /** With which it speaks to kubelets; they are checked against the authority. */
  kubeletClient?: KeyPair;
}

export async function issueServingPair(authority: Authority, address: string): Promise<KeyPair> {
  const hosts = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  const dns = ['localhost', ...hosts, 'kubernetes.default.svc.cluster.local'];
  const addresses = new Set(['127.0.0.1', address, KUBERNETES_SERVICE]);
  return await authority.issue('apiserver', '/CN=kube-apiserver', [
    ...dns.map((name) => `DNS:${name}`),
    ...[...addresses].map((name) => `IP:${name}`),
  ]);
}

export function apiServerProgram(
  kube: string,
  place: ApiServerPlace,
  { authority, serving, kubeletClient }: ApiServerKeys,
  more: readonly string[] = [],
): Program {
  const endpoints =
    place.advertiseAddress === null
      ? ['--advertise-address=127.0.0.1', '--endpoint-reconciler-type=none']
      : [`--advertise-address=${place.advertiseAddress}`];
  const kubelets =
    kubeletClient === undefined
      ? []
      : [
          `--kubelet-client-certificate=${kubeletClient.certificate}`,
          `--kubelet-client-key=${kubeletClient.key}`,
          `--kubelet-certificate-authority=${authority.certificate}`,
          '--kubelet-preferred-address-types=InternalIP',
        ];
  const args = [
    'kube-apiserver',
    `--etcd-servers=http://127.0.0.1:${place.etcdPort}`,
    `--secure-port=${place.port}`,
    `--bind-address=${place.bindAddress}`,
    ...endpoints,
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged',
    `--client-ca-file=${authority.certificate}`,
    `--tls-cert-file=${serving.certificate}`,
    `--tls-private-key-file=${serving.key}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${authority.serviceAccount.publicKey}`,
    `--service-account-signing-key-file=${authority.serviceAccount.key}`,
    ...kubelets,
    ...more,
  ];
  return { name: 'kube-apiserver', command: kube, args };
}

export function controllerManagerProgram(
  kube: string,
  kubeconfig: string,
  authority: Authority,
  more: readonly string[] = [],
): Program {
  const args = [
    'kube-controller-manager',
    `--kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
    '--kube-api-qps=200',
    '--kube-api-burst=400',
    '--use-service-account-credentials',
    `--service-account-private-key-file=${authority.serviceAccount.key}`,
    `--root-ca-file=${authority.certificate}`,
    `--cluster-signing-cert-file=${authority.certificate}`,
    `--cluster-signing-key-file=${authority.key}`,
    ...more,
  ];
  return { name: 'kube-controller-manager', command: kube, args };
}

/** Whether `/readyz` says ok: the API server serves and its first roles and namespaces exist. */
export async function isApiServerReady(port: number, authority: Authority): Promise<boolean> {
  const ca = await readFile(authority.certificate);
  return await new Promise((done) => {
    const path = { host: '127.0.0.1', port, path: '/readyz', ca, agent: false, timeout: 2_000 };
    const asked = request(path, (answer) => {
      answer.resume();
      done(answer.statusCode === 200);
    });
    asked.once('error', () => done(false));
    asked.once('timeout', () => asked.destroy(new Error('no answer')));
    asked.end();
  });
}
