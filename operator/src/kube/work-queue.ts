/**
 * Which keys are to be reconciled, and by whom now. First come, first served, with four promises:
 *
 * Q1 A key waits once, however often it is added.
 * Q2 A key is never worked on twice at a time; added meanwhile, it is worked on again afterwards.
 * Q3 Of several times at which a key is to come, the earliest holds. What was to come when its work
 *    begins is settled by that work: it sees everything, and says itself when to come again.
 * Q4 A key that fails comes again after a growing, jittered time; other keys do not wait for it.
 */
import { backoffMs, type Env, type Timer } from '../env.ts';

const BACKOFF_BASE_MS = 200;
const BACKOFF_CAP_MS = 60_000;

/** controller-runtime's workqueue_* and controller_runtime_* metrics; times in seconds. */
export interface QueueMetrics {
  added(): void;
  retried(): void;
  /** Waited in the queue. */
  taken(waitedSeconds: number): void;
  finished(result: 'success' | 'requeue_after' | 'error', workedSeconds: number): void;
}

/** `requeueAfterMs`: come again then, whatever happens. */
export type Work = (key: string) => Promise<{ requeueAfterMs?: number }>;

export interface WorkQueueOptions {
  env: Env;
  work: Work;
  concurrency: number;
  metrics: QueueMetrics;
  /** Called with what `work` threw. */
  onError(key: string, error: unknown, failures: number, retryInMs: number): void;
  backoffBaseMs?: number;
  backoffCapMs?: number;
}

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  /** Keys that wait, in order, with the moment they were added (monotonic ms). */
  readonly #waiting = new Map<string, number>();
  /** Keys that are worked on, with the moment it began. */
  readonly #active = new Map<string, number>();
  /** Keys added while they were worked on. */
  readonly #again = new Set<string>();
  readonly #later = new Map<string, { dueAt: number; timer: Timer }>();
  readonly #failures = new Map<string, number>();
  #running = false;
  #idle: (() => void)[] = [];

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  get depth(): number {
    return this.#waiting.size;
  }

  get active(): number {
    return this.#active.size;
  }

  /** Seconds that the keys worked on now have taken so far: their sum, and the longest. */
  unfinished(): { sumSeconds: number; longestSeconds: number } {
    const now = this.#options.env.monotonic();
    let sumSeconds = 0;
    let longestSeconds = 0;
    for (const beganAt of this.#active.values()) {
      const seconds = (now - beganAt) / 1000;
      sumSeconds += seconds;
      longestSeconds = Math.max(longestSeconds, seconds);
    }
    return { sumSeconds, longestSeconds };
  }

  add(key: string): void {
    if (this.#waiting.has(key)) return;
    if (this.#active.has(key)) {
      if (this.#again.has(key)) return;
      this.#again.add(key);
    } else this.#waiting.set(key, this.#options.env.monotonic());
    this.#options.metrics.added();
    this.#dispatch();
  }

  /** The earliest of several holds (Q3). */
  addAfter(key: string, delayMs: number): void {
    const { env } = this.#options;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const dueAt = env.monotonic() + delayMs;
    const known = this.#later.get(key);
    if (known !== undefined && known.dueAt <= dueAt) return;
    known?.timer.cancel();
    const timer = env.timer(delayMs, () => {
      this.#later.delete(key);
      this.add(key);
    });
    this.#later.set(key, { dueAt, timer });
  }

  /** The key's object is gone: nothing is to come any more, past failures do not count. */
  forget(key: string): void {
    this.#failures.delete(key);
    this.#later.get(key)?.timer.cancel();
    this.#later.delete(key);
  }

  /** Work begins; until then keys are only gathered (warm standby). */
  start(): void {
    this.#running = true;
    this.#dispatch();
  }

  /** No further work begins. Resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.#running = false;
    for (const { timer } of this.#later.values()) timer.cancel();
    this.#later.clear();
    if (this.#active.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #dispatch(): void {
    const { env, concurrency, metrics } = this.#options;
    if (!this.#running) return;
    for (const [key, addedAt] of this.#waiting) {
      if (this.#active.size >= concurrency) return;
      this.#waiting.delete(key);
      this.#later.get(key)?.timer.cancel();
      this.#later.delete(key);
      const now = env.monotonic();
      this.#active.set(key, now);
      metrics.taken((now - addedAt) / 1000);
      void this.#workOn(key, now);
    }
  }

  async #workOn(key: string, beganAt: number): Promise<void> {
    const { env, metrics, work } = this.#options;
    const seconds = () => (env.monotonic() - beganAt) / 1000;
    try {
      const { requeueAfterMs } = await work(key);
      this.#failures.delete(key);
      metrics.finished(requeueAfterMs === undefined ? 'success' : 'requeue_after', seconds());
      if (requeueAfterMs !== undefined && this.#running) this.addAfter(key, requeueAfterMs);
    } catch (error) {
      metrics.finished('error', seconds());
      this.#retry(key, error);
    }
    this.#active.delete(key);
    if (this.#again.delete(key)) this.#waiting.set(key, env.monotonic());
    this.#dispatch();
    if (this.#active.size > 0) return;
    for (const resolve of this.#idle) resolve();
    this.#idle = [];
  }

  #retry(key: string, error: unknown): void {
    const { env, metrics, onError } = this.#options;
    const { backoffBaseMs = BACKOFF_BASE_MS, backoffCapMs = BACKOFF_CAP_MS } = this.#options;
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const retryInMs = backoffMs(env, failures, backoffBaseMs, backoffCapMs);
    onError(key, error, failures, retryInMs);
    if (!this.#running) return;
    metrics.retried();
    this.addAfter(key, retryInMs);
  }
}
