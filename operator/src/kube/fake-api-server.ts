/**
 * An API server for tests, over real HTTP: objects with uid and resourceVersion, paged lists,
 * watches that go on from a version, server-side apply as a merge, Status bodies. Faults on order:
 * watches cut, silent, compacted history (410), bursts of errors. What it does not do: validation,
 * defaults, garbage collection; those are for the real one (e2e/kubernetes).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { KubeObject } from './port.ts';

type Type = 'ADDED' | 'MODIFIED' | 'DELETED';

interface Change {
  version: number;
  type: Type;
  collection: string;
  object: KubeObject;
}

interface Watcher {
  response: ServerResponse;
  matches: (change: Change) => boolean;
  frozen: boolean;
}

interface Fault {
  matches: (request: string) => boolean;
  status: number;
  headers: Record<string, string>;
  left: number;
}

/** `/apis/g/v/namespaces/ns/plural/name/sub` taken apart. */
interface Address {
  collection: string;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string | undefined;
}

export class FakeApiServer {
  readonly #server: Server;
  readonly #objects = new Map<string, KubeObject>();
  readonly #changes: Change[] = [];
  readonly #watchers = new Set<Watcher>();
  #faults: Fault[] = [];
  #version = 100;
  #uids = 0;
  /** Versions below are forgotten: watches from there get 410. */
  #compactedTo = 0;
  #freezeNew = false;
  /** `METHOD path?query`, in the order they came. */
  readonly requests: string[] = [];
  /** Runs before each answer; a test delays or looks here. */
  before: (request: string) => Promise<void> | void = () => {};

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<FakeApiServer> {
    const fake = new FakeApiServer();
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get watches(): number {
    return this.#watchers.size;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** Writes an object as somebody else would. `path` is the collection's, with its namespace. */
  put(path: string, object: KubeObject): KubeObject {
    const key = `${path}/${object.metadata.name}`;
    const known = this.#objects.get(key);
    const namespace = /\/namespaces\/([^/]+)\//.exec(path)?.[1];
    const stored = structuredClone(object);
    this.#version += 1;
    this.#uids += known === undefined ? 1 : 0;
    Object.assign(stored.metadata, {
      uid: known?.metadata.uid ?? `uid-${this.#uids}`,
      resourceVersion: String(this.#version),
      ...(namespace === undefined ? {} : { namespace }),
    });
    this.#objects.set(key, stored);
    this.#record(known === undefined ? 'ADDED' : 'MODIFIED', path, stored);
    return stored;
  }

  remove(path: string, name: string): void {
    const key = `${path}/${name}`;
    const known = this.#objects.get(key);
    if (known === undefined) return;
    this.#objects.delete(key);
    this.#version += 1;
    const last = structuredClone(known);
    last.metadata.resourceVersion = String(this.#version);
    this.#record('DELETED', path, last);
  }

  read(path: string, name: string): KubeObject | undefined {
    return this.#objects.get(`${path}/${name}`);
  }

  /** Cuts the connections of all watches. */
  cutWatches(): void {
    for (const { response } of this.#watchers) response.destroy();
  }

  /** Ends all watches in order, as their timeout does. */
  endWatches(): void {
    for (const watcher of this.#watchers) if (isOpen(watcher)) watcher.response.end();
  }

  /** Half-open: watches stay connected and say nothing any more; new ones work again. */
  freezeWatches(newOnesToo = false): void {
    this.#freezeNew = newOnesToo;
    for (const watcher of this.#watchers) watcher.frozen = true;
  }

  /** Forgets the past, as etcd's compaction does; running watches go on. */
  compact(): void {
    this.#compactedTo = this.#version;
  }

  /** An ERROR event in every running watch. */
  errorEvent(code: number): void {
    const reason = code === 410 ? 'Expired' : 'InternalError';
    this.#broadcast({ type: 'ERROR', object: { kind: 'Status', code, reason, message: reason } });
  }

  bookmark(): void {
    this.#version += 1;
    const metadata = { resourceVersion: String(this.#version) };
    this.#broadcast({ type: 'BOOKMARK', object: { metadata } });
  }

  /** The next `times` requests that match are answered with `status`. */
  fail(
    times: number,
    status: number,
    matches: RegExp = /./,
    headers: Record<string, string> = {},
  ): void {
    this.#faults.push({
      matches: (request) => matches.test(request),
      status,
      headers,
      left: times,
    });
  }

  #broadcast(event: object): void {
    for (const watcher of this.#watchers) {
      if (!watcher.frozen && watcher.response.writable)
        watcher.response.write(`${JSON.stringify(event)}\n`);
    }
  }

  #record(type: Type, path: string, object: KubeObject): void {
    const collection = path.replace(/\/namespaces\/[^/]+/, '');
    const change: Change = { version: this.#version, type, collection, object };
    this.#changes.push(change);
    for (const watcher of this.#watchers) this.#tell(watcher, change);
  }

  #tell(watcher: Watcher, change: Change): void {
    if (watcher.frozen || !isOpen(watcher) || !watcher.matches(change)) return;
    watcher.response.write(`${JSON.stringify({ type: change.type, object: change.object })}\n`);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake');
    const line = `${request.method} ${decodeURIComponent(`${url.pathname}${url.search}`)}`;
    this.requests.push(line);
    const text = await bodyOf(request);
    await this.before(line);
    const fault = this.#faults.find((candidate) => candidate.matches(line));
    if (fault !== undefined) {
      fault.left -= 1;
      if (fault.left === 0) this.#faults = this.#faults.filter((other) => other !== fault);
      sendStatus(response, fault.status, 'Fault', {}, fault.headers);
      return;
    }
    const address = addressOf(url.pathname);
    if (address === null) response.writeHead(404).end('404 page not found');
    else if (request.method === 'GET') this.#read(address, url.searchParams, response);
    else this.#write(request.method ?? '', address, text === '' ? {} : JSON.parse(text), response);
  }

  #read(address: Address, query: URLSearchParams, response: ServerResponse): void {
    if (address.name !== undefined) {
      const object = this.#objects.get(`${address.collection}/${address.name}`);
      if (object === undefined) sendStatus(response, 404, 'NotFound', { name: address.name });
      else sendJson(response, 200, object);
    } else if (query.get('watch') === 'true') this.#watch(address, query, response);
    else this.#list(address, query, response);
  }

  #inScope(address: Address, query: URLSearchParams, collection: string, object: KubeObject) {
    if (collection !== address.collection.replace(/\/namespaces\/[^/]+/, '')) return false;
    if (address.namespace !== undefined && object.metadata.namespace !== address.namespace) {
      return false;
    }
    const field = /^metadata\.name=(.*)$/.exec(query.get('fieldSelector') ?? '')?.[1];
    if (field !== undefined && object.metadata.name !== field) return false;
    const labels = (query.get('labelSelector') ?? '').split(',').filter((part) => part !== '');
    return labels.every((part) => {
      const [label, value] = part.split('=');
      const found = object.metadata.labels?.[label ?? ''];
      return value === undefined ? found !== undefined : found === value;
    });
  }

  #list(address: Address, query: URLSearchParams, response: ServerResponse): void {
    const all = [...this.#objects].filter(([key, object]) =>
      this.#inScope(
        address,
        query,
        key.slice(0, key.lastIndexOf('/')).replace(/\/namespaces\/[^/]+/, ''),
        object,
      ),
    );
    const [version = String(this.#version), from = '0'] = query.get('continue')?.split('/') ?? [];
    if (Number(version) < this.#compactedTo) {
      sendStatus(response, 410, 'Expired', {});
      return;
    }
    const limit = Number(query.get('limit') ?? all.length);
    const end = Number(from) + limit;
    // A real list names neither kind nor version in its items.
    const items = all.slice(Number(from), end).map(([, { metadata, ...rest }]) => {
      const { apiVersion: _, kind: __, ...content } = rest;
      return { metadata, ...content };
    });
    const more = end < all.length ? { continue: `${version}/${end}` } : {};
    sendJson(response, 200, {
      kind: 'List',
      metadata: { resourceVersion: version, ...more },
      items,
    });
  }

  #watch(address: Address, query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get('resourceVersion'));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (from < this.#compactedTo) {
      const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' };
      response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      return;
    }
    const matches = (change: Change) =>
      this.#inScope(address, query, change.collection, change.object);
    const watcher: Watcher = { response, matches, frozen: this.#freezeNew };
    for (const change of this.#changes) if (change.version > from) this.#tell(watcher, change);
    this.#watchers.add(watcher);
    response.once('close', () => this.#watchers.delete(watcher));
  }

  #write(
    method: string,
    address: Address,
    body: KubeObject & { preconditions?: { uid?: string; resourceVersion?: string } },
    response: ServerResponse,
  ): void {
    const name = address.name ?? body.metadata.name;
    const known = this.#objects.get(`${address.collection}/${name}`);
    const stale = (version: string | undefined, uid: string | undefined) =>
      (version !== undefined && version !== known?.metadata.resourceVersion) ||
      (uid !== undefined && uid !== known?.metadata.uid);
    if (method === 'POST') {
      if (known !== undefined) sendStatus(response, 409, 'AlreadyExists', { name });
      else sendJson(response, 201, this.put(address.collection, body));
      return;
    }
    const isApply = method === 'PATCH' && body.apiVersion !== undefined;
    if (known === undefined && !isApply) sendStatus(response, 404, 'NotFound', { name });
    else if (method === 'DELETE') {
      if (stale(body.preconditions?.resourceVersion, body.preconditions?.uid)) {
        sendStatus(response, 409, 'Conflict', { name });
      } else {
        this.remove(address.collection, name);
        sendJson(response, 200, { kind: 'Status', status: 'Success' });
      }
    } else if (stale(body.metadata?.resourceVersion, body.metadata?.uid)) {
      sendStatus(response, 409, 'Conflict', { name });
    } else {
      const next = method === 'PUT' ? body : merged(known ?? {}, body);
      sendJson(response, 200, this.put(address.collection, next as KubeObject));
    }
  }
}

const isOpen = ({ response }: Watcher): boolean => !response.writableEnded && !response.destroyed;

/** JSON merge patch (RFC 7396). */
function merged(target: object, patch: object): object {
  const result: Record<string, unknown> = { ...target };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (typeof value === 'object' && !Array.isArray(value)) {
      const inner = result[key];
      result[key] = merged(typeof inner === 'object' && inner !== null ? inner : {}, value);
    } else result[key] = value;
  }
  return result;
}

const GROUP = /(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+))?/;
const OBJECT = /\/([a-z]+)(?:\/([^/]+))?(?:\/([^/]+))?/;
const ADDRESS = new RegExp(`^${GROUP.source}${OBJECT.source}$`);

function addressOf(path: string): Address | null {
  const found = ADDRESS.exec(path);
  if (found === null) return null;
  const [, base, namespace, plural, name, subresource] = found;
  const scope = namespace === undefined ? '' : `/namespaces/${namespace}`;
  return { collection: `${base}${scope}/${plural}`, namespace, name, subresource };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

function sendStatus(
  response: ServerResponse,
  status: number,
  reason: string,
  details: object,
  headers: Record<string, string> = {},
): void {
  const body = { kind: 'Status', code: status, reason, message: reason, details };
  sendJson(response, status, body, headers);
}
