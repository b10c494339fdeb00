/**
 * Whether this process stood still, asked at each heartbeat: stopped, starved, or its machine was.
 * Beyond the heartbeat timeout the others have given it up and go on without it, so it must have no
 * further effect (P38).
 */
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';

export class SleepWatch {
  readonly #env: Env;
  #limitMs = Number.POSITIVE_INFINITY;
  /** Monotonic, ms; null: the first heartbeat is yet to come. */
  #beatAt: number | null = null;

  constructor(env: Env) {
    this.#env = env;
  }

  /** Of the deployed plan. */
  limit(heartbeatTimeoutMs: number): void {
    this.#limitMs = heartbeatTimeoutMs;
  }

  /** PROCESS_FROZEN: this process has to end. */
  beat(): TriggerJobError | null {
    const now = this.#env.monotonic();
    const asleepMs = this.#beatAt === null ? 0 : now - this.#beatAt;
    this.#beatAt = now;
    if (asleepMs <= this.#limitMs) return null;
    const text = `this process stood still for ${Math.round(asleepMs)} ms`;
    return new TriggerJobError('PROCESS_FROZEN', text);
  }
}
