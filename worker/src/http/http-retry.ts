/** How long to wait before trying again: pure rules shared by the webhook and the Profile API. */
import type { Env } from '../runtime/env.ts';

/** Keeps 2 ** n finite; every sensible maximum is reached long before. */
const MAX_DOUBLINGS = 30;

/**
 * Exponential backoff after `failures` >= 1, in ms, jittered over its upper half. Full jitter
 * (from 0) was rejected: it lets a failing endpoint be asked again at once.
 */
export function backoffMs(env: Env, failures: number, initialMs: number, maxMs: number): number {
  const doublings = Math.min(Math.max(failures, 1) - 1, MAX_DOUBLINGS);
  const ceiling = Math.max(1, Math.min(maxMs, initialMs * 2 ** doublings));
  return ceiling / 2 + (env.random() * ceiling) / 2;
}

const HTTP_DATE = /^[A-Z][a-z]+, \d{2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d{2}:\d{2}:\d{2} GMT$/;
const ASCTIME_DATE = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/;

/**
 * The wait that a Retry-After header asks for, ms >= 0; null when it is absent or not understood.
 */
export function retryAfterMs(header: string | undefined, nowMs: number): number | null {
  const text = header?.trim();
  if (text === undefined || text === '') return null;
  if (/^\d{1,10}$/.test(text)) return Number(text) * 1000;
  let date = Number.NaN;
  if (HTTP_DATE.test(text)) date = Date.parse(text);
  // Without the suffix Date.parse reads the time as local.
  else if (ASCTIME_DATE.test(text)) date = Date.parse(`${text} GMT`);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
}

/**
 * The next attempt of a delivery that must end within `remainingMs`. A wait that does not fit is
 * cut and marked `last`: giving up before the deadline would throw away the one chance that is
 * left, and going on after a cut would halve the rest again and again. An attempt is always left
 * min(timeout, half of the rest), so that none starts only to be aborted. null: nothing is left.
 */
export function nextAttempt(
  wantedMs: number,
  remainingMs: number,
  timeoutMs: number,
): { waitMs: number; last: boolean } | null {
  if (remainingMs <= 0) return null;
  const roomMs = remainingMs - Math.min(timeoutMs, remainingMs / 2);
  return wantedMs <= roomMs ? { waitMs: wantedMs, last: false } : { waitMs: roomMs, last: true };
}
