/**
 * An API server in memory for tests: resource versions, generations, conflicts, finalizers, garbage
 * collection, and caches that may lag. Every write is counted, and the process that made it may end
 * right after it.
 */
import { KubeError } from '../kube/kube-error.ts';
import type {
  ApplyOptions,
  DeleteOptions,
  EventNote,
  KubeApi,
  KubeObject,
  ObjectCache,
  ObjectRef,
} from '../kube/port.ts';

type Fields = Record<string, unknown>;
type Objects = ReadonlyMap<string, KubeObject>;

/** The operator's process has ended: what it asked for last was done, nobody heard the answer. */
export class ProcessEnded extends Error {}

const keyOf = (kind: string, namespace: string, name: string): string =>
  `${kind}/${namespace}/${name}`;
const keyOfRef = ({ kind, namespace = '', name }: ObjectRef): string =>
  keyOf(kind, namespace, name);
const keyOfObject = ({ kind, metadata }: KubeObject): string =>
  keyOf(kind, metadata.namespace ?? '', metadata.name);

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** RFC 7386. */
function merged(base: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const result: Fields = isFields(base) ? { ...base } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}

const json = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;
const specText = (object: KubeObject): string => JSON.stringify((object as { spec?: unknown }).spec);

export class ModelKube implements KubeApi {
  #objects: Objects = new Map();
  /** After every change, the newest last: what a cache that lags still shows. */
  readonly #history: Objects[] = [];
  #version = 0;
  #uids = 0;
  /** Changes that the caches have not seen yet. */
  lag = 0;
  /** Writes of the operator so far. */
  writes = 0;
  reads = 0;
  /** The operator ends after this write; 0: it does not. */
  endAfter = 0;
  readonly events: EventNote[] = [];
  /** Looks at each write of the operator; throws what must not be. */
  onWrite: (object: KubeObject) => void = () => {};
  /** Why the server would refuse an object; null: it does not. */
  refuse: (object: KubeObject) => string | null = () => null;
  now: () => number = () => 0;

  // What the operator calls.

  async get<T extends KubeObject>(ref: ObjectRef): Promise<T | null> {
    this.reads += 1;
    const found = this.#objects.get(keyOfRef(ref));
    return found === undefined ? null : (json(found) as T);
  }

  async apply<T extends KubeObject>(object: T, options: ApplyOptions): Promise<T> {
    const refusal = this.refuse(object);
    if (refusal !== null) throw new KubeError('KUBE_INVALID', refusal, { status: 422 });
    if (options.dryRun) return object;
    const before = this.#objects.get(keyOfObject(object));
    const after = this.#put(merged(before ?? {}, json(object)) as T, before);
    this.#counted(after);
    return json(after) as T;
  }

  async create<T extends KubeObject>(object: T): Promise<T> {
    if (this.#objects.has(keyOfObject(object))) {
      throw new KubeError('KUBE_CONFLICT', 'it exists', { status: 409, reason: 'AlreadyExists' });
    }
    const after = this.#put(json(object), undefined);
    this.#counted(after);
    return json(after) as T;
  }

  async patch<T extends KubeObject>(
    ref: ObjectRef,
    patch: object,
    subresource?: 'status' | 'scale',
  ): Promise<T> {
    const before = this.#objects.get(keyOfRef(ref));
    if (before === undefined) throw new KubeError('KUBE_NOT_FOUND', 'there is none', { status: 404 });
    const { metadata = {}, ...rest } = json(patch) as { metadata?: Fields; status?: unknown };
    const { resourceVersion, uid, ...meta } = metadata;
    const stale = resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion;
    if (stale || (uid !== undefined && uid !== before.metadata.uid)) {
      throw new KubeError('KUBE_CONFLICT', 'the object was changed meanwhile', { status: 409 });
    }
    const change = subresource === 'status' ? { status: rest.status } : { metadata: meta, ...rest };
    const after = this.#put(merged(before, change) as T, before);
    this.#counted(after);
    return json(after) as T;
  }

  async delete(ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const before = this.#objects.get(keyOfRef(ref));
    if (before === undefined) return;
    if (options.uid !== undefined && options.uid !== before.metadata.uid) {
      throw new KubeError('KUBE_CONFLICT', 'it is another object', { status: 409 });
    }
    this.remove(ref);
    this.#counted(before);
  }

  event(note: EventNote): void {
    this.events.push(note);
  }

  // What users and controllers do: no write of the operator.

  find<T extends KubeObject>(kind: string, namespace: string, name: string): T | undefined {
    return this.#objects.get(keyOf(kind, namespace, name)) as T | undefined;
  }

  all(kind: string): KubeObject[] {
    return [...this.#objects.values()].filter((object) => object.kind === kind);
  }

  put(object: KubeObject): void {
    this.#put(json(object), this.#objects.get(keyOfObject(object)));
  }

  change(ref: ObjectRef, patch: object): void {
    const before = this.#objects.get(keyOfRef(ref));
    if (before === undefined) throw new Error(`there is no ${keyOfRef(ref)}`);
    this.#put(merged(before, json(patch)) as KubeObject, before);
  }

  remove(ref: ObjectRef): void {
    const before = this.#objects.get(keyOfRef(ref));
    if (before === undefined) return;
    if ((before.metadata.finalizers ?? []).length === 0) this.#drop(before);
    else if (before.metadata.deletionTimestamp === undefined) {
      const deletionTimestamp = new Date(this.now()).toISOString();
      this.#put(merged(before, { metadata: { deletionTimestamp } }) as KubeObject, before);
    }
  }

  /** The cache of a kind, as far behind as `lag` says just then. */
  cache<T extends KubeObject>(kind: string): ObjectCache<T> {
    const seen = (): Objects => this.#history.at(-1 - this.lag) ?? this.#history[0] ?? new Map();
    const list = (): T[] =>
      [...seen().values()].filter((object) => object.kind === kind) as T[];
    return {
      get: (namespace, name) => seen().get(keyOf(kind, namespace, name)) as T | undefined,
      list,
      ownedBy: (uid) =>
        list().filter(({ metadata }) => metadata.ownerReferences?.some((one) => one.uid === uid)),
      synced: true,
    };
  }

  /** One more write of the operator; also for those that go elsewhere. */
  count(): void {
    this.writes += 1;
    if (this.writes === this.endAfter) throw new ProcessEnded(`after write ${this.writes}`);
  }

  #counted(object: KubeObject): void {
    this.onWrite(object);
    this.count();
  }

  #put(object: KubeObject, before: KubeObject | undefined): KubeObject {
    this.#version += 1;
    this.#uids += before === undefined ? 1 : 0;
    const { metadata } = object;
    const changed = before === undefined || specText(before) !== specText(object);
    const generation = (before?.metadata.generation ?? 0) + (changed ? 1 : 0);
    const after = {
      ...object,
      metadata: {
        ...metadata,
        uid: before?.metadata.uid ?? `uid-${this.#uids}`,
        generation,
        resourceVersion: String(this.#version),
        creationTimestamp: before?.metadata.creationTimestamp ?? new Date(this.now()).toISOString(),
      },
    };
    const gone = metadata.deletionTimestamp !== undefined && !metadata.finalizers?.length;
    if (gone) this.#drop(after);
    else this.#become(new Map(this.#objects).set(keyOfObject(after), after));
    return after;
  }

  #drop(object: KubeObject): void {
    const left = new Map(this.#objects);
    left.delete(keyOfObject(object));
    this.#become(left);
    for (const dependent of left.values()) {
      const { ownerReferences = [], namespace = '', name } = dependent.metadata;
      if (!ownerReferences.some(({ uid }) => uid === object.metadata.uid)) continue;
      this.remove({ apiVersion: dependent.apiVersion, kind: dependent.kind, namespace, name });
    }
  }

  #become(objects: Objects): void {
    this.#objects = objects;
    this.#history.push(objects);
  }
}
