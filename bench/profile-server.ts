/**
 * A process of its own: the Profile API of the benchmarks' users, and a webhook receiver at /hook
 * that only counts. Tells its port over IPC and ends with its parent.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { historyJson, profileJson, visitJson } from './dataset.ts';

const PARTS: Record<string, (user: number) => string> = {
  profile: profileJson,
  visit: visitJson,
  history: historyJson,
};
const USER_PATH = /^\/users\/u(\d{10})\/(profile|visit|history)$/;

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'POST') {
    request.resume();
    request.on('end', () => response.writeHead(204).end());
    return;
  }
  const [, user, part] = USER_PATH.exec(request.url ?? '') ?? [];
  if (user === undefined || part === undefined) {
    response.writeHead(404).end();
    return;
  }
  const body = PARTS[part]!(Number(user));
  const length = Buffer.byteLength(body);
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': length });
  response.end(body);
}

const server = createServer({ keepAliveTimeout: 60_000 }, answer);
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.once('disconnect', () => process.exit(0));
