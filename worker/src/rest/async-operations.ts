/**
 * Flink's asynchronous operations: a POST answers a trigger id, a GET by that id tells how it went.
 * A trigger id chosen by the client makes the POST idempotent: the same id never starts a second
 * one.
 */
import type { Bound } from '../runtime/bound.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';

/** How long an answer that nobody has read keeps a JobManager from ending. */
const UNREAD_MS = 15_000;
const UNREAD_POLL_MS = 20;
/** Finished ones are forgotten beyond this, oldest first. */
const MAX_OPERATIONS = 1_000;

export type OperationResult = { ok: JsonObject } | { failure: string };
/** How far an operation is; shown while it is in progress. */
export type Progress = (progress: JsonObject) => void;

export class AsyncOperations {
  readonly #env: Env;
  /** null = in progress. */
  readonly #results = new Map<string, OperationResult | null>();
  readonly #progress = new Map<string, JsonObject>();
  /** Finished, and nobody has been told yet; monotonic time of the end. */
  readonly #unread = new Map<string, number>();

  constructor(env: Env) {
    this.#env = env;
  }

  /**
   * Starts `work` unless the id is known. Throws TOO_MANY_OPERATIONS when all places are under way.
   */
  start(triggerId: string | null, work: (progress: Progress) => Promise<JsonObject>): string {
    const id = triggerId ?? this.#env.id();
    if (this.#results.has(id)) return id;
    this.#makeRoom();
    this.#results.set(id, null);
    work((progress) => this.#progress.set(id, progress)).then(
      (ok) => this.#finish(id, { ok }),
      (error: unknown) => this.#finish(id, { failure: messageOf(error) }),
    );
    return id;
  }

  get kept(): Bound {
    return { value: this.#results.size, limit: MAX_OPERATIONS };
  }

  /** undefined: unknown. null: in progress. */
  result(triggerId: string): OperationResult | null | undefined {
    this.#unread.delete(triggerId);
    return this.#results.get(triggerId);
  }

  knows(triggerId: string): boolean {
    return this.#results.has(triggerId);
  }

  progress(triggerId: string): JsonObject | undefined {
    return this.#progress.get(triggerId);
  }

  /**
   * Resolves when every answer was read, or is older than anybody waits for: the client of a stop
   * wants its savepoint's location, and the JobManager that knows it is about to end.
   */
  async read(): Promise<void> {
    while (this.#unread.size > 0) {
      const now = this.#env.monotonic();
      for (const [id, at] of this.#unread) if (now - at >= UNREAD_MS) this.#unread.delete(id);
      await sleep(this.#env, UNREAD_POLL_MS);
    }
  }

  #finish(id: string, result: OperationResult): void {
    this.#progress.delete(id);
    this.#results.set(id, result);
    this.#unread.set(id, this.#env.monotonic());
  }

  #makeRoom(): void {
    if (this.#results.size < MAX_OPERATIONS) return;
    for (const [id, result] of this.#results) {
      if (result === null) continue;
      this.#results.delete(id);
      this.#unread.delete(id);
      return;
    }
    throw new TriggerJobError('TOO_MANY_OPERATIONS', `${MAX_OPERATIONS} operations are under way`);
  }
}
