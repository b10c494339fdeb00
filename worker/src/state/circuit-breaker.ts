/**
 * Stops asking a server that fails, and finds out with single probes when it answers again. Callers
 * wait while it is open; none is refused, so nothing is lost by it.
 *
 *   closed --N failures in a row--> open --delay--> half open --probe fails--> open (delay doubled)
 *   half open --probe succeeds--> closed
 */
import type { Env, Timer } from '../runtime/env.ts';

export interface BreakerLimits {
  /** Failures in a row, over all callers, that open it. */
  failuresToOpen: number;
  /** From opening to the first probe; doubles with each failed probe up to `maxOpenMs`. */
  openMs: number;
  maxOpenMs: number;
}

/** Leave to make one attempt. Exactly one of its methods is called once, whatever happens. */
export interface BreakerPass {
  succeeded(): void;
  failed(): void;
  /** The attempt says nothing about the server (it was cut off from our side). */
  abandoned(): void;
}

type Phase =
  | { kind: 'closed'; failures: number }
  | { kind: 'open'; openMs: number; timer: Timer }
  | { kind: 'halfOpen'; openMs: number; probing: boolean };

type Outcome = 'succeeded' | 'failed' | 'abandoned';

export class CircuitBreaker {
  readonly #env: Env;
  readonly #limits: BreakerLimits;
  readonly #onChange: (open: boolean) => void;
  /** Let go by the next change of phase, in order of arrival. Bounded by the callers' permits. */
  readonly #waiters = new Set<() => void>();
  #phase: Phase = { kind: 'closed', failures: 0 };

  constructor(env: Env, limits: BreakerLimits, onChange: (open: boolean) => void = () => {}) {
    this.#env = env;
    this.#limits = limits;
    this.#onChange = onChange;
  }

  get isOpen(): boolean {
    return this.#phase.kind !== 'closed';
  }

  /** Resolves when an attempt may be made; rejects with the signal's reason. */
  async enter(signal: AbortSignal): Promise<BreakerPass> {
    for (;;) {
      signal.throwIfAborted();
      const phase = this.#phase;
      if (phase.kind === 'closed') return this.#pass(phase);
      if (phase.kind === 'halfOpen' && !phase.probing) {
        phase.probing = true;
        return this.#pass(phase);
      }
      await this.#nextChange(signal);
    }
  }

  /** Ends the timer. Callers still waiting are ended by their own signals. */
  close(): void {
    if (this.#phase.kind === 'open') this.#phase.timer.cancel();
  }

  #nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiters.delete(wake);
        signal.removeEventListener('abort', onAbort);
      };
      const wake = () => {
        leave();
        resolve();
      };
      const onAbort = () => {
        leave();
        reject(signal.reason);
      };
      this.#waiters.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #pass(phase: Phase): BreakerPass {
    // What was begun in an earlier phase has no say any more: an answer that took long must not
    // close what opened meanwhile.
    const settle = (outcome: Outcome) => {
      if (phase === this.#phase) this.#settle(phase, outcome);
    };
    return {
      succeeded: () => settle('succeeded'),
      failed: () => settle('failed'),
      abandoned: () => settle('abandoned'),
    };
  }

  #settle(phase: Phase, outcome: Outcome): void {
    if (phase.kind === 'closed') {
      if (outcome === 'succeeded') phase.failures = 0;
      if (outcome !== 'failed') return;
      phase.failures += 1;
      if (phase.failures >= this.#limits.failuresToOpen) this.#open(this.#limits.openMs);
    } else if (phase.kind === 'halfOpen') {
      if (outcome === 'failed') this.#open(Math.min(phase.openMs * 2, this.#limits.maxOpenMs));
      else if (outcome === 'succeeded') this.#closed();
      else {
        phase.probing = false;
        this.#wakeAll();
      }
    }
  }

  #open(openMs: number): void {
    const wasOpen = this.isOpen;
    const timer = this.#env.timer(openMs, () => {
      this.#phase = { kind: 'halfOpen', openMs, probing: false };
      this.#wakeAll();
    });
    this.#phase = { kind: 'open', openMs, timer };
    if (!wasOpen) this.#onChange(true);
  }

  #closed(): void {
    this.#phase = { kind: 'closed', failures: 0 };
    this.#onChange(false);
    this.#wakeAll();
  }

  /** All look again: the first takes the probe, the rest queue up behind it in the same order. */
  #wakeAll(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}
