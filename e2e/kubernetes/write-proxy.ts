/**
 * Between an operator and the API server: everything passes, each write is shown before it is sent,
 * and the answer of one that is done may be kept back for ever. Plain HTTP on loopback on the
 * operator's side, an administrator's certificate on the other.
 */
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Agent, request as send } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import type { KubeObject } from '../../operator/src/kube/port.ts';

export interface Write {
  /** `PATCH statefulsets/NAME`, `PATCH triggerjobs/NAME/status`. */
  what: string;
  /** What was sent; of a patch only what it changes. */
  object: Partial<KubeObject>;
}

export interface WriteProxyParts {
  /** Path of a kubeconfig as e2e/testbed/kubernetes/certificates.ts writes it. */
  kubeconfig: string;
  before(write: Write): Promise<void>;
  /** The server has done it. true: nobody is told so. */
  after(write: Write): boolean;
}

const READS = ['GET', 'HEAD', 'OPTIONS'];
/** No flow depends on an Event, and a Lease says only who acts. */
const BESIDE = ['events', 'leases'];

export class WriteProxy {
  readonly #parts: WriteProxyParts;
  readonly #upstream: URL;
  readonly #agent: Agent;
  readonly #server: Server;

  private constructor(parts: WriteProxyParts, upstream: URL, agent: Agent) {
    this.#parts = parts;
    this.#upstream = upstream;
    this.#agent = agent;
    this.#server = createServer((request, response) => {
      this.#pass(request, response).catch(() => response.destroy());
    });
  }

  static async start(parts: WriteProxyParts): Promise<WriteProxy> {
    const config = JSON.parse(await readFile(parts.kubeconfig, 'utf8'));
    const [{ cluster }] = config.clusters;
    const [{ user }] = config.users;
    const decoded = (text: string) => Buffer.from(text, 'base64');
    const agent = new Agent({
      keepAlive: true,
      ca: decoded(cluster['certificate-authority-data']),
      cert: decoded(user['client-certificate-data']),
      key: decoded(user['client-key-data']),
    });
    const proxy = new WriteProxy(parts, new URL(cluster.server), agent);
    await new Promise<void>((done) => proxy.#server.listen(0, '127.0.0.1', done));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
    this.#agent.destroy();
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request);
    const write = writeOf(request, body);
    if (write !== null) await this.#parts.before(write);
    const answer = await this.#answer(request, response, body);
    const { statusCode = 502, headers } = answer;
    if (write !== null && statusCode < 300 && this.#parts.after(write)) {
      answer.destroy();
      response.destroy();
      return;
    }
    response.writeHead(statusCode, headers);
    // A watch may say nothing for minutes.
    response.flushHeaders();
    await pipeline(answer, response);
  }

  #answer(
    { method, url, headers }: IncomingMessage,
    response: ServerResponse,
    body: Buffer,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { hostname, port, host } = this.#upstream;
      const options = { hostname, port, method, path: url, agent: this.#agent };
      const upstream = send({ ...options, headers: { ...headers, host } }, resolve);
      upstream.once('error', reject);
      response.once('close', () => upstream.destroy());
      upstream.end(body);
    });
  }
}

/** null: it changes nothing, or nothing of a job. */
function writeOf({ method = 'GET', url = '' }: IncomingMessage, body: Buffer): Write | null {
  if (READS.includes(method) || url.includes('dryRun=')) return null;
  const [path = ''] = url.split('?');
  const words = path.replace(/^\/apis?\//, '').replace(/^.*namespaces\/[^/]+\//, '');
  if (BESIDE.includes(words.split('/')[0] ?? '')) return null;
  const object = body.length === 0 ? {} : JSON.parse(body.toString());
  return { what: `${method} ${words}`, object };
}
