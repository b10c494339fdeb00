/**
 * Time, chance and timers as a value. Everything in worker/ that needs them takes an `Env`, so that
 * a whole cluster can run in one process under a seeded virtual clock (sim/). Nothing else in
 * worker/ may call Date.now, Math.random, setTimeout or crypto.randomUUID; tidy.test.ts checks
 * that.
 */
import { randomUUID } from 'node:crypto';

/** A running timer. `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

export interface Env {
  /** Wall clock, milliseconds since the Unix epoch. Never used for a decision about liveness. */
  now(): number;
  /** Monotonic clock, milliseconds from an arbitrary origin. Unaffected by clock jumps. */
  monotonic(): number;
  /** Uniform in [0, 1). */
  random(): number;
  /** A fresh random identifier: 32 lowercase hexadecimal digits, the shape of Flink's ids. */
  id(): string;
  /** Calls `fn` once after `delayMs`. The timer keeps no process alive. */
  timer(delayMs: number, fn: () => void): Timer;
}

export const realEnv: Env = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  random: () => Math.random(),
  id: () => randomUUID().replaceAll('-', ''),
  timer(delayMs, fn) {
    const handle = setTimeout(fn, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Resolves after `delayMs`; rejects with the signal's reason as soon as it is aborted. */
export function sleep(env: Env, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = () => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = env.timer(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
