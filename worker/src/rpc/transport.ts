/**
 * Connections between the processes of a job, for RPC and shuffle: TLS 1.3 when there are keys,
 * plain TCP when there are none, never one in place of the other.
 *
 * The keys are external pre-shared keys (RFC 8446, 4.2.11) with an ephemeral exchange on top
 * (psk_dhe_ke; OpenSSL offers no other mode unless asked): both ends prove that they know the
 * secret, before a byte of ours is sent or read, and who learns it later can't read what was
 * recorded. There is no certificate, so nothing expires; one that is shown is refused, however
 * valid it is.
 *
 * A connection is a stranger until its user admits it. Strangers are limited in number, the oldest
 * goes first, and in time by their user's deadline; the handshake has one of its own.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import {
  connect as connectTls,
  createServer as createTlsServer,
  type TLSSocket,
  type Server as TlsServer,
} from 'node:tls';
import type { Logger } from 'pino';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { SAME_FILE } from './tls-record.ts';
import type { Purpose, TransportKeys } from './transport-secret.ts';

/** Far above any number of TaskManagers; more are closed at accept (I7). */
const MAX_CONNECTIONS = 4096;
/** A fleet that comes back all at once still fits; a flood costs this many handshakes' memory. */
const MAX_STRANGERS = 256;
const HANDSHAKE_LIMIT_MS = 5_000;
/** Of refusals logged; a flood must not fill the disk. */
const WARN_PAUSE_MS = 10_000;

/** Node's pre-shared keys work with SHA-256 suites only; AES is the faster one (bench exchange). */
const TLS_OPTIONS = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' } as const;

export interface ListenOptions {
  host: string;
  port: number;
  purpose: Purpose;
  /** null = plain TCP. */
  keys: TransportKeys | null;
  /** `admit`: it has shown who it is. Data waits until somebody listens. */
  onSocket(socket: Socket, admit: () => void): void;
  /** A caller did not get in; `reason` says what to do about it. */
  onRefused?(remote: string, reason: string): void;
}

export class TransportServer {
  readonly #server: Server;
  /** By their end of the connection, oldest first: the same for a TLS socket and the one below. */
  readonly #strangers = new Map<string, Socket>();
  readonly #options: ListenOptions;
  readonly #tls: TlsServer | null;
  #dropped = 0;

  private constructor(options: ListenOptions) {
    this.#options = options;
    this.#tls = options.keys === null ? null : this.#tlsServer(options.purpose, options.keys);
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Port 0 takes any free one. Rejects with the system's error. */
  static async listen(options: ListenOptions): Promise<TransportServer> {
    const transport = new TransportServer(options);
    const server = transport.#server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port, options.host, () => {
        server.off('error', reject);
        resolve();
      });
    });
    // What a listening socket reports is one connection that could not be accepted.
    server.on('error', (error) => options.onRefused?.('?', messageOf(error)));
    return transport;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Connections that have not shown who they are, and how many of them had to make room. */
  get strangers(): { open: number; dropped: number } {
    return { open: this.#strangers.size, dropped: this.#dropped };
  }

  /** Stops listening; resolves when the last connection is gone, strangers are cut off. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#strangers.values()) socket.destroy();
    await closed;
  }

  #accept(raw: Socket): void {
    // Until its user listens; an error without a listener ends the process.
    raw.on('error', () => undefined);
    for (const [end, oldest] of this.#strangers) {
      if (this.#strangers.size < MAX_STRANGERS) break;
      this.#strangers.delete(end);
      this.#dropped++;
      oldest.destroy();
    }
    const end = peerOf(raw);
    this.#strangers.set(end, raw);
    raw.once('close', () => this.#strangers.delete(end));
    if (this.#tls !== null) this.#tls.emit('connection', raw);
    else this.#options.onSocket(raw, () => this.#strangers.delete(end));
  }

  #tlsServer(purpose: Purpose, keys: TransportKeys): TlsServer {
    const server = createTlsServer({
      ...TLS_OPTIONS,
      handshakeTimeout: HANDSHAKE_LIMIT_MS,
      pskCallback: (_socket, identity) => keys.find(purpose, identity),
    });
    server.on('secureConnection', (socket) => {
      socket.on('error', () => undefined);
      const end = peerOf(socket);
      this.#options.onSocket(socket, () => this.#strangers.delete(end));
    });
    server.on('tlsClientError', (error, socket) => {
      this.#options.onRefused?.(socket.remoteAddress ?? '?', whyRefused(error));
      socket.destroy();
    });
    return server;
  }
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

export interface CallOptions {
  host: string;
  port: number;
  timeoutMs: number;
  purpose: Purpose;
  keys: TransportKeys | null;
}

/** A connection on which both ends know each other. Rejects within `timeoutMs`; retryable. */
export function call(env: Env, options: CallOptions): Promise<Socket> {
  const { host, port, timeoutMs, keys, purpose } = options;
  return new Promise((resolve, reject) => {
    const socket = keys === null ? connect({ host, port }) : callSecured(options, keys);
    const fail = (code: string, reason: string) => {
      timer.cancel();
      socket.off('error', onError);
      socket.on('error', () => undefined);
      socket.destroy();
      reject(new TriggerJobError(code, reason, { retryable: true }));
    };
    const onError = (error: Error) => fail(...whyFailed(error));
    const timer = env.timer(timeoutMs, () => fail('CONNECT', `no answer in ${timeoutMs} ms`));
    socket.once('error', onError);
    socket.once(keys === null ? 'connect' : 'secureConnect', () => {
      if (keys !== null && !provedKey(socket as TLSSocket)) {
        fail(
          'TLS_SECRET',
          `the ${purpose} port showed a certificate: it is no process of this job`,
        );
        return;
      }
      timer.cancel();
      // Its user listens soon, not at once.
      socket.on('error', () => undefined);
      socket.off('error', onError);
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

function callSecured({ host, port, purpose }: CallOptions, keys: TransportKeys): TLSSocket {
  const { identity, key } = keys.own(purpose);
  return connectTls({
    ...TLS_OPTIONS,
    host,
    port,
    pskCallback: () => ({ identity, psk: key }),
    // Only asked for a certificate, of which none is good enough.
    checkServerIdentity: () => new Error('a certificate in place of the secret'),
  });
}

/** A server that chose its certificate over our key has proved nothing that we know. */
function provedKey(socket: TLSSocket): boolean {
  return socket.authorized && socket.getPeerX509Certificate() === undefined;
}

/** A warning of refused callers, at most one each 10 s, with the count of those between. */
export function refusalLog(
  env: Env,
  log: Logger,
  purpose: Purpose,
): (remote: string, reason: string) => void {
  let warnedAt = Number.NEGATIVE_INFINITY;
  let silent = 0;
  return (remote, reason) => {
    const now = env.monotonic();
    if (now - warnedAt < WARN_PAUSE_MS) {
      silent++;
      return;
    }
    log.warn({ remote, purpose, others: silent }, `refused a connection: ${reason}`);
    warnedAt = now;
    silent = 0;
  };
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Seen by the side that was called. */
function whyRefused(error: Error): string {
  const code = codeOf(error);
  if (
    code === 'ERR_SSL_BINDER_DOES_NOT_VERIFY' ||
    code === 'ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM'
  ) {
    return `the caller does not know this job's secret: ${SAME_FILE}`;
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_HTTP_REQUEST') {
    return `the caller speaks no TLS: ${SAME_FILE}`;
  }
  return messageOf(error);
}

/** Seen by the caller: code and text. */
function whyFailed(error: Error): [string, string] {
  const code = codeOf(error);
  if (/ALERT_(DECRYPT_ERROR|HANDSHAKE_FAILURE|UNKNOWN_PSK_IDENTITY)/.test(code)) {
    return ['TLS_SECRET', `it does not know this process's secret: ${SAME_FILE}`];
  }
  if (
    code === 'ERR_SSL_WRONG_VERSION_NUMBER' ||
    /before secure TLS connection/.test(error.message)
  ) {
    return ['TLS_PLAIN', `it closed the connection or speaks no TLS: ${SAME_FILE}`];
  }
  if (/^ERR_(SSL|TLS)/.test(code) || !/^E[A-Z]/.test(code)) {
    return ['TLS_SECRET', `${messageOf(error)}: ${SAME_FILE}`];
  }
  return ['CONNECT', messageOf(error)];
}
