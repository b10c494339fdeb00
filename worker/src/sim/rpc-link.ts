/**
 * An RPC connection without a socket: JSON both ways, in order, late. It ends like a socket does:
 * what was sent before an orderly close still comes, a dead peer is noticed after a while.
 */

import type { Seeded } from '../rehearsal/seeded.ts';
import type { SimProcess } from '../rehearsal/sim-process.ts';
import type { VirtualTime } from '../rehearsal/virtual-time.ts';
import type { Command, Report } from '../rpc/messages.ts';
import type { TaskManagerConnection } from '../rpc/server.ts';
import { readCommand, readReport } from '../rpc/shape.ts';
import { sleep } from '../runtime/env.ts';
import type { LeaderConnection } from '../taskmanager/leader-link.ts';
import type { Cut, Network } from './network.ts';

/** The kernel's probes of a peer that does not answer. */
const PROBED_AFTER_MS = 8000;

/** A connection is made once both ways are open, or not at all. */
const CONNECT_LIMIT_MS = 2000;

type Read<In> = (value: unknown) => In | string;

/** What both ends of all connections share. */
export interface LinkWorld {
  time: VirtualTime;
  rng: Seeded;
  network: Network;
  hit(what: string): void;
}

/** One end, with the methods of RpcConnection. */
class LinkEnd<Out extends object, In> {
  readonly remote: string;
  readonly process: SimProcess;
  readonly #read: Read<In>;
  readonly #world: LinkWorld;
  peer: LinkEnd<never, never> | null = null;
  #onMessage: ((message: In) => void) | null = null;
  #onClose: ((error: Error | null) => void) | null = null;
  #early: In[] = [];
  #closed = false;
  #lastAt = 0;
  /** Something sent was lost: nothing sent later can arrive. */
  #cutOff = false;

  constructor(process: SimProcess, remote: string, read: Read<In>, world: LinkWorld) {
    this.process = process;
    this.remote = remote;
    this.#read = read;
    this.#world = world;
  }

  get queuedBytes(): number {
    return 0;
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(message: Out): boolean {
    if (this.#closed || !this.process.alive) return false;
    const text = JSON.stringify(message);
    this.#later(() => this.peer?.deliver(text));
    return true;
  }

  onMessage(listener: (message: In) => void): void {
    this.#onMessage = listener;
    for (const message of this.#early.splice(0)) listener(message);
  }

  onClose(listener: (error: Error | null) => void): void {
    this.#onClose = listener;
  }

  close(error: Error | null = null): void {
    if (this.#closed) return;
    this.#later(() => this.peer?.gone(null));
    this.gone(error);
  }

  /** The process of this end died; `silent`: so did its machine, and only probes tell the peer. */
  died(silent: boolean): void {
    this.#closed = true;
    const tell = () => this.peer?.gone(new Error('connection reset'));
    if (silent) this.#world.time.after(PROBED_AFTER_MS, tell);
    else this.#later(tell);
  }

  deliver(text: string): void {
    if (this.#closed) {
      if (this.process.alive) this.#world.hit('rpc: came after the connection was given up');
      return;
    }
    const message = this.#read(JSON.parse(text));
    if (typeof message === 'string') throw new Error(`bad RPC message: ${message}`);
    this.process.awake(() => {
      if (this.#closed) return;
      if (this.#onMessage === null) this.#early.push(message);
      else this.#onMessage(message);
    });
  }

  gone(error: Error | null): void {
    if (this.#closed) return;
    // What came before it lies in the socket, and is read first.
    this.process.awake(() => {
      if (this.#closed) return;
      this.#closed = true;
      queueMicrotask(() => {
        if (this.process.alive) this.#onClose?.(error);
      });
    });
  }

  #later(fn: () => void): void {
    const { time, rng, network, hit } = this.#world;
    if (this.#cutOff) return;
    const cut = network.between(this.process.name, this.remote);
    if (cut?.lost === true) {
      hit('rpc: lost');
      this.#lose(cut);
      return;
    }
    if (cut !== null) hit('rpc: held');
    const sentAt = cut?.untilMs ?? time.nowMs;
    const at = Math.max(this.#lastAt, sentAt + rng.between(0, 8));
    this.#lastAt = at;
    time.after(at - time.nowMs, fn);
  }

  /** Once packets pass again, what one end sends finds that the other has no such connection. */
  #lose({ untilMs }: Cut): void {
    this.#cutOff = true;
    const { time } = this.#world;
    time.after(untilMs - time.nowMs, () => {
      const reset = new Error('connection reset');
      this.peer?.gone(reset);
      this.gone(reset);
    });
  }
}

/** Both ends: the server's as the JobManager's shell knows it, the client's for the TaskManager. */
function link(
  jobManager: SimProcess,
  taskManager: SimProcess,
  world: LinkWorld,
): { server: LinkEnd<Command, Report>; client: LinkEnd<Report, Command> } {
  const server = new LinkEnd<Command, Report>(jobManager, taskManager.name, readReport, world);
  const client = new LinkEnd<Report, Command>(taskManager, jobManager.name, readCommand, world);
  server.peer = client as unknown as LinkEnd<never, never>;
  client.peer = server as unknown as LinkEnd<never, never>;
  return { server, client };
}

/** As the TaskManager's RpcClient. */
function asLeaderConnection(client: LinkEnd<Report, Command>): LeaderConnection {
  return {
    send: (report) => client.send(report),
    onCommand: (listener) => client.onMessage(listener),
    onClose: (listener) => client.onClose(listener),
    close: (error) => client.close(error ?? null),
  };
}

/** The shell uses no more of a connection than a LinkEnd has. */
function asConnection(server: LinkEnd<Command, Report>): TaskManagerConnection {
  return server as unknown as TaskManagerConnection;
}

/** All connections, by the processes at their ends. */
export class Links {
  readonly #world: LinkWorld;
  readonly #ends = new Map<SimProcess, { died(silent: boolean): void }[]>();

  constructor(world: LinkWorld) {
    this.#world = world;
  }

  /** Called by the TaskManager. Rejects when the JobManager does not answer. */
  async open(
    jobManager: SimProcess,
    taskManager: SimProcess,
  ): Promise<{ server: TaskManagerConnection; client: LeaderConnection }> {
    await this.#reach(taskManager, jobManager.name);
    if (!jobManager.alive) throw new Error('connection refused');
    const { server, client } = link(jobManager, taskManager, this.#world);
    this.#ends.set(jobManager, [...(this.#ends.get(jobManager) ?? []), server]);
    this.#ends.set(taskManager, [...(this.#ends.get(taskManager) ?? []), client]);
    return { server: asConnection(server), client: asLeaderConnection(client) };
  }

  /** The process is gone, with its machine if `silent`. */
  died(process: SimProcess, silent: boolean): void {
    for (const end of this.#ends.get(process) ?? []) end.died(silent);
    this.#ends.delete(process);
  }

  async #reach(from: SimProcess, to: string): Promise<void> {
    const { network, time, hit } = this.#world;
    const cut = network.between(from.name, to) ?? network.between(to, from.name);
    if (cut === null) return;
    const waitMs = Math.min(CONNECT_LIMIT_MS, cut.untilMs - time.nowMs);
    await sleep(from.env, waitMs);
    if (network.between(from.name, to) === null && network.between(to, from.name) === null) return;
    hit('rpc: no connection');
    throw new Error('connection timed out');
  }
}
