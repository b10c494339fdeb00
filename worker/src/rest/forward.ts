/**
 * A standby's REST: what is asked of it is asked of the leader, and that one's answer is the
 * answer, so that a Service over all JobManagers may pick any of them. Not a redirect: clients drop
 * their token on the way to another host, and that host may be out of their reach.
 */
import {
  Agent,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { pipeline } from 'node:stream';
import type { RouteAnswer } from './router.ts';

/** Marks what was forwarded once: two that take each other for the leader must not go on. */
const FORWARDED = 'x-triggerjob-forwarded';
/** Of silence; the longest answers are made within a checkpoint's sync part. */
const SILENT_LIMIT_MS = 30_000;
/** Of one connection alone, and made anew by node:http. */
const HOP_BY_HOP = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'host', 'te'];
/** An Origin is compared with Host, which is another one from here on; that is done before. */
const NOT_SENT = [...HOP_BY_HOP, 'origin'];

export class Forwarding {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });

  /** Resolves with what to answer here, or with null when the leader's answer was passed on. */
  forward(
    request: IncomingMessage,
    response: ServerResponse,
    leader: string | null,
  ): Promise<RouteAnswer | null> {
    if (request.headers[FORWARDED] !== undefined) {
      return Promise.resolve(unavailable('was asked as the leader; nobody leads now'));
    }
    if (leader === null) return Promise.resolve(unavailable('nobody leads now'));
    const { promise, resolve } = Promise.withResolvers<RouteAnswer | null>();
    const { hostname, port } = new URL(leader);
    const headers = Object.entries(request.headers).filter(([name]) => !NOT_SENT.includes(name));
    const ask = httpRequest(
      {
        agent: this.#agent,
        host: hostname.replace(/^\[|\]$/g, ''),
        port,
        method: request.method,
        path: request.url,
        headers: { ...Object.fromEntries(headers), [FORWARDED]: '1' },
        timeout: SILENT_LIMIT_MS,
      },
      (answer) => {
        const names = Object.entries(answer.headers).filter(([name]) => !HOP_BY_HOP.includes(name));
        response.writeHead(answer.statusCode ?? 502, Object.fromEntries(names));
        pipeline(answer, response, () => resolve(null));
      },
    );
    ask.on('timeout', () => ask.destroy(new Error(`silent for ${SILENT_LIMIT_MS} ms`)));
    ask.on('error', (error) => {
      // Half of an answer can't be taken back.
      if (response.headersSent) response.destroy();
      const text = `${leader} leads and does not answer: ${error.message}`;
      resolve(response.headersSent ? null : unavailable(text));
    });
    response.on('close', () => ask.destroy());
    pipeline(request, ask, () => undefined);
    return promise;
  }

  close(): void {
    this.#agent.destroy();
  }
}

function unavailable(reason: string): RouteAnswer {
  const headers = { 'retry-after': '1' };
  return { status: 503, body: { errors: [`This JobManager is a standby; ${reason}.`] }, headers };
}
