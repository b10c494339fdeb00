/** For tests only: HTTP servers on loopback, a hurried clock, a hand-driven clock, a silent log. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { type Env, realEnv, type Timer } from '../runtime/env.ts';

export const silentLog = pino({ level: 'silent' });

/** A request as the server saw it, body complete. */
export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: Buffer;
}

export interface Loopback {
  url: string;
  port: number;
  server: Server;
  seen: Seen[];
}

/** Starts a server on a free port that is gone, connections included, when the test ends. */
export async function startLoopback(
  t: TestContext,
  answer: (seen: Seen, response: ServerResponse, request: IncomingMessage) => void,
): Promise<Loopback> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('error', () => {});
    response.on('error', () => {});
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const entry = { method, path: url, headers, body: Buffer.concat(chunks) };
      seen.push(entry);
      answer(entry, response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port, server, seen };
}

/**
 * Real time, `factor` times as fast: backoffs of seconds cost milliseconds. Fixed random numbers.
 */
export function hurriedEnv(factor: number): Env {
  const origin = realEnv.monotonic();
  const startedAt = realEnv.now();
  const monotonic = () => (realEnv.monotonic() - origin) * factor;
  return {
    now: () => startedAt + monotonic(),
    monotonic,
    random: () => 0.5,
    id: () => realEnv.id(),
    timer: (delayMs, fn) => realEnv.timer(delayMs / factor, fn),
  };
}

/** A clock that stands still until the test moves it. */
export class HandEnv implements Env {
  #now = 0;
  #ids = 0;
  readonly #timers = new Set<{ at: number; fn: () => void }>();

  now(): number {
    return 1_700_000_000_000 + this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  random(): number {
    return 0.5;
  }

  id(): string {
    this.#ids += 1;
    return String(this.#ids).padStart(32, '0');
  }

  timer(delayMs: number, fn: () => void): Timer {
    const entry = { at: this.#now + delayMs, fn };
    this.#timers.add(entry);
    return { cancel: () => this.#timers.delete(entry) };
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Fires what falls due, in order, letting all that is ready run before and after each. */
  async advance(byMs: number): Promise<void> {
    const until = this.#now + byMs;
    await turns();
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.fn();
      await turns();
    }
    this.#now = until;
  }
}

/** Lets promises and immediates that are ready run. */
export async function turns(count = 5): Promise<void> {
  for (let n = 0; n < count; n++) await new Promise<void>((resolve) => setImmediate(resolve));
}
