/**
 * /healthz, /readyz and /metrics, each port on its own: probes for the kubelet, figures for all.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Address {
  /** undefined: every address of this machine. */
  host: string | undefined;
  port: number;
}

/** null: well. Else what is wrong, a line each. */
export type Check = () => string[];

export interface Routes {
  [path: string]: () => Promise<{ status: number; contentType: string; text: string }>;
}

export function probe(check: Check): Routes[string] {
  return async () => {
    const faults = check();
    return {
      status: faults.length === 0 ? 200 : 503,
      contentType: 'text/plain; charset=utf-8',
      text: faults.length === 0 ? 'ok\n' : `${faults.join('\n')}\n`,
    };
  };
}

/** `:8080` and `127.0.0.1:8080`, as controller-runtime has them; `0` is no endpoint at all. */
export function parseAddress(text: string): Address | null {
  if (text === '0') return null;
  const found = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535) throw new Error(`${text} is no address; example: :8080`);
  return { host: (found[1] ?? found[2]) || undefined, port };
}

/** Resolves with the port once it listens. */
export async function serve(
  { host, port }: Address,
  routes: Routes,
): Promise<{ port: number; close(): void }> {
  const server = createServer((request, response) => {
    const route = routes[(request.url ?? '').split('?')[0] ?? ''];
    if (route === undefined || request.method !== 'GET') {
      response.writeHead(404).end();
      return;
    }
    route().then(
      ({ status, contentType, text }) =>
        response.writeHead(status, { 'content-type': contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.maxConnections = 64;
  await listening(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function listening(server: Server, host: string | undefined, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
}
