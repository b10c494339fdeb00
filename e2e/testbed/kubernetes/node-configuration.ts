/** The configuration files of the lab's one node: containerd, pod network, kubelet, proxy, DNS. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Authority, KeyPair } from './certificates.ts';

export const NODE_NAME = 'lab-node';
/** Exists inside the lab's network only, as every address here. */
export const NODE_ADDRESS = '10.200.0.1';
export const PAUSE_IMAGE = 'localhost/pause:lab';
export const DNS_READY_PORT = 8181;
const POD_CIDR = '10.244.0.0/24';
const CNI_PROGRAMS = '/usr/lib/cni';

export interface NodeFiles {
  containerd: string;
  kubelet: string;
  proxy: string;
  dns: string;
}

export interface NodeFacts {
  /** Of everything the lab keeps. */
  state: string;
  containerdSocket: string;
  authority: Authority;
  kubeletServing: KeyPair;
  proxyKubeconfig: string;
  dnsKubeconfig: string;
}

export async function writeNodeConfiguration(facts: NodeFacts): Promise<NodeFiles> {
  const folder = join(facts.state, 'configuration');
  const network = join(folder, 'network');
  await mkdir(network, { recursive: true });
  const write = async (name: string, content: string | Record<string, unknown>) => {
    const path = join(folder, name);
    // JSON is YAML, for those that want YAML.
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content, null, 2));
    return path;
  };
  await writeFile(join(network, '10-lab.conflist'), JSON.stringify(POD_NETWORK, null, 2));
  return {
    containerd: await write('containerd.toml', containerdToml(facts, network)),
    kubelet: await write('kubelet.yaml', kubeletConfiguration(facts)),
    proxy: await write('proxy.yaml', proxyConfiguration(facts)),
    dns: await write('Corefile', corefile(facts)),
  };
}

/** ptp: a cable per pod, so that no bridge and no filter of bridged packets is needed. */
const POD_NETWORK = {
  cniVersion: '1.0.0',
  name: 'lab',
  plugins: [
    {
      type: 'ptp',
      ipam: {
        type: 'host-local',
        dataDir: '/run/cni',
        ranges: [[{ subnet: POD_CIDR }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
};

/** restrict_oom_score_adj: root without CAP_SYS_RESOURCE can't lower a score. */
function containerdToml({ state, containerdSocket }: NodeFacts, network: string): string {
  return `version = 2
root = "${join(state, 'containerd')}"
state = "/run/containerd"
[grpc]
  address = "${containerdSocket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${CNI_PROGRAMS}"
    conf_dir = "${network}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`;
}

/** Never evicts and never collects images: the machine's disk and memory are not the lab's own. */
function kubeletConfiguration({ authority, kubeletServing, containerdSocket }: NodeFacts) {
  const none = ['memory.available', 'nodefs.available', 'nodefs.inodesFree'];
  const images = ['imagefs.available', 'imagefs.inodesFree'];
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${containerdSocket}`,
    cgroupDriver: 'cgroupfs',
    failCgroupV1: false,
    failSwapOn: false,
    makeIPTablesUtilChains: false,
    address: NODE_ADDRESS,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: authority.certificate },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: kubeletServing.certificate,
    tlsPrivateKeyFile: kubeletServing.key,
    clusterDNS: [NODE_ADDRESS],
    clusterDomain: 'cluster.local',
    resolvConf: '',
    imageGCHighThresholdPercent: 100,
    evictionHard: Object.fromEntries([...none, ...images].map((signal) => [signal, '0%'])),
    crashLoopBackOff: { maxContainerRestartPeriod: '10s' },
    shutdownGracePeriod: '0s',
  };
}

function proxyConfiguration({ proxyKubeconfig }: NodeFacts) {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    clientConnection: { kubeconfig: proxyKubeconfig },
    hostnameOverride: NODE_NAME,
    clusterCIDR: POD_CIDR,
    bindAddress: '127.0.0.1',
    nodePortAddresses: [`${NODE_ADDRESS}/32`],
    // 0 leaves the kernel's own values, which are the machine's too.
    conntrack: {
      maxPerCore: 0,
      min: 0,
      tcpEstablishedTimeout: '0s',
      tcpCloseWaitTimeout: '0s',
    },
  };
}

/** A TTL of a second: a test sees a pod's new address at once. */
function corefile({ dnsKubeconfig }: NodeFacts): string {
  return `.:53 {
  bind ${NODE_ADDRESS}
  errors
  ready ${NODE_ADDRESS}:${DNS_READY_PORT}
  kubernetes cluster.local in-addr.arpa {
    kubeconfig ${dnsKubeconfig}
    pods insecure
    ttl 1
  }
}
`;
}
