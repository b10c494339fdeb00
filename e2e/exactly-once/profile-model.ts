/**
 * The Profile API of the checker: a deterministic model of its users, and an HTTP server that
 * answers with it, remembers what it served, and can be broken on purpose.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { UNKNOWN_USER } from './fold.ts';
import type { ServedUser } from './history.ts';
import { seededRandom } from './random.ts';

/** null = 404, an unknown user. `fetchNo` counts this user's profile requests from 1. */
export type ProfileModel = (user: string, fetchNo: number) => ServedUser | null;

/**
 * One in ten is unknown. One in forty answers differently at every fetch (P33): the only users
 * whose repeated deliveries may differ. Texts are spaced and numbered so that a re-print would
 * show; visits are in the form JSON.stringify gives, since every event re-writes them.
 */
export function profileModel(seed: number): ProfileModel {
  return (user, fetchNo) => {
    const index = Number(user.slice(5));
    const random = seededRandom(seed + index * 65_537);
    if (index % 10 === 3) return null;
    const varies = index % 40 === 6;
    const country = varies || random() < 0.4 ? 'US' : 'DE';
    const fetched = varies ? `,"fetch": ${fetchNo}` : '';
    const profile =
      `{"user_id": "${user}","country":"${country}", "score":${(random() * 9).toFixed(1)}0` +
      `${fetched},"bio":"${'x'.repeat(Math.floor(random() * 2000))}"}`;
    const visits = ['{}', '{"event_count":7,"plan":"gold"}', '{"page":"/","event_count":"n/a"}'];
    const visit = visits[Math.floor(random() * visits.length)]!;
    const history = Array.from(
      { length: Math.floor(random() * 20) },
      (_, n) => `{"user_id":"${user}","event_name":"before","seq":${n - 100},"amount":1.50}`,
    );
    return { profile, visit, history };
  };
}

export type ProfileFault = 'none' | 'slow' | 'wrong-json' | 'huge';

const HUGE_BYTES = 100 * 1024 * 1024;
/** How long `slow` waits: beyond the timeout that the fault runs set. */
const SLOW_MS = 5_000;

export class ProfileServer {
  readonly #server: Server;
  readonly #model: ProfileModel;
  readonly #random: () => number;
  readonly #errorShare: number;
  readonly #host: string;
  readonly #served = new Map<string, Map<string, ServedUser>>();
  readonly #fetches = new Map<string, number>();
  #port = 0;
  fault: ProfileFault = 'none';
  requests = 0;

  /** `errorShare` of the requests is answered 503, at random. `host`: of this machine. */
  constructor(model: ProfileModel, seed = 1, errorShare = 0, host = '127.0.0.1') {
    this.#host = host;
    this.#model = model;
    this.#random = seededRandom(seed);
    this.#errorShare = errorShare;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
    this.#server.keepAliveTimeout = 600_000;
  }

  /** After `down`, on the same port again. */
  async up(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, this.#host, resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Refuses connections until `up`. */
  async down(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  get url(): string {
    return `http://${this.#host}:${this.#port}`;
  }

  /** Every distinct answer served so far, by user. */
  served(): Record<string, ServedUser[]> {
    return Object.fromEntries([...this.#served].map(([user, all]) => [user, [...all.values()]]));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests++;
    request.resume();
    const path = /^\/users\/([^/]+)\/(profile|visit|history)$/.exec(request.url ?? '');
    if (path === null) {
      response.writeHead(400).end();
      return;
    }
    const user = decodeURIComponent(path[1]!);
    if (this.fault !== 'none') {
      await this.#break(response);
      return;
    }
    // Mostly quick, sometimes long enough for events to be parked across a barrier.
    await wait(this.#random() < 0.1 ? 400 : 3);
    if (this.#random() < this.#errorShare) {
      response.writeHead(503).end('{"error":"injected"}');
      return;
    }
    this.#send(response, user, path[2] as 'profile' | 'visit' | 'history');
  }

  #send(response: ServerResponse, user: string, part: 'profile' | 'visit' | 'history'): void {
    const fetchNo = (this.#fetches.get(user) ?? 0) + (part === 'profile' ? 1 : 0);
    this.#fetches.set(user, fetchNo);
    const found = this.#model(user, fetchNo);
    const answer = found ?? UNKNOWN_USER;
    const variants = this.#served.get(user) ?? new Map<string, ServedUser>();
    this.#served.set(user, variants);
    // Only `profile` may vary by fetch; the two other parts belong to every variant.
    if (part === 'profile') variants.set(answer.profile, answer);
    if (found === null) {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"unknown"}');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(part === 'history' ? `[${answer.history.join(',')}]` : answer[part]);
  }

  async #break(response: ServerResponse): Promise<void> {
    if (this.fault === 'slow') {
      await wait(SLOW_MS);
      response.writeHead(503).end();
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    if (this.fault === 'wrong-json') {
      response.end('{"country": US, <html>');
      return;
    }
    const chunk = Buffer.alloc(1024 * 1024, 0x20);
    for (let sent = 0; sent < HUGE_BYTES && !response.destroyed; sent += chunk.length) {
      if (!response.write(chunk)) await writableOrClosed(response);
    }
    response.end('{}');
  }
}

function writableOrClosed(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}
