/**
 * The checkpoint store as one process sees it: calls are slow, throw before they did anything, lose
 * their reply, or never come back because the process is dead. Where the way there is cut, a
 * request is lost or takes effect long after its caller has given it up; where the way back is, its
 * reply is. Every effect is a point where the process may die.
 */
import { MemoryStore, type StoreCall, type StoredObjects } from '../checkpoint/memory-store.ts';
import type { StoredObject } from '../checkpoint/object-store.ts';
import type { SimThread } from '../rehearsal/sim-process.ts';
import { sleep } from '../runtime/env.ts';
import type { Outside } from './model-services.ts';
import { type Network, STORE } from './network.ts';

/** What the store does to its callers while the run is not healed. */
export interface StoreFaults {
  slow: number;
  throws: number;
  lostReply: number;
}

/** A caller waits no longer for an answer. */
const DEADLINE_MS = 1500;

export class SimStore extends MemoryStore {
  readonly #thread: SimThread;
  readonly #network: Network;
  readonly #outside: Outside;
  readonly #faults: () => StoreFaults;
  readonly #created: (name: string) => void;
  /** Kind of the record under creation, by name. */
  readonly #records = new Map<string, string>();

  constructor(options: {
    thread: SimThread;
    network: Network;
    outside: Outside;
    objects: StoredObjects;
    faults: () => StoreFaults;
    /** The store's clock is behind by this much. */
    lagMs: number;
    created: (name: string) => void;
    url?: string;
  }) {
    const { thread, network, outside, objects, faults, lagMs, created, url } = options;
    super({ now: () => Math.floor(thread.process.time.nowMs) - lagMs }, objects, url);
    this.#thread = thread;
    this.#network = network;
    this.#outside = outside;
    this.#faults = faults;
    this.#created = created;
    this.onCall = (call) => this.#call(call);
  }

  override create(name: string, content: Buffer): Promise<'created' | 'exists'> {
    if (name.startsWith('log/')) {
      this.#records.set(name, (JSON.parse(content.toString()) as { kind: string }).kind);
    }
    return this.#answered(() => super.create(name, content));
  }

  override put(name: string, content: Buffer): Promise<void> {
    return this.#answered(() => super.put(name, content));
  }

  override replace(name: string, content: Buffer): Promise<void> {
    return this.#answered(() => super.replace(name, content));
  }

  override get(name: string): Promise<Buffer | null> {
    return this.#answered(() => super.get(name));
  }

  override getRange(name: string, offset: number, length: number): Promise<Buffer> {
    return this.#answered(() => super.getRange(name, offset, length));
  }

  override list(prefix: string): Promise<StoredObject[]> {
    return this.#answered(() => super.list(prefix));
  }

  override delete(names: readonly string[]): Promise<void> {
    return this.#answered(() => super.delete(names));
  }

  /** Rejects at the deadline, though the request may still take effect. */
  async #answered<T>(call: () => Promise<T>): Promise<T> {
    if (this.#network.between(this.#thread.process.name, STORE) === null) return await call();
    const late = Promise.withResolvers<never>();
    const limit = this.#thread.env.timer(DEADLINE_MS, () => late.reject(timedOut()));
    const answer = call();
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, late.promise]);
    } finally {
      limit.cancel();
    }
  }

  async #call(call: StoreCall): Promise<void> {
    const { rng } = this.#outside;
    const { process, env } = this.#thread;
    process.time.sign();
    if (call.when === 'after' && call.operation === 'create') this.#created(call.name);
    await this.#crashed(`${call.when} ${call.operation} ${this.#kindOf(call.name)}`);
    if (call.when === 'before') await this.#requested();
    else await this.#replied();
    const { slow, throws, lostReply } = this.#faults();
    if (rng.chance(slow)) {
      this.#outside.hit('store: slow');
      await sleep(env, rng.between(1, 400));
    }
    if (call.when === 'before' && this.#outside.isDown('store')) {
      this.#outside.hit(`store: outage of ${call.operation}`);
      await sleep(env, 20);
      throw new Error('503 slow down');
    }
    if (call.when === 'before' && rng.chance(throws)) {
      this.#outside.hit(`store: failed ${call.operation}`);
      await this.#awake();
      throw new Error('connection refused');
    }
    if (call.when === 'after' && rng.chance(lostReply)) {
      this.#outside.hit(`store: lost reply of ${call.operation}`);
      await this.#awake();
      throw new Error('connection reset');
    }
    if (call.when === 'after') await this.#awake();
  }

  /** On the wire, where the death of the process holds nothing up. */
  async #requested(): Promise<void> {
    const { process } = this.#thread;
    const cut = this.#network.between(process.name, STORE);
    if (cut === null) return;
    if (cut.lost) {
      this.#outside.hit('store: request lost');
      await this.#timeOut();
    }
    const restMs = cut.untilMs - process.time.nowMs;
    this.#outside.hit(`store: request held${restMs > DEADLINE_MS ? ' beyond its deadline' : ''}`);
    await new Promise<void>((resolve) => process.time.after(restMs, resolve));
  }

  async #replied(): Promise<void> {
    const { process, env } = this.#thread;
    const cut = this.#network.between(STORE, process.name);
    if (cut === null) return;
    const restMs = cut.untilMs - process.time.nowMs;
    if (cut.lost || restMs > DEADLINE_MS) {
      this.#outside.hit('store: reply lost');
      await this.#timeOut();
    }
    this.#outside.hit('store: reply held');
    await sleep(env, restMs);
  }

  async #timeOut(): Promise<never> {
    await sleep(this.#thread.env, DEADLINE_MS);
    throw timedOut();
  }

  /** A frozen one does not see it before it is woken, a dead one never. */
  async #awake(): Promise<void> {
    await new Promise<void>((resolve) => this.#thread.awake(resolve));
  }

  /** A dead process's call never comes back. */
  async #crashed(point: string): Promise<void> {
    const { process } = this.#thread;
    if (process.alive) this.#outside.point(process, point);
    if (!process.alive) await new Promise<never>(() => {});
  }

  #kindOf(name: string): string {
    const segment = /^segments\/.*-(delta|base|volatile)-/.exec(name);
    if (segment !== null) return segment[1]!;
    if (name.startsWith('log/')) return `log ${this.#records.get(name) ?? 'record'}`;
    return name.split('/')[0]!.replace(/s$/, '');
  }
}

function timedOut(): Error {
  return new Error('connection timed out');
}
