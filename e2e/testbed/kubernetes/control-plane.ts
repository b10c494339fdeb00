/**
 * A real API server over a real etcd on loopback, for tests that need no pods: admission, watches,
 * conflicts, restarts of the API server, thousands of objects. No root, no namespaces; ready in a
 * few seconds. Nothing is scheduled and, unless asked for, nothing is garbage-collected either.
 * Everything it starts ends with `stop()` or with this process.
 */
import { type ExecFileException, execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { freePort } from '../command.ts';
import {
  apiServerProgram,
  controllerManagerProgram,
  etcdProgram,
  isApiServerReady,
  issueServingPair,
} from './api-server.ts';
import { installKube, type Print, printLine } from './binaries.ts';
import { type Authority, createAuthority } from './certificates.ts';
import { type Daemon, startDaemon, untilReady } from './daemon.ts';

/** Ten times what a start takes on a busy machine. */
const START_LIMIT_MS = 100_000;
const KUBECTL_LIMIT_MS = 300_000;
const KUBECTL_OUTPUT_BYTES = 64 * 1024 * 1024;

export interface ControlPlaneOptions {
  /** Starts kube-controller-manager too: StatefulSets make Pods, owners' dependents are deleted. */
  controllerManager?: boolean;
  apiServerArgs?: readonly string[];
  print?: Print;
}

export interface ControlPlane {
  /** Path of a cluster administrator's kubeconfig. */
  readonly kubeconfig: string;
  /** `https://127.0.0.1:PORT`. */
  readonly server: string;
  /** The folder of `kubectl`, for a PATH. */
  readonly kubectlFolder: string;
  /** The path of a kubeconfig for another user, to whom RBAC grants what it grants. */
  kubeconfigFor(user: string, groups?: string[]): Promise<string>;
  /** What kubectl prints on stdout; an Error with its stderr when its code is not 0. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** The API server ends (SIGKILL): connections break, watches end, objects stay. */
  apiServerDown(signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** It serves again on the same port: about 3 s. */
  apiServerUp(): Promise<void>;
  restartApiServer(): Promise<void>;
  /**
   * Forgets the history of all objects and restarts the API server, whose memory of it is the only
   * other one: a watch from an older resource version gets 410.
   */
  forgetHistory(): Promise<void>;
  stop(): Promise<void>;
}

export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const kube = await installKube(options.print ?? printLine);
  const folder = await mkdtemp(join(tmpdir(), 'triggerjob-control-plane-'));
  const plane = new RunningControlPlane(kube, folder, options);
  try {
    await plane.start();
    return plane;
  } catch (error) {
    await plane.stop();
    throw error;
  }
}

class RunningControlPlane implements ControlPlane {
  readonly #kube: string;
  readonly #folder: string;
  readonly #options: ControlPlaneOptions;
  readonly #daemons = new Map<string, Daemon>();
  #port = 0;
  #etcdPort = 0;
  #authority!: Authority;
  #startApiServer!: () => Daemon;
  kubeconfig = '';

  constructor(kube: string, folder: string, options: ControlPlaneOptions) {
    this.#kube = kube;
    this.#folder = folder;
    this.#options = options;
  }

  get server(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  get kubectlFolder(): string {
    return dirname(this.#kube);
  }

  async start(): Promise<void> {
    const kube = this.#kube;
    const logs = join(this.#folder, 'logs');
    await mkdir(logs);
    this.#port = await freePort();
    this.#etcdPort = await freePort();
    const ports = { client: this.#etcdPort, peer: await freePort() };
    this.#run(startDaemon(etcdProgram(kube, join(this.#folder, 'etcd'), ports), logs));
    this.#authority = await createAuthority(join(this.#folder, 'pki'));
    const keys = {
      authority: this.#authority,
      serving: await issueServingPair(this.#authority, '127.0.0.1'),
    };
    const place = {
      port: this.#port,
      etcdPort: this.#etcdPort,
      bindAddress: '127.0.0.1',
      advertiseAddress: null,
    };
    const more = this.#options.apiServerArgs ?? [];
    this.#startApiServer = () => startDaemon(apiServerProgram(kube, place, keys, more), logs);
    const ready = this.apiServerUp();
    this.kubeconfig = await this.kubeconfigFor('admin', ['system:masters']);
    await ready;
    if (this.#options.controllerManager === true) {
      const user = await this.kubeconfigFor('system:kube-controller-manager');
      this.#run(startDaemon(controllerManagerProgram(kube, user, this.#authority), logs));
    }
  }

  async kubeconfigFor(user: string, groups: string[] = []): Promise<string> {
    const subject = [...groups.map((group) => `/O=${group}`), `/CN=${user}`].join('');
    const file = user.replaceAll(/[^\w-]/g, '-');
    return await this.#authority.kubeconfig(file, subject, this.server);
  }

  async kubectl(args: readonly string[], input?: string): Promise<string> {
    return await runKubectl(this.#kube, this.kubeconfig, args, input);
  }

  async apiServerDown(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    const daemon = this.#daemons.get('kube-apiserver');
    await (signal === 'SIGKILL' ? daemon?.kill() : daemon?.stop());
  }

  async apiServerUp(): Promise<void> {
    const daemon = this.#run(this.#startApiServer());
    await untilReady('the API server', daemon, START_LIMIT_MS, () =>
      isApiServerReady(this.#port, this.#authority),
    );
  }

  async restartApiServer(): Promise<void> {
    await this.apiServerDown();
    await this.apiServerUp();
  }

  async forgetHistory(): Promise<void> {
    const status = await this.#etcd<{ header: { revision: string } }>('maintenance/status', {});
    await this.#etcd('kv/compaction', { revision: status.header.revision, physical: true });
    await this.restartApiServer();
  }

  async stop(): Promise<void> {
    // The reverse of the start; etcd last, so that nobody complains about it.
    for (const daemon of [...this.#daemons.values()].toReversed()) await daemon.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #run(daemon: Daemon): Daemon {
    this.#daemons.set(daemon.name, daemon);
    return daemon;
  }

  /** etcd's own API as JSON; 64-bit numbers are strings in it. */
  async #etcd<T>(method: string, body: Record<string, unknown>): Promise<T> {
    const url = `http://127.0.0.1:${this.#etcdPort}/v3/${method}`;
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`etcd ${method}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }
}

/** `kube kubectl` with a kubeconfig: stdout, or an Error that says what was asked and answered. */
export async function runKubectl(
  kube: string,
  kubeconfig: string,
  args: readonly string[],
  input?: string,
): Promise<string> {
  return await new Promise((done, fail) => {
    const options = { timeout: KUBECTL_LIMIT_MS, maxBuffer: KUBECTL_OUTPUT_BYTES };
    const whole = ['kubectl', '--kubeconfig', kubeconfig, ...args];
    const ended = (error: ExecFileException | null, stdout: string, stderr: string) => {
      if (error === null) return done(stdout);
      fail(new Error(`kubectl ${args.join(' ')} (${error.code ?? error.signal}):\n${stderr}`));
    };
    const child = execFile(kube, whole, options, ended);
    child.stdin!.end(input ?? '');
  });
}
