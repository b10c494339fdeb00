/**
 * The shuffle port of a TaskManager and its connections to the others. Of each pair the one with
 * the smaller id calls, and calls again until the other has got its deployment, too. What an
 * attempt's connections mean is shuffle-attempt.ts; this is who may have one.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { AttemptMember } from '../rpc/messages.ts';
import { call, refusalLog, TransportServer } from '../rpc/transport.ts';
import type { TransportKeys } from '../rpc/transport-secret.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { PeerLink } from './peer-link.ts';
import { ShuffleAttempt, type ShuffleAttemptOptions } from './shuffle-attempt.ts';
import { helloFault, receiveHello, sendHello, sendRefusal } from './shuffle-handshake.ts';

const DIAL_PAUSE_MS = 50;
const DIAL_LIMIT_MS = 5_000;
/**
 * Silence limits from the deployment to the connection: the peer may be taking down its last
 * attempt.
 */
const CONNECT_TIMEOUTS = 2;

export interface ShuffleServerOptions {
  env: Env;
  log: Logger;
  host: string;
  port: number;
  /** null or left out = plain TCP. */
  keys?: TransportKeys | null;
}

export class ShuffleServer {
  readonly #env: Env;
  readonly #log: Logger;
  readonly #keys: TransportKeys | null;
  readonly #sockets = new Set<Socket>();
  #transport: TransportServer | null = null;
  #attempt: ShuffleAttempt | null = null;
  #closed = false;

  private constructor({ env, log, keys }: ShuffleServerOptions) {
    this.#env = env;
    this.#log = log;
    this.#keys = keys ?? null;
  }

  /** Port 0 takes any free one. Rejects with SHUFFLE_LISTEN. */
  static async listen(options: ShuffleServerOptions): Promise<ShuffleServer> {
    const { env, log, host, port } = options;
    const server = new ShuffleServer(options);
    try {
      server.#transport = await TransportServer.listen({
        ...{ host, port, keys: server.#keys, purpose: 'shuffle' },
        onSocket: (socket, admit) => server.#answer(socket, admit),
        onRefused: refusalLog(env, log, 'shuffle'),
      });
      return server;
    } catch (cause) {
      const text = `shuffle port ${port} on ${host} can't be used, choose another`;
      throw new TriggerJobError('SHUFFLE_LISTEN', text, { cause });
    }
  }

  get port(): number {
    return this.#transport?.port ?? 0;
  }

  /** Connections that have not shown who they are, and how many of them had to make room. */
  get strangers(): { open: number; dropped: number } {
    return this.#transport?.strangers ?? { open: 0, dropped: 0 };
  }

  /** Ends the attempt before it, if there is one. */
  begin(options: ShuffleAttemptOptions): ShuffleAttempt {
    this.end();
    const attempt = new ShuffleAttempt(options);
    this.#attempt = attempt;
    this.connect(attempt, attempt.peers);
    return attempt;
  }

  /** Of `attempt`, those that have no link yet. */
  connect(attempt: ShuffleAttempt, peers: ShuffleAttempt['peers']): void {
    const { self, timeoutMs } = attempt.options;
    for (const peer of peers) {
      const { member } = peer;
      const { taskManagerId } = member;
      if (self < taskManagerId) void this.#dial(attempt, member);
      this.#env.timer(CONNECT_TIMEOUTS * timeoutMs, () => {
        if (peer.state !== 'connecting' || attempt.closed) return;
        const text = `no connection with ${taskManagerId} in ${CONNECT_TIMEOUTS * timeoutMs} ms`;
        attempt.lose(taskManagerId, new TriggerJobError('LINK_MISSING', text));
      });
    }
  }

  end(): void {
    this.#attempt?.close();
    this.#attempt = null;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.end();
    for (const socket of this.#sockets) socket.destroy();
    await this.#transport?.close();
  }

  #own(socket: Socket): void {
    this.#sockets.add(socket);
    // Who uses the socket listens, too; between two users an error must not end the process.
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #answer(socket: Socket, admit: () => void): void {
    this.#own(socket);
    this.#accept(socket, admit).catch((error: unknown) => {
      this.#log.debug({ error: messageOf(error) }, 'a shuffle connection came to nothing');
      socket.destroy();
    });
  }

  async #accept(socket: Socket, admit: () => void): Promise<void> {
    const { hello, rest } = await receiveHello(this.#env, socket);
    const attempt = this.#attempt;
    const fault = attempt === null ? 'no job runs here' : helloFault(attempt.identity, hello);
    const reason = fault ?? (attempt?.expects(hello.from) ? null : 'it had its connection');
    if (reason !== null || attempt === null) {
      // Also every caller that got its deployment first: it calls again.
      this.#log.debug({ from: hello.from, attempt: hello.attempt, reason }, 'shuffle refused');
      sendRefusal(socket, hello, reason ?? '');
      // A caller that never hangs up must not keep it open.
      socket.once('finish', () => socket.destroy());
      return;
    }
    admit();
    sendHello(socket, attempt.identity, hello.from);
    this.#open(attempt, hello.from, socket, rest);
  }

  async #dial(attempt: ShuffleAttempt, member: AttemptMember): Promise<void> {
    const { taskManagerId } = member;
    while (attempt.expects(taskManagerId) && !this.#closed) {
      let socket: Socket | null = null;
      try {
        const { host, port } = member;
        const target = { host, port, timeoutMs: DIAL_LIMIT_MS, keys: this.#keys };
        socket = await call(this.#env, { ...target, purpose: 'shuffle' });
        this.#own(socket);
        // The attempt may have ended meanwhile, or all of this process.
        if (this.#closed || !attempt.expects(taskManagerId)) {
          socket.destroy();
          return;
        }
        sendHello(socket, attempt.identity, taskManagerId);
        const { hello, rest } = await receiveHello(this.#env, socket);
        const fault = helloFault(attempt.identity, hello);
        if (fault === null && hello.from === taskManagerId && attempt.expects(taskManagerId)) {
          this.#open(attempt, taskManagerId, socket, rest);
          return;
        }
        throw new TriggerJobError('LINK_REFUSED', fault ?? `${hello.from} answered`);
      } catch (error) {
        socket?.destroy();
        const reason = messageOf(error);
        this.#log.debug({ peer: taskManagerId, reason }, 'no shuffle connection yet');
        await sleep(this.#env, DIAL_PAUSE_MS);
      }
    }
  }

  #open(attempt: ShuffleAttempt, peer: string, socket: Socket, rest: Buffer): void {
    const { heartbeatMs, timeoutMs } = attempt.options;
    const link = new PeerLink({
      env: this.#env,
      socket,
      heartbeatMs,
      timeoutMs,
      maxQueued: attempt.maxQueued(peer),
      onMessage: (message) => attempt.receive(peer, message),
      onLost: (error) => attempt.lose(peer, error),
    });
    attempt.connected(peer, link);
    link.start(rest);
  }
}
