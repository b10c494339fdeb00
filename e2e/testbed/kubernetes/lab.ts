/**
 * A real Kubernetes of one node whose pods really run, in namespaces of its own: API server,
 * controllers, scheduler, kubelet, containerd, CoreDNS, kube-proxy, volumes of the StorageClass
 * `standard`. Up in about 5 s. Its network has no way out; images come from loadImage(), services
 * of the test through exposeToPods(). Needs root on Linux. Everything ends with `stop()` or with
 * this process, and the machine's mounts, addresses, firewall and cgroups are as they were.
 */
import type { ChildProcess } from 'node:child_process';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from '../command.ts';
import {
  apiServerProgram,
  controllerManagerProgram,
  etcdProgram,
  isApiServerReady,
  issueServingPair,
} from './api-server.ts';
import { installCoreDns, installKube, type Print, printLine } from './binaries.ts';
import { type Authority, createAuthority } from './certificates.ts';
import { runKubectl } from './control-plane.ts';
import { type Daemon, type Program, untilReady } from './daemon.ts';
import { claimLabFolder, removeLabFolder } from './lab-state.ts';
import { Namespaces } from './namespaces.ts';
import {
  DNS_READY_PORT,
  NODE_ADDRESS,
  NODE_NAME,
  type NodeFiles,
  writeNodeConfiguration,
} from './node-configuration.ts';
import { installPauseImage } from './pause-image.ts';
import { openTunnel } from './tunnel.ts';

const run = promisify(execFile);

/** Ten times what a start takes on a busy machine. */
const START_LIMIT_MS = 100_000;
const ETCD_PORTS = { client: 2379, peer: 2380 };
const STORAGE_CLASS = fileURLToPath(new URL('storage-class.yaml', import.meta.url));

export interface Lab {
  /** Path of a cluster administrator's kubeconfig; it works outside and inside the lab. */
  readonly kubeconfig: string;
  /** The folder of `kubectl`, for a PATH. */
  readonly kubectlFolder: string;
  /** The node's address: pods reach at it what exposeToPods() brought in. */
  readonly nodeAddress: string;
  /** Of the daemons, and `var-log/pods` of the pods; gone with the lab. */
  readonly folder: string;
  /** What kubectl prints on stdout; an Error with its stderr when its code is not 0. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Gives the images of a docker archive to containerd; pods use `imagePullPolicy: Never`. */
  loadImage(archive: string): Promise<void>;
  /** Another name for a loaded image. */
  tagImage(from: string, to: string): Promise<void>;
  /** A command with this machine's files and the lab's network: bind to `nodeAddress`. */
  enter(command: string, args: readonly string[], env?: Record<string, string>): ChildProcess;
  /** The shell words that do the same. */
  readonly enterWords: string;
  /** What listens on this machine's 127.0.0.1:`port` is then reached from pods at the result. */
  exposeToPods(port: number): Promise<string>;
  /** A free port of this machine's 127.0.0.1 that leads to `address` (host:port) in the lab. */
  forward(address: string): Promise<number>;
  stop(): Promise<void>;
}

export async function startLab(print: Print = printLine): Promise<Lab> {
  const programs = { kube: await installKube(print), dns: await installCoreDns(print) };
  const pause = await installPauseImage(print);
  const lab = new RunningLab(await claimLabFolder(), { ...programs, pause });
  try {
    const startedAt = performance.now();
    const steps = await lab.start();
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    print(`Kubernetes lab up in ${seconds} s (${steps})`);
    return lab;
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

interface Installed {
  kube: string;
  dns: string;
  /** A docker archive. */
  pause: string;
}

class RunningLab implements Lab {
  readonly folder: string;
  readonly nodeAddress = NODE_ADDRESS;
  readonly #installed: Installed;
  readonly #daemons: Daemon[] = [];
  #namespaces: Namespaces | null = null;
  kubeconfig = '';

  constructor(folder: string, installed: Installed) {
    this.folder = folder;
    this.#installed = installed;
  }

  /** When each part was ready, for people. */
  async start(): Promise<string> {
    const startedAt = performance.now();
    const steps: string[] = [];
    const step = (what: string) =>
      steps.push(`${what} ${((performance.now() - startedAt) / 1000).toFixed(1)}`);
    for (const name of ['logs', 'kubelet', 'volumes']) await mkdir(join(this.folder, name));
    const port = await freePort();
    const [namespaces, authority] = await Promise.all([
      Namespaces.create(this.folder),
      createAuthority(join(this.folder, 'pki')),
    ]);
    this.#namespaces = namespaces;
    step('namespaces');
    const users = await this.#issueUsers(authority, `https://127.0.0.1:${port}`);
    this.kubeconfig = users.admin;
    const api = await this.#startApiServer(authority, port);
    const node = await this.#startContainerd(authority, users);
    await untilReady('the API server', api, START_LIMIT_MS, () =>
      isApiServerReady(port, authority),
    );
    step('API server');
    await this.#startComponents(authority, users, node);
    await this.#untilUsable();
    step('node and DNS');
    return steps.join(', ');
  }

  get #inside(): Namespaces {
    if (this.#namespaces === null) throw new Error('the lab is not up');
    return this.#namespaces;
  }

  get kubectlFolder(): string {
    return dirname(this.#installed.kube);
  }

  get enterWords(): string {
    return this.#inside.enterWords;
  }

  enter(command: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess {
    return this.#inside.enter(command, args, env);
  }

  async kubectl(args: readonly string[], input?: string): Promise<string> {
    return await runKubectl(this.#installed.kube, this.kubeconfig, args, input);
  }

  async loadImage(archive: string): Promise<void> {
    const namespace = ['-n', 'k8s.io'];
    const command = ['images', 'import', '--no-unpack', archive];
    await run('ctr', ['-a', this.#containerdSocket, ...namespace, ...command]);
  }

  async tagImage(from: string, to: string): Promise<void> {
    const namespace = ['-n', 'k8s.io'];
    await run('ctr', ['-a', this.#containerdSocket, ...namespace, 'images', 'tag', from, to]);
  }

  async exposeToPods(port: number): Promise<string> {
    const address = `${NODE_ADDRESS}:${port}`;
    await this.#tunnel('inside', address, `127.0.0.1:${port}`);
    return address;
  }

  async forward(address: string): Promise<number> {
    const port = await freePort();
    await this.#tunnel('outside', `127.0.0.1:${port}`, address);
    return port;
  }

  async stop(): Promise<void> {
    await this.#namespaces?.end();
    for (const daemon of this.#daemons) await daemon.kill();
    await removeLabFolder(this.folder);
  }

  get #containerdSocket(): string {
    return join(this.folder, 'containerd.sock');
  }

  async #tunnel(from: 'inside' | 'outside', listen: string, target: string): Promise<void> {
    const ends = await openTunnel(this.#inside, this.folder, { from, listen, target });
    this.#daemons.push(...ends);
  }

  #run(program: Program): Daemon {
    const daemon = this.#inside.run(program);
    this.#daemons.push(daemon);
    return daemon;
  }

  async #issueUsers(authority: Authority, server: string) {
    const config = (file: string, subject: string) => authority.kubeconfig(file, subject, server);
    const [admin, kubelet, scheduler, controllerManager, proxy] = await Promise.all([
      config('admin', '/O=system:masters/CN=admin'),
      config('kubelet', `/O=system:nodes/CN=system:node:${NODE_NAME}`),
      config('scheduler', '/CN=system:kube-scheduler'),
      config('controller-manager', '/CN=system:kube-controller-manager'),
      config('proxy', '/CN=system:kube-proxy'),
    ]);
    return { admin, kubelet, scheduler, controllerManager, proxy };
  }

  async #startApiServer(authority: Authority, port: number): Promise<Daemon> {
    const { kube } = this.#installed;
    this.#run(etcdProgram(kube, join(this.folder, 'etcd'), ETCD_PORTS));
    const subject = '/O=system:masters/CN=kube-apiserver-kubelet-client';
    const keys = {
      authority,
      serving: await issueServingPair(authority, NODE_ADDRESS),
      kubeletClient: await authority.issue('apiserver-kubelet-client', subject),
    };
    const place = {
      port,
      bindAddress: '0.0.0.0',
      advertiseAddress: NODE_ADDRESS,
      etcdPort: ETCD_PORTS.client,
    };
    const api = this.#run(apiServerProgram(kube, place, keys));
    // The same address on both sides, so that one kubeconfig does for both.
    await this.#tunnel('outside', `127.0.0.1:${port}`, `127.0.0.1:${port}`);
    return api;
  }

  async #startContainerd(authority: Authority, users: Users): Promise<NodeFiles> {
    const names = [`IP:${NODE_ADDRESS}`, `DNS:${NODE_NAME}`];
    const files = await writeNodeConfiguration({
      state: this.folder,
      containerdSocket: this.#containerdSocket,
      authority,
      kubeletServing: await authority.issue('kubelet-serving', `/CN=${NODE_NAME}`, names),
      proxyKubeconfig: users.proxy,
      dnsKubeconfig: users.admin,
    });
    const args = ['--config', files.containerd];
    const containerd = this.#run({ name: 'containerd', command: 'containerd', args });
    await untilReady('containerd', containerd, START_LIMIT_MS, () =>
      this.loadImage(this.#installed.pause).then(
        () => true,
        () => false,
      ),
    );
    return files;
  }

  async #startComponents(authority: Authority, users: Users, node: NodeFiles): Promise<void> {
    const { kube, dns } = this.#installed;
    const start = (name: string, ...args: string[]) =>
      this.#run({ name, command: kube, args: [name, ...args] });
    this.#run(controllerManagerProgram(kube, users.controllerManager, authority));
    const alone = ['--leader-elect=false', '--bind-address=127.0.0.1'];
    start('kube-scheduler', `--kubeconfig=${users.scheduler}`, ...alone);
    start(
      'kubelet',
      `--kubeconfig=${users.kubelet}`,
      `--config=${node.kubelet}`,
      `--root-dir=${join(this.folder, 'kubelet')}`,
      `--hostname-override=${NODE_NAME}`,
      `--node-ip=${NODE_ADDRESS}`,
    );
    start('kube-proxy', `--config=${node.proxy}`);
    const volumes = `--dir=${join(this.folder, 'volumes')}`;
    start('local-provisioner', `--kubeconfig=${users.admin}`, volumes);
    this.#run({ name: 'coredns', command: dns, args: ['-conf', node.dns] });
    await this.kubectl(['apply', '-f', STORAGE_CLASS]);
  }

  async #untilUsable(): Promise<void> {
    const limit = `--timeout=${START_LIMIT_MS / 1000}s`;
    const node = `node/${NODE_NAME}`;
    const exists = (what: string) => this.kubectl(['wait', what, '--for=create', limit]);
    const nodeReady = exists(node).then(() =>
      this.kubectl(['wait', node, '--for=condition=Ready', limit]),
    );
    const dns = this.#daemons.find(({ name }) => name === 'coredns')!;
    const dnsReady = untilReady('CoreDNS', dns, START_LIMIT_MS, async () => {
      const probe = this.enter('bash', ['-c', `: </dev/tcp/${NODE_ADDRESS}/${DNS_READY_PORT}`]);
      return (await once(probe, 'close'))[0] === 0;
    });
    await Promise.all([nodeReady, exists('serviceaccount/default'), dnsReady]);
  }
}

type Users = Record<'admin' | 'kubelet' | 'scheduler' | 'controllerManager' | 'proxy', string>;

/** Why no lab can be started on this machine, or null. */
export async function labImpediment(): Promise<string | null> {
  if (process.platform !== 'linux') return 'the Kubernetes lab needs Linux';
  if (process.getuid?.() !== 0) return 'the Kubernetes lab needs root, for namespaces and mounts';
  const hierarchies = await readFile('/proc/self/cgroup', 'utf8');
  return /^\d+:memory:/m.test(hierarchies) ? null : 'the Kubernetes lab needs cgroup v1';
}
