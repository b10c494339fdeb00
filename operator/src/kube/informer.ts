/** One kind, mirrored: a store, and a reflector per namespace that is looked at. */
import type { Env } from '../env.ts';
import type { ListWatch, Selection } from './client.ts';
import { type Handlers, ObjectStore } from './object-store.ts';
import type { Kind } from './objects.ts';
import type { KubeObject, ObjectCache } from './port.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

export interface InformerOptions<T extends KubeObject>
  extends Pick<
    ReflectorOptions<T>,
    'keep' | 'metrics' | 'log' | 'pageSize' | 'silenceMs' | 'resyncMs'
  > {
  env: Env;
  api: ListWatch;
  kind: Kind;
  /** Empty: all of them. */
  namespaces: readonly string[];
  labelSelector?: string;
  fieldSelector?: string;
  handlers: Handlers<T>;
}

export class Informer<T extends KubeObject> {
  readonly kind: string;
  readonly #store: ObjectStore<T>;
  readonly #reflectors: Reflector<T>[];

  constructor(options: InformerOptions<T>) {
    const { kind, namespaces, labelSelector, fieldSelector, handlers, ...rest } = options;
    this.kind = kind.kind;
    this.#store = new ObjectStore(handlers, () => this.synced);
    const selection: Selection = {
      kind,
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    };
    const scopes: Selection[] =
      namespaces.length === 0 || !kind.namespaced
        ? [selection]
        : namespaces.map((namespace) => ({ ...selection, namespace }));
    const store = this.#store;
    this.#reflectors = scopes.map((scope) => new Reflector({ ...rest, selection: scope, store }));
  }

  get cache(): ObjectCache<T> {
    return this.#store;
  }

  get size(): number {
    return this.#store.size;
  }

  get synced(): boolean {
    return this.#reflectors.every((reflector) => reflector.synced);
  }

  /** Of the namespace that has not been heard of for the longest time. */
  stalenessMs(): number {
    return Math.max(...this.#reflectors.map((reflector) => reflector.stalenessMs()));
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run(signal)));
  }
}
