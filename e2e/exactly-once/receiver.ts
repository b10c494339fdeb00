/**
 * The webhook receiver of the checker: records every request that arrived whole, with what was
 * answered, and can be broken on purpose. Imports nothing from worker/ (independence.test.ts).
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Receipt } from './history.ts';
import { seededRandom } from './random.ts';

/** `hang`: headers and half a body are sent, never the rest. */
export type ReceiverFault = 'none' | '429' | 'hang' | '400';

export class Receiver {
  readonly #server: Server;
  readonly #openedAt = new WeakMap<Socket, number>();
  readonly #random: () => number;
  readonly #errorShare: number;
  readonly #host: string;
  readonly #hung = new Set<ServerResponse>();
  #port = 0;
  readonly receipts: Receipt[] = [];
  /** Bodies that were not an enriched event; a violation by themselves. */
  readonly strange: string[] = [];
  /** Headers of the first receipt, for the record. */
  firstHeaders: Record<string, unknown> | null = null;
  fault: ReceiverFault = 'none';

  /**
   * `errorShare` of the requests is answered 503 at random, so that retries happen in every run.
   * `host`: an address of this machine.
   */
  constructor(seed = 1, errorShare = 0, host = '127.0.0.1') {
    this.#host = host;
    this.#random = seededRandom(seed);
    this.#errorShare = errorShare;
    this.#server = createServer((request, response) => {
      this.#receive(request, response).catch(() => response.destroy());
    });
    this.#server.keepAliveTimeout = 600_000;
    this.#server.on('connection', (socket) => this.#openedAt.set(socket, Date.now()));
  }

  /** After `down`, on the same port again. */
  async up(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, this.#host, resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Refuses connections until `up`; requests under way are cut. */
  async down(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  get url(): string {
    return `http://${this.#host}:${this.#port}/hook`;
  }

  /** Cuts the requests left hanging by the fault `hang`. */
  releaseHung(): void {
    for (const response of this.#hung) response.destroy();
    this.#hung.clear();
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const receipt = this.#record(request, Buffer.concat(chunks));
    this.firstHeaders ??= { ...request.headers };
    if (this.fault === 'hang') {
      this.#hung.add(response);
      response.on('close', () => this.#hung.delete(response));
      // The status is the answer: a body that never ends does not take it back.
      receipt.status = 200;
      receipt.answeredAt = Date.now();
      response.writeHead(200, { 'content-length': '1000' }).write('half');
      return;
    }
    receipt.status = this.#status();
    const headers = receipt.status === 429 ? { 'retry-after': '1' } : {};
    // Before the answer leaves: the sender's next request can then not be older than this.
    receipt.answeredAt = Date.now();
    response.writeHead(receipt.status, headers).end();
  }

  #status(): number {
    if (this.fault === '429') return 429;
    if (this.fault === '400') return 400;
    return this.#random() < this.#errorShare ? 503 : 204;
  }

  #record(request: IncomingMessage, body: Buffer): Receipt {
    const text = (value: string | string[] | undefined) =>
      typeof value === 'string' ? value : null;
    const receipt: Receipt = {
      at: Date.now(),
      openedAt: this.#openedAt.get(request.socket) ?? 0,
      from: request.socket.remoteAddress ?? '',
      status: null,
      answeredAt: null,
      id: text(request.headers['webhook-id']) ?? '',
      ceId: text(request.headers['ce-id']),
      user: '',
      seq: -1,
      sha: createHash('sha256').update(body).digest('hex'),
      bytes: body.length,
    };
    try {
      const { event } = JSON.parse(body.toString('utf8')) as {
        event: { user_id: string; seq: number };
      };
      receipt.user = event.user_id;
      receipt.seq = event.seq;
    } catch {
      this.strange.push(body.toString('utf8', 0, 200));
    }
    this.receipts.push(receipt);
    return receipt;
  }
}
