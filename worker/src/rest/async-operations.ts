/**
 * Flink's asynchronous operations: a POST answers a trigger id, a GET by that id tells how it went.
 * A trigger id chosen by the client makes the POST idempotent: the same id never starts a second
 * one.
 */
import type { Bound } from '../runtime/bound.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';

/** Finished ones are forgotten beyond this, oldest first. */
const MAX_OPERATIONS = 1_000;

export type OperationResult = { ok: JsonObject } | { failure: string };

export class AsyncOperations {
  readonly #env: Env;
  /** null = in progress. */
  readonly #results = new Map<string, OperationResult | null>();

  constructor(env: Env) {
    this.#env = env;
  }

  /**
   * Starts `work` unless the id is known. Throws TOO_MANY_OPERATIONS when all places are under way.
   */
  start(triggerId: string | null, work: () => Promise<JsonObject>): string {
    const id = triggerId ?? this.#env.id();
    if (this.#results.has(id)) return id;
    this.#makeRoom();
    this.#results.set(id, null);
    work().then(
      (ok) => this.#results.set(id, { ok }),
      (error: unknown) => this.#results.set(id, { failure: messageOf(error) }),
    );
    return id;
  }

  get kept(): Bound {
    return { value: this.#results.size, limit: MAX_OPERATIONS };
  }

  /** undefined: unknown. null: in progress. */
  result(triggerId: string): OperationResult | null | undefined {
    return this.#results.get(triggerId);
  }

  #makeRoom(): void {
    if (this.#results.size < MAX_OPERATIONS) return;
    for (const [id, result] of this.#results) {
      if (result === null) continue;
      this.#results.delete(id);
      return;
    }
    throw new TriggerJobError('TOO_MANY_OPERATIONS', `${MAX_OPERATIONS} operations are under way`);
  }
}
