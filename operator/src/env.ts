/**
 * Time, chance and timers as a value, so that tests decide what time it is. Nothing else in
 * operator/ may read a clock or draw a number; tidy.test.ts checks that. The worker has the same
 * (runtime/env.ts): the operator imports nothing of the worker but its plan.
 */
import { randomUUID } from 'node:crypto';

/** A running timer. `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

export interface Env {
  /** Wall clock, milliseconds since the Unix epoch. Written into objects, never decided by. */
  now(): number;
  /** Monotonic clock, milliseconds. It goes on while the process is stopped (SIGSTOP). */
  monotonic(): number;
  /** Uniform in [0, 1). */
  random(): number;
  /** A fresh random identifier: 32 lowercase hexadecimal digits. */
  id(): string;
  /** Calls `fn` once after `delayMs`. The timer keeps no process alive. */
  timer(delayMs: number, fn: () => void): Timer;
  /** The process lives until this is cancelled, though it may wait for timers alone. */
  keepAlive(): Timer;
}

const LONG_MS = 2 ** 30;

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
  keepAlive() {
    const handle = setInterval(() => {}, LONG_MS);
    return { cancel: () => clearInterval(handle) };
  },
};

/** Resolves after `delayMs`, or as soon as the signal is aborted: true if the time passed. */
export function sleep(env: Env, delayMs: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve(false);
      return;
    }
    const onAbort = () => {
      timer.cancel();
      resolve(false);
    };
    const timer = env.timer(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve(true);
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** `base`, doubled per failure after the first, at most `cap`, then a half to the whole of it. */
export function backoffMs(env: Env, failures: number, baseMs: number, capMs: number): number {
  const full = Math.min(capMs, baseMs * 2 ** Math.min(failures - 1, 30));
  return full * (0.5 + env.random() / 2);
}
