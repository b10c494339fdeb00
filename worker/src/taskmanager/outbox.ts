/**
 * Verdicts that have not had their effect yet. An entry is made in the turn of its state change and
 * leaves when the webhook has answered 2xx or the dead letter has acknowledged it (P29); it is part
 * of every checkpoint in between. One delivery at a time per user, in order (P31).
 */
import type { ActionExecutor, DeadLetter, DeadLetterWriter, Delivery } from '../action/action.ts';
import { BodyPool } from './body-pool.ts';

export interface OutboxFailure {
  stage: DeadLetter['stage'];
  error: string;
  attempts: number;
}

export interface OutboxEntry {
  readonly seq: number;
  readonly keyGroup: number;
  readonly delivery: Delivery;
  /** Set: it goes to the dead letter. */
  readonly failure: OutboxFailure | null;
}

export type OutboxResult = 'delivered' | 'deadLettered';

export interface OutboxOptions {
  action: ActionExecutor;
  deadLetter: DeadLetterWriter;
  /** Called in the turn in which an entry leaves. */
  onDone: (entry: OutboxEntry, result: OutboxResult) => void;
  /** A port broke its contract: the task can't go on. */
  onFault: (fault: unknown) => void;
}

/** Heap bytes of an entry beyond its body. */
const ENTRY_BYTES = 600;
/**
 * Deliveries under way at a time, each for another user. Not the action's maxInFlight: it bounds
 * requests on the wire itself, and one that waits for its next attempt must not keep other users
 * waiting.
 */
export const MAX_UNDER_WAY = 4096;
/** Started entries at the front of the ready list before it is cut. */
const COMPACT_AT = 1024;

export class Outbox {
  /** Where the bodies of its entries come from; they go back when their entry leaves. */
  readonly bodies = new BodyPool();
  readonly #options: OutboxOptions;
  /** All entries by seq: insertion order is seq order. */
  readonly #entries = new Map<number, OutboxEntry>();
  /** Waiting entries per user; a user with one under way has a (maybe empty) queue here. */
  readonly #queues = new Map<string, OutboxEntry[]>();
  #ready: OutboxEntry[] = [];
  #readyHead = 0;
  #inFlight = 0;
  #nextSeq = 0;
  #bytes = 0;
  #closed = false;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get underWay(): number {
    return this.#inFlight;
  }

  holds(userId: string): boolean {
    return this.#queues.has(userId);
  }

  /** The user's deliveries that wait or are under way. */
  countOf(userId: string): number {
    const waiting = this.#queues.get(userId);
    return waiting === undefined ? 0 : waiting.length + 1;
  }

  add(keyGroup: number, delivery: Delivery, failure: OutboxFailure | null): void {
    this.#admit({ seq: this.#nextSeq++, keyGroup, delivery, failure });
    this.#start();
  }

  /** Entries of a restored checkpoint, in their order, before any new one. */
  restore(entries: readonly Omit<OutboxEntry, 'seq'>[]): void {
    for (const entry of entries) this.#admit({ ...entry, seq: this.#nextSeq++ });
    this.#start();
  }

  /** By reference, in order: entries are immutable (P18), and their bodies are not used again. */
  snapshot(): OutboxEntry[] {
    const entries = [...this.#entries.values()];
    for (const { delivery } of entries) this.bodies.captured(delivery.body);
    return entries;
  }

  close(): void {
    this.#closed = true;
  }

  #admit(entry: OutboxEntry): void {
    this.#entries.set(entry.seq, entry);
    this.#bytes += entry.delivery.body.length + ENTRY_BYTES;
    const key = queueKey(entry);
    const queue = this.#queues.get(key);
    if (queue !== undefined) {
      queue.push(entry);
      return;
    }
    this.#queues.set(key, []);
    this.#ready.push(entry);
  }

  #start(): void {
    while (!this.#closed && this.#readyHead < this.#ready.length) {
      const entry = this.#ready[this.#readyHead]!;
      if (this.#inFlight >= MAX_UNDER_WAY) break;
      this.#readyHead++;
      this.#inFlight++;
      this.#finish(entry).catch((fault: unknown) => {
        if (!this.#closed) this.#options.onFault(fault);
      });
    }
    // What was started must not be held by this list: its bodies would outlive their delivery.
    const half = this.#readyHead * 2 > this.#ready.length;
    if (half && (this.#readyHead > COMPACT_AT || this.#readyHead === this.#ready.length)) {
      this.#ready = this.#ready.slice(this.#readyHead);
      this.#readyHead = 0;
    }
  }

  async #finish(entry: OutboxEntry): Promise<void> {
    let result: OutboxResult = 'deadLettered';
    let failure = entry.failure;
    if (failure === null) {
      const outcome = await this.#options.action.deliver(entry.delivery);
      if (outcome.kind === 'delivered') result = 'delivered';
      else failure = { stage: 'action', error: outcome.error, attempts: outcome.attempts };
    }
    if (failure !== null) {
      const { id, topic, partition, offset, userId, body } = entry.delivery;
      const place = { id, topic, partition, offset, userId: userId === '' ? null : userId };
      await this.#options.deadLetter.write({ ...place, ...failure, raw: body });
    }
    if (this.#closed) return;
    this.#leave(entry, result);
  }

  #leave(entry: OutboxEntry, result: OutboxResult): void {
    this.#entries.delete(entry.seq);
    this.#bytes -= entry.delivery.body.length + ENTRY_BYTES;
    this.#inFlight--;
    const key = queueKey(entry);
    const next = this.#queues.get(key)?.shift();
    if (next === undefined) this.#queues.delete(key);
    else this.#ready.push(next);
    this.#options.onDone(entry, result);
    this.bodies.give(entry.delivery.body);
    this.#start();
  }
}

/** Entries without a user (poison records) wait for no one. */
function queueKey({ delivery, seq }: OutboxEntry): string {
  return delivery.userId === '' ? `\u0000${seq}` : delivery.userId;
}
