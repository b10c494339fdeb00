import type { LeaderElectionPlan } from '../plan/job-plan.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { overdue } from './lease.ts';

export interface RenewalOptions {
  env: Env;
  plan: LeaderElectionPlan;
  /** Never rejects. */
  renew(): Promise<void>;
  /** It was not renewed for this long: this process may no longer act. Stops this. */
  onOverdue(silentMs: number): void;
}

/** Renews what a leader holds each retry period, and finds when that was not done in time. */
export class Renewal {
  readonly #options: RenewalOptions;
  #timer: Timer | null = null;
  over = false;
  /** When the renewal that counts was begun; monotonic, ms. */
  renewedAt: number;

  constructor(options: RenewalOptions, renewedAt: number) {
    this.#options = options;
    this.renewedAt = renewedAt;
  }

  schedule(): void {
    if (this.over) return;
    const { env, plan, renew } = this.#options;
    this.#timer = env.timer(plan.retryMs, () => {
      void renew().finally(() => this.schedule());
    });
  }

  /** Beside the renewals, which may hang: also finds that this process stood still. */
  guard(): void {
    const { env, plan } = this.#options;
    env.timer(plan.retryMs, () => {
      if (!this.over && !this.isOverdue()) this.guard();
    });
  }

  /**
   * Asked before each renewal too: of two timers that are late, it must not hide how long it was
   * late.
   */
  isOverdue(): boolean {
    const { env, plan, onOverdue } = this.#options;
    const now = env.monotonic();
    if (!overdue(this.renewedAt, now, plan.renewDeadlineMs)) return false;
    onOverdue(Math.round(now - this.renewedAt));
    return true;
  }

  stop(): void {
    this.over = true;
    this.#timer?.cancel();
  }
}
