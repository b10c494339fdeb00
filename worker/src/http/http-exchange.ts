/**
 * One HTTP request and its answer under one total deadline, on an undici pool. Owns what undici
 * leaves open: its `bodyTimeout` measures gaps between chunks and stops under a paused reader, so a
 * trickling or hanging body would hold a connection for ever; here one AbortSignal ends everything
 * from the wait for a connection to the last byte. Redirects are never followed: no interceptor is
 * installed, a 3xx is an answer like any other.
 */
import type { Dispatcher } from 'undici';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

interface HttpRequest {
  method: 'GET' | 'POST';
  /** Path and query, sent as they are. */
  path: string;
  headers: Record<string, string>;
  body: Buffer | null;
  /** From the call to the last byte of the answer. */
  timeoutMs: number;
}

export type HttpBody = Dispatcher.ResponseData['body'];

export interface HttpHead {
  status: number;
  /** First value of the header; undefined when absent. */
  header(name: string): string | undefined;
}

type HttpResult<T> =
  | { kind: 'answer'; head: HttpHead; value: T }
  /** No usable answer. `thrown` is what stopped it, `timedOut` whether the deadline did. */
  | { kind: 'fault'; error: string; thrown: unknown; timedOut: boolean };

/**
 * Sends and lets `read` consume the body; what `read` throws is a fault, and a body that it leaves
 * unread is cut. Rejects only with `signal`'s reason, as soon as that is aborted.
 */
export async function exchange<T>(
  pool: Dispatcher,
  request: HttpRequest,
  env: Env,
  signal: AbortSignal,
  read: (head: HttpHead, body: HttpBody) => Promise<T>,
): Promise<HttpResult<T>> {
  signal.throwIfAborted();
  // A controller of its own instead of AbortSignal.any: that would tie each attempt to the
  // long-lived signal until the garbage collector comes by.
  const attempt = new AbortController();
  let timedOut = false;
  const timer = env.timer(request.timeoutMs, () => {
    timedOut = true;
    const limit = `${Math.round(request.timeoutMs)} ms`;
    attempt.abort(new TriggerJobError('HTTP_TIMEOUT', `no complete answer within ${limit}`));
  });
  const onAbort = () => attempt.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const response = await pool.request({
      method: request.method,
      path: request.path,
      headers: request.headers,
      body: request.body,
      signal: attempt.signal,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    const head: HttpHead = {
      status: response.statusCode,
      header: (name) => first(response.headers[name]),
    };
    const value = await read(head, response.body);
    return { kind: 'answer', head, value };
  } catch (thrown) {
    signal.throwIfAborted();
    return { kind: 'fault', error: faultText(thrown), thrown, timedOut };
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', onAbort);
  }
}

/** The first value of a header that may come several times. */
export function first(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** A refused connection to a name with two addresses is an AggregateError with an empty message. */
export function faultText(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.message === '') {
    return [...new Set(thrown.errors.map(messageOf))].join('; ');
  }
  return messageOf(thrown);
}

export interface HttpEndpoint {
  origin: string;
  /** Path and query of the URL as given; '' when it has none. */
  path: string;
  hostname: string;
  /** `authorization` when the URL bears a user name; else empty. */
  headers: Record<string, string>;
}

/** Throws TriggerJobError HTTP_URL naming `field` when `url` is no absolute http or https URL. */
export function parseEndpoint(url: string, field: string): HttpEndpoint {
  const parsed = URL.parse(url);
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw new TriggerJobError('HTTP_URL', `${field} must be an http:// or https:// URL`);
  }
  const headers: Record<string, string> = {};
  if (parsed.username !== '' || parsed.password !== '') {
    const pair = `${decodeURIComponent(parsed.username)}:${decodeURIComponent(parsed.password)}`;
    headers['authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
  }
  const path = parsed.pathname === '/' && parsed.search === '' ? '' : parsed.pathname;
  return {
    origin: parsed.origin,
    path: path + parsed.search,
    hostname: parsed.hostname.replace(/^\[|\]$/g, ''),
    headers,
  };
}
