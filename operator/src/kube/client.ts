/**
 * The API server as the operator uses it: typed calls on objects, and list and watch for the
 * reflectors. HTTP is undici's, with our deadlines: the object API of @kubernetes/client-node has
 * none, parses each answer into classes and back, and its watch ends by itself every 30 s.
 */
import type { Env } from '../env.ts';
import { Connection, type CredentialSource } from './connection.ts';
import { type Call, HttpCaller, type RequestMetrics } from './http-call.ts';
import { KubeError, type StatusBody } from './kube-error.ts';
import { collectionPath, type Kind, nameOf, objectPath, parentPath, refOf } from './objects.ts';
import type { ApplyOptions, DeleteOptions, KubeApi, KubeObject, ObjectRef } from './port.ts';
import { RequestLimit, type RequestLimitOptions } from './request-limit.ts';
import { linesOf } from './watch-lines.ts';

const CALL_DEADLINE_MS = 10_000;
/** A page of a list is large, and the server may have to read it from etcd. */
const LIST_DEADLINE_MS = 60_000;
const FIELD_MANAGER = 'triggerjob-operator';

/** One collection: a kind, in one namespace or in all, narrowed by selectors. */
export interface Selection {
  kind: Kind;
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

export interface ListPage {
  items: KubeObject[];
  resourceVersion: string;
  /** Token of the next page; absent after the last one. */
  continue?: string;
}

export type WatchEvent =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: KubeObject }
  | { type: 'BOOKMARK'; object: { metadata: { resourceVersion: string } } }
  | { type: 'ERROR'; object: StatusBody };

/** What a reflector needs of the API server. */
export interface ListWatch {
  list(selection: Selection, page: { limit: number; continue?: string }): Promise<ListPage>;
  /** Events after `resourceVersion`, until the server, the network or the signal ends them. */
  watch(
    selection: Selection,
    options: { resourceVersion: string; timeoutSeconds: number; onBytes: () => void },
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent>;
}

export interface KubeClientOptions {
  env: Env;
  source: CredentialSource;
  limit: RequestLimitOptions;
  metrics: RequestMetrics;
  /** For calls on one object, milliseconds. */
  deadlineMs?: number;
}

/**
 * Says how long a write may still take, milliseconds; throws KUBE_FENCED when none may be sent.
 * Asked again just before each request.
 */
export type WriteFence = () => number;

type ObjectCalls = Omit<KubeApi, 'event'>;

export class KubeClient implements ObjectCalls, ListWatch {
  readonly #connection: Connection;
  readonly #caller: HttpCaller;
  readonly #deadlineMs: number;
  readonly #fence: WriteFence | undefined;
  readonly #unlimited: boolean;

  private constructor(parts: {
    connection: Connection;
    caller: HttpCaller;
    deadlineMs: number;
    fence?: WriteFence;
    unlimited?: boolean;
  }) {
    this.#connection = parts.connection;
    this.#caller = parts.caller;
    this.#deadlineMs = parts.deadlineMs;
    this.#fence = parts.fence;
    this.#unlimited = parts.unlimited ?? false;
  }

  static open(options: KubeClientOptions): KubeClient {
    const connection = new Connection(options.env, options.source);
    const limit = new RequestLimit(options.env, options.limit);
    return new KubeClient({
      connection,
      caller: new HttpCaller(options.env, connection, limit, options.metrics),
      deadlineMs: options.deadlineMs ?? CALL_DEADLINE_MS,
    });
  }

  /** The same server; every write asks `fence` first, and ends before what it answers. */
  fencedBy(fence: WriteFence): KubeClient {
    return new KubeClient({ ...this.#parts(), fence });
  }

  /** The same server, for leadership: not held back by the rate limit, its own deadline. */
  withDeadline(deadlineMs: number): KubeClient {
    return new KubeClient({ ...this.#parts(), deadlineMs, unlimited: true });
  }

  #parts() {
    return {
      connection: this.#connection,
      caller: this.#caller,
      deadlineMs: this.#deadlineMs,
    };
  }

  async get<T extends KubeObject>(ref: ObjectRef): Promise<T | null> {
    try {
      return await this.#caller.json<T>({
        method: 'GET',
        what: nameOf(ref),
        path: objectPath(ref),
        deadlineMs: this.#deadlineMs,
        unlimited: this.#unlimited,
      });
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
  }

  apply<T extends KubeObject>(object: T, options: ApplyOptions): Promise<T> {
    const ref = refOf(object);
    return this.#write<T>({
      method: 'PATCH',
      what: nameOf(ref),
      path: objectPath(ref),
      query: {
        fieldManager: options.fieldManager,
        force: options.force ? 'true' : 'false',
        ...(options.dryRun ? { dryRun: 'All' } : {}),
      },
      body: object,
      contentType: 'application/apply-patch+yaml',
    });
  }

  create<T extends KubeObject>(object: T): Promise<T> {
    const ref = refOf(object);
    return this.#write<T>({
      method: 'POST',
      what: nameOf(ref),
      path: parentPath(ref),
      query: { fieldManager: FIELD_MANAGER },
      body: object,
    });
  }

  /** Whole object, refused (KUBE_CONFLICT) if its resourceVersion is not the newest. */
  replace<T extends KubeObject>(object: T): Promise<T> {
    const ref = refOf(object);
    return this.#write<T>({
      method: 'PUT',
      what: nameOf(ref),
      path: objectPath(ref),
      query: { fieldManager: FIELD_MANAGER },
      body: object,
    });
  }

  patch<T extends KubeObject>(
    ref: ObjectRef,
    patch: object,
    subresource?: 'status' | 'scale',
  ): Promise<T> {
    return this.#write<T>({
      method: 'PATCH',
      what: `${nameOf(ref)}${subresource === undefined ? '' : ` ${subresource}`}`,
      path: `${objectPath(ref)}${subresource === undefined ? '' : `/${subresource}`}`,
      query: { fieldManager: FIELD_MANAGER },
      body: patch,
      contentType: 'application/merge-patch+json',
    });
  }

  async delete(ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const { propagation, uid, resourceVersion } = options;
    const preconditions = {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    };
    try {
      await this.#write({
        method: 'DELETE',
        what: nameOf(ref),
        path: objectPath(ref),
        body: {
          apiVersion: 'v1',
          kind: 'DeleteOptions',
          ...(propagation === undefined ? {} : { propagationPolicy: propagation }),
          ...(Object.keys(preconditions).length === 0 ? {} : { preconditions }),
        },
      });
    } catch (error) {
      if (!isAbsent(error)) throw error;
    }
  }

  async list(selection: Selection, page: { limit: number; continue?: string }): Promise<ListPage> {
    const answer = await this.#caller.json<{
      items: KubeObject[] | null;
      metadata: { resourceVersion?: string; continue?: string };
    }>({
      method: 'GET',
      what: `list of ${wordsOf(selection)}`,
      path: collectionPath(selection.kind, selection.namespace),
      query: {
        ...selectorsOf(selection),
        limit: String(page.limit),
        ...(page.continue === undefined ? {} : { continue: page.continue }),
      },
      deadlineMs: LIST_DEADLINE_MS,
      unlimited: true,
    });
    const next = answer.metadata.continue;
    return {
      items: answer.items ?? [],
      resourceVersion: answer.metadata.resourceVersion ?? '',
      ...(next === undefined || next === '' ? {} : { continue: next }),
    };
  }

  async *watch(
    selection: Selection,
    options: { resourceVersion: string; timeoutSeconds: number; onBytes: () => void },
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    const answer = await this.#caller.stream(
      {
        method: 'GET',
        what: `watch of ${wordsOf(selection)}`,
        path: collectionPath(selection.kind, selection.namespace),
        query: {
          ...selectorsOf(selection),
          watch: 'true',
          allowWatchBookmarks: 'true',
          resourceVersion: options.resourceVersion,
          timeoutSeconds: String(options.timeoutSeconds),
        },
        deadlineMs: this.#deadlineMs,
        unlimited: true,
      },
      signal,
    );
    options.onBytes();
    for await (const line of linesOf(answer.body, options.onBytes)) {
      yield JSON.parse(line) as WatchEvent;
    }
  }

  /** Ends all connections, requests under way fail. */
  close(): Promise<void> {
    return this.#connection.close();
  }

  async #write<T>(call: Omit<Call, 'deadlineMs'>): Promise<T> {
    // Without `async` a fence that throws would throw instead of rejecting.
    const fence = this.#fence;
    const deadlineMs = Math.min(this.#deadlineMs, fence?.() ?? Number.POSITIVE_INFINITY);
    return this.#caller.json<T>({
      ...call,
      deadlineMs,
      guard: fence === undefined ? undefined : () => void fence(),
      unlimited: this.#unlimited,
      // The server gives up when we do: what we have given up must not happen later.
      query: { ...call.query, timeout: `${Math.max(1, Math.ceil(deadlineMs / 1000))}s` },
    });
  }
}

/**
 * There is no such object. Other 404s mean that the kind is unknown or the path wrong, and taking
 * those for "deleted" would tear a running job down while its CRD is being replaced.
 */
function isAbsent(error: unknown): boolean {
  return error instanceof KubeError && error.code === 'KUBE_NOT_FOUND' && error.namesObject;
}

const selectorsOf = ({ labelSelector, fieldSelector }: Selection) => ({
  ...(labelSelector === undefined ? {} : { labelSelector }),
  ...(fieldSelector === undefined ? {} : { fieldSelector }),
});

function wordsOf({ kind, namespace }: Selection): string {
  return namespace === undefined ? kind.plural : `${kind.plural} in ${namespace}`;
}
