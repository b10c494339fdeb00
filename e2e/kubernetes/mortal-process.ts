/**
 * The operator's real process in the lab's network, with the DNS that its pod would have. A life of
 * it ends (SIGKILL) right after a write that it is told of beforehand: the API server has done it,
 * its answer is heard by nobody. The next life begins with nothing but what the API server says.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { endProcess } from '../testbed/end-process.ts';
import { chartImage, type LabStage, SYSTEM } from './lab-stage.ts';
import { WriteProxy, type WriteProxyParts } from './write-proxy.ts';

const PROGRAM = fileURLToPath(new URL('../../operator/src/main.ts', import.meta.url));
const STOP_TIMEOUT_MS = 20_000;
const LOG_CHARACTERS = 4_000;
/** A file of the machine's, in a mount namespace of its own. */
const WITH_RESOLVER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';

export interface MortalProcessParts {
  stage: LabStage;
  keyFile: string;
  /** Looks at a write before it is done. */
  judge: WriteProxyParts['before'];
  /** Whether the life that has made the n-th write of all, `what`, ends with it. */
  endsAfter(write: number, what: string): boolean;
}

export class MortalProcess {
  readonly #parts: MortalProcessParts;
  #proxy: WriteProxy | null = null;
  #child: ChildProcess | null = null;
  #stopped = false;
  #done: Promise<void> = Promise.resolve();
  #log = '';
  /** All writes that were done, in words. */
  readonly writes: string[] = [];
  /** The last write of each life that ended by one. */
  readonly ends: string[] = [];
  /** Ends that nobody asked for. */
  readonly faults: string[] = [];

  private constructor(parts: MortalProcessParts) {
    this.#parts = parts;
  }

  static async start(parts: MortalProcessParts): Promise<MortalProcess> {
    const mortal = new MortalProcess(parts);
    const command = await mortal.#prepare();
    mortal.#done = mortal.#lives(command);
    return mortal;
  }

  /** What a life is started with. */
  async #prepare(): Promise<string[]> {
    const { stage, judge, keyFile } = this.#parts;
    const { lab, folder } = stage;
    this.#proxy = await WriteProxy.start({
      kubeconfig: lab.kubeconfig,
      before: judge,
      after: ({ what }) => this.#wrote(what),
    });
    const kubeconfig = join(folder, 'operator-kubeconfig');
    const server = `http://${await lab.exposeToPods(this.#proxy.port)}`;
    await writeFile(kubeconfig, kubeconfigOf(server));
    const resolver = join(folder, 'resolv.conf');
    // As the kubelet writes it.
    const lines = ['search svc.cluster.local cluster.local', `nameserver ${lab.nodeAddress}`];
    await writeFile(resolver, [...lines, 'options ndots:5', ''].join('\n'));
    const operator = [
      process.execPath,
      PROGRAM,
      `--kubeconfig=${kubeconfig}`,
      `--key-file=${keyFile}`,
      `--worker-image=${chartImage('worker')}`,
      `--lease-namespace=${SYSTEM}`,
      '--no-leader-elect',
      '--metrics-address=0',
      '--health-address=0',
    ];
    const own = ['--mount', '--propagation', 'private', '--', 'bash', '-c', WITH_RESOLVER];
    return [...own, resolver, ...operator];
  }

  /** In order, after what it is about. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#child !== null) await endProcess(this.#child, STOP_TIMEOUT_MS);
    await this.#done;
    this.#proxy?.stop();
  }

  async #lives(command: readonly string[]): Promise<void> {
    while (!this.#stopped) {
      const ends = this.ends.length;
      const child = this.#parts.stage.lab.enter('unshare', command);
      this.#child = child;
      for (const stream of [child.stdout, child.stderr]) {
        stream?.setEncoding('utf8').on('data', (text: string) => {
          this.#log = `${this.#log}${text}`.slice(-LOG_CHARACTERS);
        });
      }
      const [code, signal] = await once(child, 'exit');
      if (this.ends.length > ends || this.#stopped) continue;
      this.faults.push(`the operator ended by itself, ${code ?? signal}: ${this.#log}`);
      return;
    }
  }

  #wrote(what: string): boolean {
    this.writes.push(what);
    if (!this.#parts.endsAfter(this.writes.length, what)) return false;
    this.ends.push(what);
    this.#child?.kill('SIGKILL');
    return true;
  }
}

function kubeconfigOf(server: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'lab', cluster: { server, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'proxy', user: {} }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'proxy' } }],
    'current-context': 'lab',
  });
}
