/**
 * An RPC connection without a socket: JSON both ways, in order, late. It ends like a socket does:
 * what was sent before an orderly close still comes, a dead peer is noticed after a while.
 */
import type { Command, Report } from '../rpc/messages.ts';
import type { TaskManagerConnection } from '../rpc/server.ts';
import { readCommand, readReport } from '../rpc/shape.ts';
import type { Seeded } from './seeded.ts';
import type { SimProcess, VirtualTime } from './virtual-time.ts';

/** The kernel's probes of a peer that does not answer. */
const PROBED_AFTER_MS = 8000;

type Read<In> = (value: unknown) => In | string;

/** One end, with the methods of RpcConnection. */
export class LinkEnd<Out extends object, In> {
  readonly remote: string;
  readonly process: SimProcess;
  readonly #read: Read<In>;
  readonly #time: VirtualTime;
  readonly #rng: Seeded;
  peer: LinkEnd<never, never> | null = null;
  #onMessage: ((message: In) => void) | null = null;
  #onClose: ((error: Error | null) => void) | null = null;
  #early: In[] = [];
  #closed = false;
  #lastAt = 0;

  constructor(process: SimProcess, remote: string, read: Read<In>, rng: Seeded) {
    this.process = process;
    this.remote = remote;
    this.#read = read;
    this.#time = process.time;
    this.#rng = rng;
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
    if (silent) this.#time.after(PROBED_AFTER_MS, tell);
    else this.#later(tell);
  }

  deliver(text: string): void {
    if (this.#closed || !this.process.alive) return;
    const message = this.#read(JSON.parse(text));
    if (typeof message === 'string') throw new Error(`bad RPC message: ${message}`);
    if (this.#onMessage === null) this.#early.push(message);
    else this.#onMessage(message);
  }

  gone(error: Error | null): void {
    if (this.#closed) return;
    this.#closed = true;
    queueMicrotask(() => {
      if (this.process.alive) this.#onClose?.(error);
    });
  }

  #later(fn: () => void): void {
    const at = Math.max(this.#lastAt, this.#time.nowMs + this.#rng.between(0, 8));
    this.#lastAt = at;
    this.#time.after(at - this.#time.nowMs, fn);
  }
}

/** Both ends: the server's as the JobManager's shell knows it, the client's for the TaskManager. */
export function link(
  jobManager: SimProcess,
  taskManager: SimProcess,
  rng: Seeded,
): { server: LinkEnd<Command, Report>; client: LinkEnd<Report, Command> } {
  const server = new LinkEnd<Command, Report>(jobManager, taskManager.name, readReport, rng);
  const client = new LinkEnd<Report, Command>(taskManager, jobManager.name, readCommand, rng);
  server.peer = client as unknown as LinkEnd<never, never>;
  client.peer = server as unknown as LinkEnd<never, never>;
  return { server, client };
}

/** The shell uses no more of a connection than a LinkEnd has. */
export function asConnection(server: LinkEnd<Command, Report>): TaskManagerConnection {
  return server as unknown as TaskManagerConnection;
}
