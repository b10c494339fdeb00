/**
 * The checkpoint store as one process sees it: calls are slow, throw before they did anything, lose
 * their reply, or never come back because the process is dead. Every effect is a point where it may
 * die.
 */
import { MemoryStore, type StoreCall, type StoredObjects } from '../checkpoint/memory-store.ts';
import { sleep } from '../runtime/env.ts';
import type { Outside } from './model-services.ts';
import type { SimProcess } from './virtual-time.ts';

/** What the store does to its callers while the run is not healed. */
export interface StoreFaults {
  slow: number;
  throws: number;
  lostReply: number;
}

export class SimStore extends MemoryStore {
  readonly #process: SimProcess;
  readonly #outside: Outside;
  readonly #faults: () => StoreFaults;
  readonly #created: (name: string) => void;
  /** Kind of the record under creation, by name. */
  readonly #records = new Map<string, string>();

  constructor(options: {
    process: SimProcess;
    outside: Outside;
    objects: StoredObjects;
    faults: () => StoreFaults;
    /** The store's clock is behind by this much. */
    lagMs: number;
    created: (name: string) => void;
  }) {
    const { process, outside, objects, faults, lagMs, created } = options;
    super({ now: () => process.env.now() - lagMs }, objects);
    this.#process = process;
    this.#outside = outside;
    this.#faults = faults;
    this.#created = created;
    this.onCall = (call) => this.#call(call);
  }

  override create(name: string, content: Buffer): Promise<'created' | 'exists'> {
    if (name.startsWith('log/')) {
      this.#records.set(name, (JSON.parse(content.toString()) as { kind: string }).kind);
    }
    return super.create(name, content);
  }

  async #call(call: StoreCall): Promise<void> {
    const { rng } = this.#outside;
    this.#process.time.sign();
    if (call.when === 'after' && call.operation === 'create') this.#created(call.name);
    await this.#crashed(`${call.when} ${call.operation} ${this.#kindOf(call.name)}`);
    const { slow, throws, lostReply } = this.#faults();
    if (rng.chance(slow)) {
      this.#outside.hit('store: slow');
      await sleep(this.#process.env, rng.between(1, 400));
    }
    if (call.when === 'before' && this.#outside.isDown('store')) {
      this.#outside.hit(`store: outage of ${call.operation}`);
      await sleep(this.#process.env, 20);
      throw new Error('503 slow down');
    }
    if (call.when === 'before' && rng.chance(throws)) {
      this.#outside.hit(`store: failed ${call.operation}`);
      throw new Error('connection refused');
    }
    if (call.when === 'after' && rng.chance(lostReply)) {
      this.#outside.hit(`store: lost reply of ${call.operation}`);
      throw new Error('connection reset');
    }
    // A frozen one does not see it before it is woken.
    await new Promise<void>((resolve) => this.#process.awake(resolve));
  }

  /** A dead process's call never comes back. */
  async #crashed(point: string): Promise<void> {
    if (this.#process.alive) this.#outside.point(this.#process, point);
    if (!this.#process.alive) await new Promise<never>(() => {});
  }

  #kindOf(name: string): string {
    const segment = /^segments\/.*-(delta|base|volatile)-/.exec(name);
    if (segment !== null) return segment[1]!;
    if (name.startsWith('log/')) return `log ${this.#records.get(name) ?? 'record'}`;
    return name.split('/')[0]!.replace(/s$/, '');
  }
}
