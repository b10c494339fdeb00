/**
 * The two services around the demo's pipeline, clearly no part of the product: a Profile API that
 * answers for every user id, always the same, and a webhook receiver that counts and checks.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { messageOf } from '../runtime/errors.ts';

const COUNTRIES = ['DE', 'US', 'FR', 'GB', 'IN', 'BR', 'JP', 'US', 'CA', 'AU'];
const PLANS = ['free', 'basic', 'pro'];
const EVENT_NAMES = ['page_view', 'product_view', 'add_to_cart', 'purchase', 'search'];
const MIN_HISTORY = 20;
const MAX_HISTORY = 100;
/** Before any event of the generated stream, whose time starts in November 2023. */
const HISTORY_START_MS = 1_690_000_000_000;
const MINUTE_MS = 60_000;

/** Delivery ids kept to recognise a repeated one; the oldest are forgotten first. */
const MAX_IDS = 200_000;
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** FNV-1a, 32 bits: the same user has the same profile in every run, on every machine. */
function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** 9 countries; one user in five is from the US. */
export function demoProfile(userId: string): object {
  const seed = seedOf(userId);
  return {
    user_id: userId,
    country: COUNTRIES[seed % COUNTRIES.length],
    plan: PLANS[(seed >>> 8) % PLANS.length],
    age: 18 + ((seed >>> 4) % 60),
    email: `${userId}@example.com`,
  };
}

export function demoVisit(userId: string): object {
  const seed = seedOf(`${userId}/visit`);
  return { first_seen: HISTORY_START_MS, visits: 1 + (seed % 50), device: PLANS[seed % 2] };
}

/** 20 to 100 events, oldest first. */
export function demoHistory(userId: string): object[] {
  const seed = seedOf(`${userId}/history`);
  const length = MIN_HISTORY + (seed % (MAX_HISTORY - MIN_HISTORY + 1));
  return Array.from({ length }, (_, index) => ({
    user_id: userId,
    event_name: EVENT_NAMES[(seed + index * 7) % EVENT_NAMES.length],
    timestamp: HISTORY_START_MS + index * MINUTE_MS,
    triggerable: (seed + index) % 3 === 0,
  }));
}

const PARTS: Record<string, (userId: string) => unknown> = {
  profile: demoProfile,
  visit: demoVisit,
  history: demoHistory,
};

export interface ReceiverCounts {
  received: number;
  /**
   * Deliveries with an id that came before: retries and replays; the receiver of a hook drops them.
   */
  repeated: number;
  /** Bodies that are no enriched event. */
  invalid: number;
}

/** Counts deliveries and recognises repeated ones by their `webhook-id`. */
export class DemoReceiver {
  readonly counts: ReceiverCounts = { received: 0, repeated: 0, invalid: 0 };
  /** Path and body of the first delivery of this run. */
  readonly first: Promise<{ path: string; body: string }>;
  readonly #first = Promise.withResolvers<{ path: string; body: string }>();
  readonly #ids = new Set<string>();

  constructor() {
    this.first = this.#first.promise;
  }

  /** The HTTP status to answer. */
  take(path: string, id: string | undefined, body: string): number {
    if (id === undefined || !isEnrichedEvent(body)) {
      this.counts.invalid += 1;
      return 400;
    }
    this.counts.received += 1;
    if (this.#ids.has(id)) this.counts.repeated += 1;
    this.#ids.add(id);
    if (this.#ids.size > MAX_IDS) {
      const [oldest] = this.#ids;
      if (oldest !== undefined) this.#ids.delete(oldest);
    }
    this.#first.resolve({ path, body });
    return 204;
  }
}

function isEnrichedEvent(body: string): boolean {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null && 'event' in value && 'user' in value;
  } catch {
    return false;
  }
}

export interface DemoServices {
  receiver: DemoReceiver;
  close(): Promise<void>;
}

/** Both servers on loopback. `profilePort` and `webhookPort` must be free. */
export async function startDemoServices(
  profilePort: number,
  webhookPort: number,
): Promise<DemoServices> {
  const receiver = new DemoReceiver();
  const servers = [
    createServer((request, response) => answerProfile(request, response)),
    createServer((request, response) => {
      receive(receiver, request, response).catch((error: unknown) => {
        response.writeHead(400).end(messageOf(error));
      });
    }),
  ];
  await Promise.all([listen(servers[0]!, profilePort), listen(servers[1]!, webhookPort)]);
  return {
    receiver,
    async close() {
      for (const server of servers) server.closeAllConnections();
      await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
    },
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen(port, '127.0.0.1', () => done());
  });
}

function answerProfile(request: IncomingMessage, response: ServerResponse): void {
  const match = /^\/users\/([^/]+)\/(profile|visit|history)$/.exec(request.url ?? '');
  const part = PARTS[match?.[2] ?? ''];
  if (match === null || part === undefined) {
    response.writeHead(404).end();
    return;
  }
  const body = JSON.stringify(part(decodeURIComponent(match[1] ?? '')));
  response.writeHead(200, { 'content-type': 'application/json' }).end(body);
}

async function receive(
  receiver: DemoReceiver,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_BODY_BYTES) {
      response.writeHead(413).end();
      return;
    }
  }
  const id = request.headers['webhook-id'];
  const text = Buffer.concat(chunks).toString('utf8');
  const status = receiver.take(request.url ?? '/', Array.isArray(id) ? id[0] : id, text);
  response.writeHead(status).end();
}
