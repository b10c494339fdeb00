/**
 * A process of its own: the Profile API of the benchmarks' users, and a webhook receiver at /hook
 * that only counts which events came. Tells its port over IPC, then what it counted when it is
 * asked, and ends with its parent.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { historyJson, profileJson, visitJson } from './dataset.ts';
import { eventIdOf, FiredIds } from './fired-ids.ts';

/** Of the parent; a HookReport answers each. */
export interface ServerMessage {
  type: 'report' | 'reset';
}

/** What came to /hook since the last reset. */
export interface HookReport {
  fired: number;
  firedSum: number;
  repeated: number;
  /** ms since the epoch; null: nothing came. */
  firstAt: number | null;
}

const PARTS: Record<string, (user: number) => string> = {
  profile: profileJson,
  visit: visitJson,
  history: historyJson,
};
const USER_PATH = /^\/users\/u(\d{10})\/(profile|visit|history)$/;

/**
 * Making a user's texts costs more than sending them. Who asks for few users again and again
 * (profile-api.ts) is to measure itself, not that. Full: no further ones are kept. About 50 MB.
 */
const MAX_KEPT = 9_000;
const kept = new Map<string, Buffer>();

let hooked = new FiredIds();
let firstAt: number | null = null;

/** All of a body is read, its first bytes are looked at. */
function take(request: IncomingMessage, response: ServerResponse): void {
  let isFirst = true;
  request.on('data', (chunk: Buffer) => {
    if (isFirst) hooked.add(eventIdOf(chunk));
    isFirst = false;
  });
  request.on('end', () => {
    firstAt ??= Date.now();
    response.writeHead(204).end();
  });
}

function bodyOf(path: string, user: string, part: string): Buffer {
  const known = kept.get(path);
  if (known !== undefined) return known;
  const body = Buffer.from(PARTS[part]!(Number(user)));
  if (kept.size < MAX_KEPT) kept.set(path, body);
  return body;
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'POST') {
    take(request, response);
    return;
  }
  const path = request.url ?? '';
  const [, user, part] = USER_PATH.exec(path) ?? [];
  if (user === undefined || part === undefined) {
    response.writeHead(404).end();
    return;
  }
  const body = bodyOf(path, user, part);
  const headers = { 'content-type': 'application/json', 'content-length': body.length };
  response.writeHead(200, headers).end(body);
}

const server = createServer({ keepAliveTimeout: 60_000 }, answer);
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.on('message', ({ type }: ServerMessage) => {
  if (type === 'reset') {
    hooked = new FiredIds();
    firstAt = null;
  }
  const { fired, firedSum, repeated } = hooked;
  process.send?.({ fired, firedSum, repeated, firstAt } satisfies HookReport);
});
process.once('disconnect', () => process.exit(0));
