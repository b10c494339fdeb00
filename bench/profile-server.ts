/**
 * A process of its own: the Profile API of the benchmarks' users, and a webhook receiver at /hook
 * that writes down what came and when (fired-log.ts). Tells its port over IPC, and ends with its
 * parent.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { threadId } from 'node:worker_threads';
import { historyJson, profileJson, visitJson } from './dataset.ts';
import { eventIdOf } from './fired-ids.ts';
import { FiredLogWriter } from './fired-log.ts';

/** Of the parent, who waits for an answer: posts that come after it are logged in the folder. */
export interface ServerMessage {
  logPostsIn: string;
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

let posts: FiredLogWriter | null = null;

/**
 * All of a body is read, its first bytes are looked at. The moment of a post is that of the answer.
 * The record's timestamp is known of TriggerJob only, by its CloudEvents headers.
 */
function take(request: IncomingMessage, response: ServerResponse): void {
  let id = -1;
  request.on('data', (chunk: Buffer) => {
    if (id < 0) id = eventIdOf(chunk);
  });
  request.on('end', () => {
    response.writeHead(204).end();
    const { 'ce-time': time, 'ce-source': source } = request.headers;
    const partition = Number(
      String(source ?? -1)
        .split('/')
        .at(-1),
    );
    posts?.add(Date.parse(String(time ?? '')), partition, id);
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
process.on('message', ({ logPostsIn }: ServerMessage) => {
  posts?.close();
  posts = FiredLogWriter.open(logPostsIn, process.pid, threadId);
  process.send?.({});
});
process.once('disconnect', () => process.exit(0));
