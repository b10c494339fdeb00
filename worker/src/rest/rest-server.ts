/**
 * The REST API over node:http. It owns the socket and the JSON on it; routes.ts knows what is said.
 * A standby asks the leader on everybody's behalf (forward.ts), but for the questions who it is and
 * how it is itself.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { JobControl, JobView } from '../jobmanager/job-view.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import type { LogText } from '../runtime/log-tail.ts';
import { uiAnswer } from '../ui/ui-answer.ts';
import { AsyncOperations } from './async-operations.ts';
import { Forwarding } from './forward.ts';
import { crossSite, foreignRequest, isLoopback } from './loopback.ts';
import { METRICS_TYPE } from './metrics.ts';
import { ownMetrics } from './own-metrics.ts';
import { ProcessMeter } from './process-meter.ts';
import { RestError } from './rest-error.ts';
import type { RestTokens } from './rest-tokens.ts';
import { matchRoute, type Route, type RouteAnswer } from './router.ts';
import { routesOf } from './routes.ts';

/** Who this is; every JobManager answers it itself. */
const LEADER_PATH = '/api/v1/leader';
/** Whether this process answers at all, and whether it is of use: leads, or knows who does. */
const HEALTH_PATH = '/healthz';
const READY_PATH = '/readyz';
const METRICS_PATH = '/metrics';
const MAX_BODY_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 256;
const REQUEST_TIMEOUT_MS = 10_000;

export interface RestServer {
  readonly port: number;
  /** Resolves when clients have read how their operations went, or have had time to. */
  answersRead(): Promise<void>;
  close(): Promise<void>;
}

export interface RestOptions {
  /** null: this process does not lead. */
  jobManager: () => JobControl | null;
  /** Where the leader's REST API is, e.g. http://10.0.0.1:8081; null = unknown. */
  leader: () => string | null;
  port: number;
  bindAddress: string;
  env: Env;
  /**
   * Of those who may change something; null or left out = whoever reaches it on loopback (but no
   * page of another site, loopback.ts), and nobody where it listens beyond that.
   */
  tokens?: RestTokens | null;
  /** The newest lines of this process's log; left out = it keeps none. */
  ownLog?: () => Promise<LogText>;
}

/** Of every answer: what a browser makes of it must run nothing and be in nobody's frame. */
const SECURITY_HEADERS = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};

/**
 * Port 0 takes any free one. Rejects with REST_LISTEN, which names rest.port, when it can't be had.
 */
export async function startRest(options: RestOptions): Promise<RestServer> {
  const { jobManager, leader, port, bindAddress, env, tokens = null, ownLog = null } = options;
  const sockets = new Set<Socket>();
  const connections = () => ({ value: sockets.size, limit: MAX_CONNECTIONS });
  const forwarding = new Forwarding();
  const meter = new ProcessMeter(env);
  const local = isLoopback(bindAddress);
  const operations = {
    savepoints: new AsyncOperations(env),
    manual: new AsyncOperations(env),
    disposals: new AsyncOperations(env),
    rescalings: new AsyncOperations(env),
  };
  let routes: { control: JobControl; routes: Route[] } | null = null;
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const control = jobManager();
    if (control !== null && routes?.control !== control) {
      const parts = { control, operations, connections, leader, meter, ownLog, env };
      routes = { control, routes: routesOf(parts) };
    }
    const view = control?.view() ?? null;
    const role = { routes: control && (routes?.routes ?? null), leader: leader(), view };
    void respond({ ...role, tokens, local, forwarding }, request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await listen(server, port, bindAddress);
  return {
    port: (server.address() as AddressInfo).port,
    answersRead: () => operations.savepoints.read(),
    close: () =>
      new Promise<void>((resolve) => {
        forwarding.close();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new TriggerJobError(
          'REST_LISTEN',
          `rest.port ${port} on ${host} can't be used, choose another`,
          { cause: error },
        ),
      );
    });
    server.listen(port, host, resolve);
  });
}

interface Role {
  /** null: a standby. */
  routes: readonly Route[] | null;
  leader: string | null;
  /** Of the job, if this process leads it or shows its end. */
  view: JobView | null;
  tokens: RestTokens | null;
  /** Only this machine reaches it. */
  local: boolean;
  forwarding: Forwarding;
}

/** Never rejects. */
async function respond(
  role: Role,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // Also of what is streamed or passed on; an answer may say otherwise.
  response.setHeaders(new Map(Object.entries(SECURITY_HEADERS)));
  let answer: RouteAnswer | null;
  let text = '';
  try {
    answer = await handle(role, request, response);
    if (answer?.stream !== undefined) {
      checkConnection(response);
      answer.stream(response);
      return;
    }
    text = textOf(answer);
  } catch (error) {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const status = error instanceof RestError ? error.status : 500;
    answer = { status, body: { errors: [messageOf(error)] } };
    text = textOf(answer);
  }
  if (answer === null) return;
  response.writeHead(answer.status, {
    'content-type': answer.contentType ?? 'application/json; charset=UTF-8',
    'content-length': Buffer.byteLength(text),
    ...answer.headers,
  });
  response.end(text);
}

/** A pipelined request has no socket until its turn, and none tells it that its client is gone. */
function checkConnection({ socket }: ServerResponse): void {
  if (socket !== null && !socket.destroyed) return;
  throw new RestError(400, 'a stream needs a connection of its own: do not pipeline requests');
}

/** Throws where an object is nested too deep to be written. */
function textOf(answer: RouteAnswer | null): string {
  if (answer === null) return '';
  return typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body);
}

/** null: answered already. */
async function handle(
  role: Role,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<RouteAnswer | null> {
  const method = request.method ?? 'GET';
  const url = new URL(request.url ?? '/', 'http://rest');
  const own = ownAnswer(role, url.pathname);
  if (own !== null) return own;
  const { routes, leader, forwarding, tokens, local } = role;
  // Of a standby too: the leader sees the standby's name, and no Origin.
  const foreign = local && tokens === null ? foreignRequest(request.headers) : null;
  if (foreign !== null) throw new RestError(403, foreign);
  const ui = uiAnswer(method, url.pathname, request.headers);
  if (ui !== null) {
    response.writeHead(ui.status, ui.headers).end(ui.body);
    return null;
  }
  const reads = method === 'GET' || method === 'HEAD';
  const refused = reads ? null : refusal(role, request);
  if (refused !== null) return refused;
  // Every process is scraped by itself: the leader's figures must not come twice.
  if (routes === null && url.pathname === METRICS_PATH) {
    return { status: 200, body: await ownMetrics(false), contentType: METRICS_TYPE };
  }
  if (routes === null) return forwarding.forward(request, response, leader);
  const match = matchRoute(routes, method, url.pathname);
  if (match.kind === 'unknown') throw new RestError(404, `Not found: ${url.pathname}`);
  if (match.kind === 'wrong-method') {
    throw new RestError(405, `${method} is not possible here; use ${match.allowed.join(', ')}`);
  }
  const denied = match.route.needsToken === true ? refusal(role, request) : null;
  if (denied !== null) return denied;
  const { maxBodyBytes = MAX_BODY_BYTES } = match.route;
  const body = reads ? {} : await readBody(request, maxBodyBytes);
  return match.route.handler({ params: match.params, query: url.searchParams, body });
}

/** Why who asks may change nothing; null = he may. */
function refusal({ tokens, local }: Role, { headers }: IncomingMessage): RouteAnswer | null {
  if (tokens === null) {
    const elsewhere = local ? crossSite(headers) : null;
    if (elsewhere !== null) throw new RestError(403, elsewhere);
    if (local) return null;
    const errors = [
      'This JobManager listens beyond loopback and knows no token, so it changes nothing and ' +
        "shows no user's data: start it with --rest-token-file FILE " +
        '(openssl rand -hex 32 makes one), or with spec.jobManager.rest.bindAddress: 127.0.0.1',
    ];
    return { status: 403, body: { errors } };
  }
  if (tokens.admits(headers.authorization)) return null;
  const errors = ['a token of this job is needed: Authorization: Bearer TOKEN'];
  return { status: 401, body: { errors }, headers: { 'www-authenticate': 'Bearer' } };
}

/** What every JobManager answers for itself. */
function ownAnswer({ leader, view }: Role, path: string): RouteAnswer | null {
  // A job that has ended for good has no leader, and whoever is asked shows it.
  const ended = view?.ended != null;
  const own = view === null ? 'standby' : ended ? 'ended' : 'leader';
  switch (path) {
    case LEADER_PATH:
      return { status: 200, body: { role: own, leader, leaderEpoch: view?.leaderEpoch ?? null } };
    case HEALTH_PATH:
      return { status: 200, body: { status: 'ok' } };
    case READY_PATH: {
      if (view !== null || leader !== null) return { status: 200, body: { role: own, leader } };
      return { status: 503, body: { errors: ['This JobManager does not lead; nobody does yet.'] } };
    }
    default:
      return null;
  }
}

async function readBody(
  request: IncomingMessage,
  maxBytes: number,
): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > maxBytes) throw new RestError(413, `the body is over ${maxBytes} bytes`);
    parts.push(part);
  }
  if (bytes === 0) return {};
  let value: JsonValue;
  try {
    value = JSON.parse(Buffer.concat(parts).toString()) as JsonValue;
  } catch (error) {
    throw new RestError(400, `the body is no JSON: ${messageOf(error)}`);
  }
  if (!isJsonObject(value)) throw new RestError(400, 'the body must be a JSON object');
  return value;
}
