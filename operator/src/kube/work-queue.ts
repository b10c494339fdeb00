/**
 * Which keys are to be reconciled, and by whom now. First come, first served, with five promises:
 *
 * Q1 A key waits once, however often it is added.
 * Q2 A key is never worked on twice at a time; added meanwhile, it is worked on again afterwards.
 * Q3 Of several times at which a key is to come, the earliest holds. What was to come when its work
 *    begins is settled by that work: it sees everything, and says itself when to come again.
 * Q4 A key that fails comes again after a growing, jittered time; other keys do not wait for it.
 * Q5 An urgent key goes before those that are only looked at again, of which there are as many as
 *    jobs when a process begins to lead; they are not starved by it. It is urgent until its work
 *    is done: also when it asks to come again at once, or somebody else has written in between.
 */
import { backoffMs, type Env, type Timer } from '../env.ts';
import { isKubeError } from './kube-error.ts';

const BACKOFF_BASE_MS = 200;
const BACKOFF_CAP_MS = 60_000;
/** Urgent keys that are taken one after another before one of the others is. */
const URGENT_IN_A_ROW = 8;

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
  /** Of those that wait, or are to wait again after the work on them. */
  readonly #urgent = new Set<string>();
  #urgentInARow = 0;
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

  /** Keys that wait for work; what a standby gathers waits for nobody. */
  get depth(): number {
    return this.#running ? this.#waiting.size : 0;
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

  add(key: string, urgent = false): void {
    if (urgent) this.#urgent.add(key);
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
    this.#urgent.delete(key);
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
    while (this.#active.size < concurrency) {
      const key = this.#next();
      if (key === undefined) return;
      const now = env.monotonic();
      metrics.taken((now - (this.#waiting.get(key) ?? now)) / 1000);
      this.#waiting.delete(key);
      const urgent = this.#urgent.delete(key);
      this.#later.get(key)?.timer.cancel();
      this.#later.delete(key);
      this.#active.set(key, now);
      void this.#workOn(key, now, urgent);
    }
  }

  #next(): string | undefined {
    const [longest] = this.#waiting.keys();
    if (this.#urgentInARow < URGENT_IN_A_ROW) {
      for (const key of this.#urgent) {
        // What is worked on just now waits again when that is over (Q2).
        if (!this.#waiting.has(key)) continue;
        this.#urgentInARow += 1;
        return key;
      }
    }
    this.#urgentInARow = 0;
    return longest;
  }

  async #workOn(key: string, beganAt: number, urgent: boolean): Promise<void> {
    const { env, metrics, work } = this.#options;
    const seconds = () => (env.monotonic() - beganAt) / 1000;
    try {
      const { requeueAfterMs } = await work(key);
      if (urgent && requeueAfterMs !== undefined && requeueAfterMs <= 0) this.#urgent.add(key);
      this.#failures.delete(key);
      metrics.finished(requeueAfterMs === undefined ? 'success' : 'requeue_after', seconds());
      if (requeueAfterMs !== undefined && this.#running) this.addAfter(key, requeueAfterMs);
    } catch (error) {
      metrics.finished('error', seconds());
      if (urgent && isKubeError(error, 'KUBE_CONFLICT')) this.#urgent.add(key);
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
