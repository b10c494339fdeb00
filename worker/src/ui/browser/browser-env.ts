/// <reference lib="dom" />
/**
 * The browser's clock, timers and chance, as the worker has its Env: the only module of the web UI
 * that reaches for them, so that all others can be tested without waiting.
 */

export const now = (): number => Date.now();

/** Calls `fn` once after `delayMs`; the answer cancels it. */
export function later(delayMs: number, fn: () => void): () => void {
  const handle = setTimeout(fn, delayMs);
  return () => clearTimeout(handle);
}

/** 32 hex digits. crypto.randomUUID exists only on https and localhost. */
export function freshId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
