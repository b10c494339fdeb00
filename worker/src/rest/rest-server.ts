/**
 * The REST API over node:http. It owns the socket and the JSON on it; routes.ts knows what is said.
 * A standby sends everybody to the leader, but for the question who it is.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { JobControl } from '../jobmanager/job-view.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import { AsyncOperations } from './async-operations.ts';
import { RestError } from './rest-error.ts';
import { matchRoute, type Route, type RouteAnswer } from './router.ts';
import { routesOf } from './routes.ts';

/** Who this is; every JobManager answers it itself. */
const LEADER_PATH = '/api/v1/leader';
const MAX_BODY_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 256;
const REQUEST_TIMEOUT_MS = 10_000;

export interface RestServer {
  readonly port: number;
  /** Resolves when clients have read how their operations went, or have had time to. */
  answersRead(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Port 0 takes any free one. Rejects with REST_LISTEN, which names rest.port, when it can't be had.
 */
export async function startRest(options: {
  /** null: this process does not lead. */
  jobManager: () => JobControl | null;
  /** Where the leader's REST API is, e.g. http://10.0.0.1:8081; null = unknown. */
  leader: () => string | null;
  port: number;
  bindAddress: string;
  env: Env;
}): Promise<RestServer> {
  const { jobManager, leader, port, bindAddress, env } = options;
  const sockets = new Set<Socket>();
  const connections = () => ({ value: sockets.size, limit: MAX_CONNECTIONS });
  let routes: Route[] | null = null;
  const savepoints = new AsyncOperations(env);
  const manual = new AsyncOperations(env);
  const disposals = new AsyncOperations(env);
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const control = jobManager();
    if (control !== null)
      routes ??= routesOf(control, { savepoints, manual, disposals }, connections);
    const leaderEpoch = control?.view().leaderEpoch ?? null;
    void respond({ routes, leader: leader(), leaderEpoch }, request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await listen(server, port, bindAddress);
  return {
    port: (server.address() as AddressInfo).port,
    answersRead: () => savepoints.read(),
    close: () =>
      new Promise<void>((resolve) => {
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
  /** Of this process, if it leads. */
  leaderEpoch: number | null;
}

/** 307 keeps method and body: what was asked of a standby is done by the leader. */
function sendToLeader(leader: string | null, path: string): RouteAnswer {
  if (leader === null) {
    return { status: 503, body: { errors: ['This JobManager is a standby; nobody leads now.'] } };
  }
  const errors = [`This JobManager is a standby; ${leader} leads.`];
  return { status: 307, body: { errors }, headers: { location: `${leader}${path}` } };
}

/** Never rejects. */
async function respond(
  role: Role,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let answer: RouteAnswer;
  try {
    answer = await handle(role, request);
  } catch (error) {
    const status = error instanceof RestError ? error.status : 500;
    answer = { status, body: { errors: [messageOf(error)] } };
  }
  const text = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body);
  response.writeHead(answer.status, {
    'content-type': answer.contentType ?? 'application/json; charset=UTF-8',
    'content-length': Buffer.byteLength(text),
    ...answer.headers,
  });
  response.end(text);
}

async function handle(role: Role, request: IncomingMessage): Promise<RouteAnswer> {
  const method = request.method ?? 'GET';
  const url = new URL(request.url ?? '/', 'http://rest');
  const { routes, leader, leaderEpoch } = role;
  if (url.pathname === LEADER_PATH) {
    const own = routes === null ? 'standby' : 'leader';
    return { status: 200, body: { role: own, leader, leaderEpoch } };
  }
  if (routes === null) return sendToLeader(leader, request.url ?? '/');
  const match = matchRoute(routes, method, url.pathname);
  if (match.kind === 'unknown') throw new RestError(404, `Not found: ${url.pathname}`);
  if (match.kind === 'wrong-method') {
    throw new RestError(405, `${method} is not possible here; use ${match.allowed.join(', ')}`);
  }
  const body = method === 'GET' ? {} : await readBody(request);
  return match.handler({ params: match.params, query: url.searchParams, body });
}

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES)
      throw new RestError(413, `the body is over ${MAX_BODY_BYTES} bytes`);
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
