/**
 * The namespaces (pid, mount, network, cgroup, host name, IPC) that make the lab a machine of its
 * own: one process holds them, everything of the lab runs in them, and all of it ends with that
 * process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SERVICE_CIDR } from './api-server.ts';
import { type Daemon, type Program, startDaemon, untilReady } from './daemon.ts';
import { NODE_ADDRESS, NODE_NAME } from './node-configuration.ts';

const NODE_SCRIPT = fileURLToPath(new URL('node.sh', import.meta.url));
const START_LIMIT_MS = 30_000;
const ALL = ['-m', '-u', '-i', '-n', '-p', '-C'];
/**
 * nsenter joins the cgroup namespace but stays in the cgroup it came from: this moves the program
 * to the namespace's root. It ends with nsenter, hence with the lab's owner.
 */
const IN_OWN_CGROUP =
  'for file in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >"$file"; done; ' +
  'exec setpriv --pdeathsig KILL -- "$0" "$@"';

export class Namespaces {
  readonly #state: string;
  readonly #holder: Daemon;
  readonly #initPid: string;

  private constructor(state: string, holder: Daemon, initPid: string) {
    this.#state = state;
    this.#holder = holder;
    this.#initPid = initPid;
  }

  static async create(state: string): Promise<Namespaces> {
    for (const folder of ['kernel', 'var-log/pods', 'var-log/containers']) {
      await mkdir(join(state, folder), { recursive: true });
    }
    const kinds = ['--pid', '--mount', '--mount-proc', '--net', '--uts', '--ipc'];
    const program = {
      name: 'node',
      command: 'unshare',
      args: ['--fork', '--kill-child', ...kinds, 'bash', NODE_SCRIPT],
      env: {
        LAB: state,
        LAB_CGROUP: `triggerjob-lab-${process.pid}`,
        NODE_NAME,
        NODE_ADDRESS,
        SERVICE_CIDR,
      },
    };
    const holder = startDaemon(program, join(state, 'logs'));
    const ready = async () => existsSync(join(state, 'node-ready'));
    await untilReady("the lab's namespaces", holder, START_LIMIT_MS, ready);
    const { pid } = holder.child;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return new Namespaces(state, holder, children.trim());
  }

  /** A program of the lab, as if it had been started on its node. */
  run(program: Program): Daemon {
    const inside = [...ALL, '--', 'bash', '-c', IN_OWN_CGROUP, program.command, ...program.args];
    const args = ['-t', this.#initPid, ...inside];
    return startDaemon({ ...program, command: 'nsenter', args }, join(this.#state, 'logs'));
  }

  /** A command with this machine's files and processes and the lab's network. */
  enter(command: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess {
    const inside = ['setpriv', '--pdeathsig', 'KILL', '--', command, ...args];
    return spawn('nsenter', ['-t', this.#initPid, '-n', '--', ...inside], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
  }

  /** The shell words before a command that is to run in the lab's network. */
  get enterWords(): string {
    return `nsenter -t ${this.#initPid} -n --`;
  }

  async end(): Promise<void> {
    await this.#holder.kill();
  }
}
