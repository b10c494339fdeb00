/**
 * The REST API over node:http. It owns the socket and the JSON on it; routes.ts knows what is said.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { JobControl } from '../jobmanager/job-view.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import { AsyncOperations } from './async-operations.ts';
import { RestError } from './rest-error.ts';
import { matchRoute, type Route, type RouteAnswer } from './router.ts';
import { routesOf } from './routes.ts';

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
  plan: JobPlan;
  jobManager: JobControl;
  port: number;
  bindAddress: string;
  env: Env;
}): Promise<RestServer> {
  const { jobManager, port, bindAddress, env } = options;
  const sockets = new Set<Socket>();
  const connections = () => ({ value: sockets.size, limit: MAX_CONNECTIONS });
  const savepoints = new AsyncOperations(env);
  const manual = new AsyncOperations(env);
  const disposals = new AsyncOperations(env);
  const routes = routesOf(jobManager, { savepoints, manual, disposals }, connections);
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    void respond(routes, request, response);
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

/** Never rejects. */
async function respond(
  routes: readonly Route[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let answer: RouteAnswer;
  try {
    answer = await handle(routes, request);
  } catch (error) {
    const status = error instanceof RestError ? error.status : 500;
    answer = { status, body: { errors: [messageOf(error)] } };
  }
  const text = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body);
  response.writeHead(answer.status, {
    'content-type': answer.contentType ?? 'application/json; charset=UTF-8',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}

async function handle(routes: readonly Route[], request: IncomingMessage): Promise<RouteAnswer> {
  const method = request.method ?? 'GET';
  const url = new URL(request.url ?? '/', 'http://rest');
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
