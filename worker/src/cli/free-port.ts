/** Ports of a local run: 8081 taken by another run must not keep this one from starting. */
import { createServer } from 'node:net';
import { TriggerJobError } from '../runtime/errors.ts';

const MAX_TRIES = 50;

/** The first port from `wanted` on that can be bound on `host`. */
export async function freePort(wanted: number, host: string): Promise<number> {
  for (let port = wanted; port < wanted + MAX_TRIES && port <= 65_535; port += 1) {
    if (await canBind(port, host)) return port;
  }
  throw new TriggerJobError(
    'NO_FREE_PORT',
    `no free port on ${host} from ${wanted} to ${wanted + MAX_TRIES - 1}`,
  );
}

function canBind(port: number, host: string): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => done(true)));
  });
}
