/**
 * A network for tests that can be cut: each node is a network namespace with an address of its own,
 * all of them and this process ("outside") are on one bridge, and between any two of them packets
 * are dropped in one direction or both. Nothing tells the ends: no reset, no ICMP, as when a cable
 * or a firewall fails.
 *
 * Needs root, `ip`, `nft`, `unshare`, `nsenter`. A namespace lives as long as a process in it; the
 * first one is a `cat` that ends when this process does, however it goes. With the last namespace
 * the bridge and every interface are gone.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlink } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** This process and all that listens on `host`. */
export const OUTSIDE = 'outside';
const BRIDGE = 'bridge';
const NAMESPACE_LIMIT_MS = 10_000;
/** A process that entered may outlive its node by a moment. */
const END_LIMIT_MS = 5_000;

/** Packets from any of `from` to any of `to` are dropped; with `port`, only those to that port. */
export interface Cut {
  from: readonly string[];
  to: readonly string[];
  port?: number;
}

export class Network {
  /** Address of this process in it. */
  readonly host: string;
  readonly #hub: ChildProcess;
  readonly #nodes = new Map<string, { holder: ChildProcess; address: string }>();
  /** Of the pair that joins this process; its other end is in the hub. */
  readonly #link = `tj${process.pid}`;
  readonly #subnet = `10.231.${process.pid % 250}`;

  private constructor(hub: ChildProcess) {
    this.#hub = hub;
    this.host = `${this.#subnet}.1`;
  }

  /** Why it can't be made here; null: it can. */
  static async missing(): Promise<string | null> {
    if (process.getuid?.() !== 0) return 'network namespaces need root';
    const made = await run('unshare', ['--net', '--', 'true']).then(
      () => null,
      (error: Error) => error.message,
    );
    return made === null ? null : `no network namespaces here: ${made}`;
  }

  /** `names`: at most 15 characters each, they name interfaces. */
  static async open(names: readonly string[]): Promise<Network> {
    const network = new Network(await hold());
    try {
      await network.#join(names);
      return network;
    } catch (error) {
      await network.close();
      throw error;
    }
  }

  addressOf(name: string): string {
    return this.#node(name).address;
  }

  /** Pid whose network namespace is the node's. */
  pidOf(name: string): number {
    return this.#node(name).holder.pid!;
  }

  /** In place of all cuts before. */
  async cut(cuts: readonly Cut[]): Promise<void> {
    const rules = cuts.flatMap(({ from, to, port }) =>
      from.flatMap((source) =>
        to.map(
          (sink) =>
            `add rule bridge cuts forward iifname "${source}" oifname "${sink}" ` +
            `${port === undefined ? '' : `tcp dport ${port} `}drop`,
        ),
      ),
    );
    await this.#nft(['flush chain bridge cuts forward', ...rules]);
  }

  async heal(): Promise<void> {
    await this.cut([]);
  }

  /** Ends every namespace; what still runs in one keeps it alive. Idempotent. */
  async close(): Promise<void> {
    // Gone with the hub, too, but at a moment of the kernel's choice.
    await run('ip', ['link', 'del', this.#link]).catch(() => undefined);
    const holders = [...this.#nodes.values()].map(({ holder }) => holder);
    this.#nodes.clear();
    await Promise.all([...holders, this.#hub].map(release));
  }

  async #join(names: readonly string[]): Promise<void> {
    const hub = String(this.#hub.pid);
    const inHub = (...args: string[]) => run('nsenter', ['-t', hub, '-n', 'ip', ...args]);
    await inHub('link', 'add', BRIDGE, 'type', 'bridge');
    await inHub('link', 'set', BRIDGE, 'up');
    const attach = (name: string) => inHub('link', 'set', name, 'master', BRIDGE, 'up');
    for (const [index, name] of names.entries()) {
      const holder = await hold();
      const address = `${this.#subnet}.${index + 10}`;
      this.#nodes.set(name, { holder, address });
      const own = (...args: string[]) =>
        run('nsenter', ['-t', String(holder.pid), '-n', 'ip', ...args]);
      const peer = ['peer', 'name', 'eth0', 'netns', String(holder.pid)];
      await inHub('link', 'add', 'name', name, 'type', 'veth', ...peer);
      await attach(name);
      await own('addr', 'add', `${address}/24`, 'dev', 'eth0');
      await own('link', 'set', 'eth0', 'up');
      await own('link', 'set', 'lo', 'up');
    }
    const pair = ['type', 'veth', 'peer', 'name', OUTSIDE, 'netns', hub];
    await run('ip', ['link', 'add', 'name', this.#link, ...pair]);
    await run('ip', ['addr', 'add', `${this.host}/24`, 'dev', this.#link]);
    await run('ip', ['link', 'set', this.#link, 'up']);
    await attach(OUTSIDE);
    await this.#nft([
      'add table bridge cuts',
      'add chain bridge cuts forward { type filter hook forward priority 0; policy accept; }',
    ]);
  }

  /** One transaction: all rules at once. */
  async #nft(commands: readonly string[]): Promise<void> {
    await run('nsenter', ['-t', String(this.#hub.pid), '-n', 'nft', commands.join('\n')]);
  }

  #node(name: string): { holder: ChildProcess; address: string } {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`the network has no node ${name}`);
    return node;
  }
}

/** A process in a new network namespace that ends with its stdin. */
async function hold(): Promise<ChildProcess> {
  const holder = spawn('unshare', ['--net', '--', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] });
  const ours = await readlink('/proc/self/ns/net');
  for (const end = Date.now() + NAMESPACE_LIMIT_MS; Date.now() < end; await wait(5)) {
    const theirs = await readlink(`/proc/${holder.pid}/ns/net`).catch(() => ours);
    if (theirs !== ours) return holder;
    if (holder.exitCode !== null) break;
  }
  holder.kill('SIGKILL');
  throw new Error('unshare made no network namespace');
}

async function release(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return;
  const ended = once(holder, 'exit');
  holder.stdin?.end();
  const kill = setTimeout(() => holder.kill('SIGKILL'), END_LIMIT_MS);
  await ended;
  clearTimeout(kill);
}
