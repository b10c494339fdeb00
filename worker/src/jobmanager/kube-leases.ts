/**
 * Reads and writes one Lease (coordination.k8s.io/v1) with the pod's own service account, on
 * node:https. Not with @kubernetes/client-node: three requests need little of it, and loading it
 * costs each start of a JobManager more than anything else does (ARCHITECTURE.md, "Leaders").
 *
 * Token and authority are files that the kubelet replaces: read again for every request, which come
 * once a second at most.
 */
import { readFile } from 'node:fs/promises';
import { Agent as HttpAgent, request as httpRequest, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';

/** Without blockOwnerDeletion, which would need a right to the owner's finalizers. */
const OWNER = { apiVersion: 'triggerjob.io/v1alpha1', kind: 'TriggerJob' };
/** As on all that the operator makes for the job. */
const JOB_LABEL = 'triggerjob.io/job';
/** A Lease is some hundred bytes; managedFields add some thousand. */
const MAX_ANSWER_BYTES = 256 * 1024;

/** What is used of a Lease. `holder` '' = free. */
export interface Lease {
  holder: string;
  leaseSeconds: number;
  /** MicroTime, for people: nobody compares clocks. null = not set. */
  acquiredAt: string | null;
  renewedAt: string | null;
  transitions: number;
  annotations: Readonly<Record<string, string>>;
  /** Of the object this was read from, sent back as it is (owner, labels); null = to be created. */
  metadata: JsonObject | null;
}

export interface Leases {
  /** null: there is none. */
  get(): Promise<Lease | null>;
  /**
   * Creates it, or replaces the very version it was read from. null: somebody else wrote, or
   * deleted it. Rejects when it can't be known whether it was written.
   */
  put(lease: Lease): Promise<Lease | null>;
  close(): void;
}

export interface KubeLeasesOptions {
  env: Env;
  /** https://host:port of the API server. */
  url: string;
  namespace: string;
  name: string;
  /** The TriggerJob that it goes with; null = it stays. */
  owner: { name: string; uid: string } | null;
  /** Of one request, to the last byte of its answer. */
  timeoutMs: number;
  /** Directory with `token` and `ca.crt`. */
  serviceAccountDir: string;
}

/** Where a pod finds its API server; null outside of a cluster. */
export function apiServerOf(environment: Readonly<Record<string, string | undefined>>) {
  const host = environment['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = environment['KUBERNETES_SERVICE_PORT'] ?? '443';
  if (host === '') return null;
  return `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

export class KubeLeases implements Leases {
  readonly #options: KubeLeasesOptions;
  readonly #path: string;
  #agent: { ca: string; agent: HttpAgent } | null = null;

  constructor(options: KubeLeasesOptions) {
    this.#options = options;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
  }

  async get(): Promise<Lease | null> {
    const { status, body } = await this.#request('GET', `${this.#path}/${this.#options.name}`);
    if (status === 404) return null;
    if (status === 200) return readLease(body);
    throw refusal('GET', status, body);
  }

  async put(lease: Lease): Promise<Lease | null> {
    const creates = lease.metadata === null;
    const method = creates ? 'POST' : 'PUT';
    const path = creates ? this.#path : `${this.#path}/${this.#options.name}`;
    const { status, body } = await this.#request(method, path, this.#json(lease));
    if (status === 200 || status === 201) return readLease(body);
    // 404 of a PUT: it was deleted. Of a POST: the namespace was.
    if (status === 409 || (status === 404 && !creates)) return null;
    throw refusal(method, status, body);
  }

  close(): void {
    this.#agent?.agent.destroy();
  }

  #json(lease: Lease): JsonObject {
    const { holder, leaseSeconds, acquiredAt, renewedAt, transitions } = lease;
    const { name, namespace } = this.#options;
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        ...(lease.metadata ?? { name, namespace }),
        ...this.#owners(lease.metadata),
        annotations: { ...annotationsOf(lease.metadata ?? {}), ...lease.annotations },
      },
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: leaseSeconds,
        leaseTransitions: transitions,
        ...(acquiredAt !== null && { acquireTime: acquiredAt }),
        ...(renewedAt !== null && { renewTime: renewedAt }),
      },
    };
  }

  /** In place of a TriggerJob of that name that was deleted: the Lease would go with it. */
  #owners(metadata: JsonObject | null): JsonObject {
    const { owner } = this.#options;
    if (owner === null) return {};
    const others = Array.isArray(metadata?.['ownerReferences']) ? metadata['ownerReferences'] : [];
    const kept = others.filter((one) => !isJsonObject(one) || one['kind'] !== OWNER.kind);
    const labels = isJsonObject(metadata?.['labels']) ? metadata['labels'] : {};
    return {
      labels: { ...labels, [JOB_LABEL]: owner.name },
      ownerReferences: [...kept, { ...OWNER, ...owner }],
    };
  }

  async #request(
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    json?: JsonObject,
  ): Promise<{ status: number; body: string }> {
    const { env, url, timeoutMs, serviceAccountDir } = this.#options;
    const abort = new AbortController();
    const limit = env.timer(timeoutMs, () =>
      abort.abort(new Error(`no complete answer within ${timeoutMs} ms`)),
    );
    try {
      const token = (await readFile(`${serviceAccountDir}/token`, 'utf8')).trim();
      const body = json === undefined ? null : JSON.stringify(json);
      const headers = {
        authorization: `Bearer ${token}`,
        accept: 'application/json',
        ...(body !== null && {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        }),
      };
      const options = { method, headers, signal: abort.signal, ...(await this.#connection()) };
      return await send(new URL(path, url), options, body);
    } catch (thrown) {
      const cause = abort.signal.aborted ? abort.signal.reason : thrown;
      const text = `${method} ${url}${path}: ${messageOf(cause)}`;
      throw new TriggerJobError('KUBERNETES_API', text, { cause, retryable: true });
    } finally {
      limit.cancel();
    }
  }

  /** A new agent when the authority was replaced; the last one's connections end when idle. */
  async #connection(): Promise<{ agent: HttpAgent }> {
    const { url, serviceAccountDir } = this.#options;
    const ca = url.startsWith('https:')
      ? await readFile(`${serviceAccountDir}/ca.crt`, 'utf8')
      : '';
    if (this.#agent?.ca !== ca) {
      const options = { keepAlive: true, maxSockets: 2 };
      const agent = ca === '' ? new HttpAgent(options) : new HttpsAgent({ ...options, ca });
      this.#agent = { ca, agent };
    }
    return this.#agent;
  }
}

function send(
  url: URL,
  options: RequestOptions,
  body: string | null,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const asked = request(url, options, (answer) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      answer.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > MAX_ANSWER_BYTES) {
          answer.destroy(new Error(`an answer above ${MAX_ANSWER_BYTES} bytes`));
        }
        parts.push(part);
      });
      answer.on('error', reject);
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts).toString() }),
      );
    });
    asked.on('error', reject);
    asked.end(body ?? undefined);
  });
}

function refusal(method: string, status: number, body: string): TriggerJobError {
  let reason = body;
  try {
    const value = JSON.parse(body) as JsonValue;
    if (isJsonObject(value) && typeof value['message'] === 'string') reason = value['message'];
  } catch {
    // Not JSON: shown as it is.
  }
  const text = `${method} of the Lease: ${status} ${reason.slice(0, 300)}`;
  return new TriggerJobError('KUBERNETES_API', text, { retryable: true });
}

/** Throws KUBERNETES_API for what is no Lease. */
function readLease(body: string): Lease {
  let value: JsonValue = null;
  try {
    value = JSON.parse(body) as JsonValue;
  } catch {
    // Judged below.
  }
  const metadata = isJsonObject(value) ? value['metadata'] : undefined;
  const spec = isJsonObject(value) ? (value['spec'] ?? {}) : undefined;
  if (!isJsonObject(metadata) || !isJsonObject(spec)) {
    throw new TriggerJobError('KUBERNETES_API', 'an answer that is no Lease', { retryable: true });
  }
  const text = (field: JsonValue | undefined) => (typeof field === 'string' ? field : null);
  const count = (field: JsonValue | undefined) => (typeof field === 'number' ? field : 0);
  return {
    holder: text(spec['holderIdentity']) ?? '',
    leaseSeconds: count(spec['leaseDurationSeconds']),
    acquiredAt: text(spec['acquireTime']),
    renewedAt: text(spec['renewTime']),
    transitions: count(spec['leaseTransitions']),
    annotations: annotationsOf(metadata),
    metadata,
  };
}

function annotationsOf({ annotations }: JsonObject): Record<string, string> {
  if (!isJsonObject(annotations)) return {};
  const texts = Object.entries(annotations).flatMap(([key, value]) =>
    typeof value === 'string' ? [[key, value] as const] : [],
  );
  return Object.fromEntries(texts);
}
