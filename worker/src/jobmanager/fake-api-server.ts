/** The Leases of an API server over HTTP, with its versions and conflicts; faults on demand. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';

/** `lose`: done, and the connection is cut before the answer. */
export type ApiFault = 'hang' | 'lose' | number;

const BASE = '/apis/coordination.k8s.io/v1/namespaces/default/leases';

export class FakeApiServer {
  readonly leases = new Map<string, JsonObject>();
  readonly requests: string[] = [];
  token = 'first';
  /** Of every request that it is asked for; null = none. */
  fault: (method: string) => ApiFault | null = () => null;
  /** With `token` and no `ca.crt`: the server speaks HTTP. */
  readonly serviceAccountDir = mkdtempSync(join(tmpdir(), 'service-account-'));
  url = '';
  #version = 0;

  static async start(t: TestContext): Promise<FakeApiServer> {
    const api = new FakeApiServer();
    const server = createServer((request, response) => void api.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    api.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    api.rotate('first');
    t.after(() => {
      server.closeAllConnections();
      server.close();
      rmSync(api.serviceAccountDir, { recursive: true });
    });
    return api;
  }

  rotate(token: string): void {
    this.token = token;
    writeFileSync(join(this.serviceAccountDir, 'token'), `${token}\n`);
  }

  spec(name: string): JsonObject {
    const spec = this.leases.get(name)?.['spec'];
    return isJsonObject(spec) ? spec : {};
  }

  metadata(name: string): JsonObject {
    const metadata = this.leases.get(name)?.['metadata'];
    return isJsonObject(metadata) ? metadata : {};
  }

  /** As somebody else's write: another version. */
  change(name: string, change: (lease: JsonObject) => void): void {
    const lease = structuredClone(this.leases.get(name) ?? {});
    change(lease);
    this.#store(name, lease);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    const { method = '', url = '' } = request;
    this.requests.push(`${method} ${url}`);
    const fault = this.fault(method);
    if (fault === 'hang') return;
    const { status, body } =
      request.headers.authorization !== `Bearer ${this.token}`
        ? { status: 401, body: { message: 'Unauthorized' } }
        : typeof fault === 'number'
          ? { status: fault, body: { message: 'told to' } }
          : this.#handle(method, url, Buffer.concat(parts).toString());
    if (fault === 'lose') {
      response.destroy();
      return;
    }
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  #handle(method: string, url: string, text: string): { status: number; body: JsonObject } {
    const name = url.slice(BASE.length + 1);
    const known = this.leases.get(name);
    if (method === 'GET') {
      return known ? { status: 200, body: known } : { status: 404, body: { message: 'absent' } };
    }
    const lease = JSON.parse(text) as JsonValue;
    const metadata = isJsonObject(lease) ? lease['metadata'] : undefined;
    if (!isJsonObject(lease) || !isJsonObject(metadata)) return { status: 400, body: {} };
    if (method === 'POST') {
      const made = String(metadata['name']);
      if (this.leases.has(made)) return { status: 409, body: { message: 'AlreadyExists' } };
      return { status: 201, body: this.#store(made, lease) };
    }
    if (known === undefined) return { status: 404, body: { message: 'absent' } };
    if (metadata['resourceVersion'] !== this.metadata(name)['resourceVersion']) {
      return { status: 409, body: { message: 'the object has been modified' } };
    }
    return { status: 200, body: this.#store(name, lease) };
  }

  #store(name: string, lease: JsonObject): JsonObject {
    this.#version += 1;
    const metadata = isJsonObject(lease['metadata']) ? lease['metadata'] : {};
    const stored = {
      ...lease,
      metadata: { ...metadata, name, resourceVersion: String(this.#version) },
    };
    this.leases.set(name, stored);
    return stored;
  }
}
