/**
 * Where the API server is and how this process proves who it is. In a pod that is three files and
 * two variables, read here; for a kubeconfig it is @kubernetes/client-node, loaded only then: its
 * model classes are 55 MB of memory that an operator in a pod can do without.
 *
 * Tokens are read again each minute, as client-go does: a bound service account token lives an
 * hour, the kubelet replaces the file well before. A 401 reads them at once.
 */
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { Agent, type Dispatcher } from 'undici';
import type { Env } from '../env.ts';

const REFRESH_MS = 60_000;
/** Half-open TCP is found by the kernel within 15 s + 10 probes of 1 s (libuv's interval). */
const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 15_000 } as const;
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface Credentials {
  /** `https://host:port`, a path may follow. */
  server: string;
  headers: Record<string, string>;
  /** What the connections must be made with; another value means another set of connections. */
  tlsIdentity: string;
  dispatcher: () => Dispatcher;
}

/** Reads the credentials anew. */
export type CredentialSource = () => Promise<Credentials>;

/** The credentials of a pod. `environment` has KUBERNETES_SERVICE_HOST and _PORT. */
export function inClusterSource(
  environment: NodeJS.ProcessEnv,
  directory = SERVICE_ACCOUNT,
): CredentialSource | null {
  const host = environment['KUBERNETES_SERVICE_HOST'];
  const port = environment['KUBERNETES_SERVICE_PORT'] ?? '443';
  if (host === undefined || host === '') return null;
  const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;
  return async () => {
    const [ca, token] = await Promise.all([
      readFile(join(directory, 'ca.crt'), 'utf8'),
      readFile(join(directory, 'token'), 'utf8'),
    ]);
    return {
      server,
      headers: { authorization: `Bearer ${token.trim()}` },
      tlsIdentity: ca,
      dispatcher: () => new Agent({ connect: { ...KEEP_ALIVE, ca } }),
    };
  };
}

/** The current context of a kubeconfig: certificates, tokens, exec plugins, OIDC, proxies. */
export async function kubeconfigSource(file: string): Promise<CredentialSource> {
  const { KubeConfig, RequestContext } = await import('@kubernetes/client-node');
  return async () => {
    // Loaded anew: the library reads `tokenFile` of a kubeconfig only then.
    const config = new KubeConfig();
    config.loadFromFile(file);
    const cluster = config.getCurrentCluster();
    if (cluster === null) throw new Error(`${file}: no current context, or it names no cluster`);
    const context = new RequestContext(cluster.server, 'GET');
    await config.applySecurityAuthentication(context);
    return {
      server: cluster.server.replace(/\/$/, ''),
      headers: context.getHeaders(),
      tlsIdentity: config.exportConfig(),
      dispatcher: () => context.getDispatcher() ?? new Agent({ connect: KEEP_ALIVE }),
    };
  };
}

/** A server without credentials, over plain HTTP: `kubectl proxy`, or a test's. */
export function plainSource(server: string): CredentialSource {
  const dispatcher = () => new Agent({ connect: KEEP_ALIVE });
  return async () => ({ server, headers: {}, tlsIdentity: '', dispatcher });
}

interface Current {
  credentials: Credentials;
  dispatcher: Dispatcher;
  /** When the credentials were read, and when these connections began to be used: monotonic ms. */
  readAt: number;
  connectedAt: number;
}

/** Keeps the connections and the newest credentials. */
export class Connection {
  readonly #env: Env;
  readonly #source: CredentialSource;
  #current: Current | null = null;
  #suspected = false;
  #reading: Promise<Current> | null = null;

  constructor(env: Env, source: CredentialSource) {
    this.#env = env;
    this.#source = source;
  }

  /** `force`: the server refused the ones at hand. */
  async credentials(force = false): Promise<Credentials & { connections: Dispatcher }> {
    let current = this.#current;
    const old = this.#env.monotonic() - (current?.readAt ?? 0) > REFRESH_MS;
    if (current === null || force || old || this.#suspected) {
      this.#reading ??= this.#read().finally(() => {
        this.#reading = null;
      });
      current = await this.#reading;
    }
    return { ...current.credentials, connections: current.dispatcher };
  }

  /**
   * A request begun at `since` (monotonic ms) was not answered. Its connection may be half-open,
   * and so may every other one that lies idle: the next requests get connections of their own, else
   * each of the old ones would cost a deadline. What is under way goes on.
   */
  suspect(since: number): void {
    if (this.#current !== null && this.#current.connectedAt <= since) this.#suspected = true;
  }

  async #read(): Promise<Current> {
    const suspected = this.#suspected;
    this.#suspected = false;
    let credentials: Credentials;
    try {
      credentials = await this.#source();
    } catch (error) {
      // A file that is being replaced; the old token is good for a while, the server will tell.
      if (this.#current === null) throw error;
      return this.#current;
    }
    const old = this.#current;
    const same =
      old !== null && !suspected && old.credentials.tlsIdentity === credentials.tlsIdentity;
    const readAt = this.#env.monotonic();
    const current = same
      ? { ...old, credentials, readAt }
      : { credentials, dispatcher: credentials.dispatcher(), readAt, connectedAt: readAt };
    this.#current = current;
    // Requests and watches under way end on the old connections.
    if (old !== null && !same) void old.dispatcher.close().catch(() => undefined);
    return current;
  }

  async close(): Promise<void> {
    await this.#current?.dispatcher.destroy().catch(() => undefined);
  }
}
