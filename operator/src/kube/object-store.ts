/**
 * The objects of one kind as the API server last told of them, by namespace/name and by owner. The
 * reflectors write, everything else reads. It says what changed by uid: an object that was deleted
 * and made again between two looks is a deletion and a creation, never an update.
 */
import type { KubeObject, ObjectCache } from './port.ts';

export interface Handlers<T extends KubeObject> {
  added(object: T): void;
  /** `before` is the same value when nothing changed (periodic resync). */
  updated(object: T, before: T): void;
  deleted(object: T): void;
}

const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;
const controllerUidOf = (object: KubeObject): string | undefined =>
  object.metadata.ownerReferences?.find((owner) => owner.controller)?.uid;

export class ObjectStore<T extends KubeObject> implements ObjectCache<T> {
  readonly #objects = new Map<string, T>();
  readonly #byOwner = new Map<string, Map<string, T>>();
  readonly #handlers: Handlers<T>;
  readonly #isSynced: () => boolean;

  constructor(handlers: Handlers<T>, isSynced: () => boolean) {
    this.#handlers = handlers;
    this.#isSynced = isSynced;
  }

  get synced(): boolean {
    return this.#isSynced();
  }

  get size(): number {
    return this.#objects.size;
  }

  get(namespace: string, name: string): T | undefined {
    return this.#objects.get(keyOf(namespace, name));
  }

  list(): Iterable<T> {
    return this.#objects.values();
  }

  ownedBy(uid: string): readonly T[] {
    return [...(this.#byOwner.get(uid)?.values() ?? [])];
  }

  /** A watch's ADDED or MODIFIED. */
  put(object: T): void {
    const key = keyOf(object.metadata.namespace ?? '', object.metadata.name);
    const before = this.#objects.get(key);
    if (before !== undefined && before.metadata.uid !== object.metadata.uid)
      this.#drop(key, before);
    else if (before?.metadata.resourceVersion === object.metadata.resourceVersion && before) return;
    this.#set(key, object);
    if (before === undefined || before.metadata.uid !== object.metadata.uid) {
      this.#handlers.added(object);
    } else this.#handlers.updated(object, before);
  }

  /** A watch's DELETED. */
  remove(object: T): void {
    const key = keyOf(object.metadata.namespace ?? '', object.metadata.name);
    const known = this.#objects.get(key);
    // The one that is known may be younger than the one this event speaks of.
    if (known !== undefined && known.metadata.uid === object.metadata.uid) this.#drop(key, known);
  }

  /**
   * A whole list, of one namespace or of all (undefined). `resync`: what did not change is told of
   * too.
   */
  replace(objects: readonly T[], namespace: string | undefined, resync: boolean): void {
    const present = new Set<string>();
    for (const object of objects) {
      present.add(keyOf(object.metadata.namespace ?? '', object.metadata.name));
    }
    for (const [key, known] of [...this.#objects]) {
      const inScope = namespace === undefined || known.metadata.namespace === namespace;
      if (inScope && !present.has(key)) this.#drop(key, known);
    }
    for (const object of objects) {
      const known = this.get(object.metadata.namespace ?? '', object.metadata.name);
      const same = known?.metadata.resourceVersion === object.metadata.resourceVersion;
      if (known === undefined || !same) this.put(object);
      else if (resync) this.#handlers.updated(known, known);
    }
  }

  #set(key: string, object: T): void {
    const before = this.#objects.get(key);
    if (before !== undefined) this.#unindex(key, before);
    this.#objects.set(key, object);
    const owner = controllerUidOf(object);
    if (owner === undefined) return;
    const owned = this.#byOwner.get(owner) ?? new Map<string, T>();
    owned.set(key, object);
    this.#byOwner.set(owner, owned);
  }

  #drop(key: string, object: T): void {
    this.#unindex(key, object);
    this.#objects.delete(key);
    this.#handlers.deleted(object);
  }

  #unindex(key: string, object: T): void {
    const owner = controllerUidOf(object);
    if (owner === undefined) return;
    const owned = this.#byOwner.get(owner);
    owned?.delete(key);
    if (owned?.size === 0) this.#byOwner.delete(owner);
  }
}
