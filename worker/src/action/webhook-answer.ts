/** What an HTTP status means for a delivery. Pure. */
import { retryAfterMs } from '../http/http-retry.ts';

export type WebhookVerdict =
  | { kind: 'delivered' }
  /** `afterMs`: the wait the receiver asked for, null if it named none. */
  | { kind: 'retry'; error: string; afterMs: number | null }
  | { kind: 'final'; error: string };

/** Request Timeout, Too Early, Too Many Requests: the only 4xx that say "again, later". */
const RETRYABLE_4XX = new Set([408, 425, 429]);

/**
 * `snippet` is the start of the body, for the error text. A 3xx is final: following it would leave
 * the address guard's host and turn the POST of most statuses into a GET.
 */
export function judgeAnswer(
  status: number,
  retryAfter: string | undefined,
  snippet: string,
  nowMs: number,
): WebhookVerdict {
  if (status >= 200 && status < 300) return { kind: 'delivered' };
  const error = `HTTP ${status}${snippet === '' ? '' : `: ${snippet}`}`;
  if (status >= 500 || RETRYABLE_4XX.has(status)) {
    return { kind: 'retry', error, afterMs: retryAfterMs(retryAfter, nowMs) };
  }
  if (status >= 300 && status < 400) {
    return { kind: 'final', error: `HTTP ${status}: redirects are not followed` };
  }
  return { kind: 'final', error };
}
