/**
 * The object store of the simulation and of tests: a map, and a hook around every effect where a
 * crash, a lost reply or another process's step can be put in. Deterministic: time comes from the
 * Env.
 */
import type { Env } from '../runtime/env.ts';
import { checkName, checkPrefix } from './object-name.ts';
import type { ObjectStore, ReadPiece, StoredObject } from './object-store.ts';

export type StoreOperation = 'put' | 'create' | 'get' | 'getRange' | 'list' | 'delete';

/**
 * `when`: 'after' = the effect took place, the caller does not know yet. A throw is the lost
 * reply.
 */
export interface StoreCall {
  operation: StoreOperation;
  /** Object name, or the prefix of a list; a delete comes once for each name. */
  name: string;
  when: 'before' | 'after';
}

/** The objects of one store, shared by the MemoryStore of each simulated process. */
export type StoredObjects = Map<string, { content: Buffer; modifiedAt: number }>;

export class MemoryStore implements ObjectStore {
  readonly url: string;
  /** Called before and after each effect; what it throws, the caller gets. */
  onCall: ((call: StoreCall) => void | Promise<void>) | null = null;
  readonly objects: StoredObjects;
  readonly #env: Pick<Env, 'now'>;

  constructor(env: Pick<Env, 'now'>, objects: StoredObjects = new Map(), url = 'memory://job') {
    this.url = url;
    this.objects = objects;
    this.#env = env;
  }

  put(name: string, content: Buffer): Promise<void> {
    return this.#effect('put', name, () => this.#set(name, content));
  }

  async putPieces(name: string, bytes: number, read: ReadPiece): Promise<void> {
    await this.put(name, await read(0, bytes));
  }

  create(name: string, content: Buffer): Promise<'created' | 'exists'> {
    return this.#effect('create', name, () => {
      if (this.objects.has(name)) return 'exists';
      this.#set(name, content);
      return 'created';
    });
  }

  get(name: string): Promise<Buffer | null> {
    return this.#effect('get', name, () => {
      const found = this.objects.get(name);
      return found === undefined ? null : Buffer.from(found.content);
    });
  }

  getRange(name: string, offset: number, length: number): Promise<Buffer> {
    return this.#effect('getRange', name, () => {
      const found = this.objects.get(name);
      if (found === undefined) throw new Error(`${name} is not in ${this.url}`);
      return Buffer.from(found.content.subarray(offset, offset + length));
    });
  }

  list(prefix: string): Promise<StoredObject[]> {
    return this.#effect('list', prefix, () =>
      [...this.objects]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, { content, modifiedAt }]) => ({ name, bytes: content.length, modifiedAt })),
    );
  }

  async delete(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#effect('delete', name, () => this.objects.delete(name));
  }

  #set(name: string, content: Buffer): void {
    this.objects.set(name, { content: Buffer.from(content), modifiedAt: this.#env.now() });
  }

  async #effect<T>(operation: StoreOperation, name: string, effect: () => T): Promise<T> {
    if (operation === 'list') checkPrefix(name);
    else checkName(name);
    await this.onCall?.({ operation, name, when: 'before' });
    const result = effect();
    await this.onCall?.({ operation, name, when: 'after' });
    return result;
  }
}
