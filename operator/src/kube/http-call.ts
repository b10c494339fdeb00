/**
 * One call to the API server: under one deadline however often it is tried, rate limited, with the
 * newest credentials, and every failure a KubeError. Tried again here is only what the server has
 * refused unseen (429, and once a 401 with newer credentials); anything else is for the caller, who
 * knows whether the call may be repeated.
 */
import type { Dispatcher } from 'undici';
import { type Env, sleep, type Timer } from '../env.ts';
import type { Connection } from './connection.ts';
import { KubeError, kubeErrorOf, messageOf, SilentWatch, type StatusBody } from './kube-error.ts';
import type { RequestLimit } from './request-limit.ts';

const MIN_RETRY_AFTER_MS = 100;
const DEFAULT_RETRY_AFTER_MS = 1_000;
const USER_AGENT = 'triggerjob-operator';

export interface Call {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** The object or collection in words, for messages. */
  what: string;
  path: string;
  query?: Record<string, string | undefined>;
  body?: unknown;
  contentType?: string;
  /** Milliseconds for all of it. */
  deadlineMs: number;
  /** Called just before the request is sent, at each try; throws when it may not be. */
  guard?: (() => void) | undefined;
  /** Leadership must not wait behind a thousand reconciles. */
  unlimited?: boolean;
}

/** controller-runtime's rest_client_* metrics. */
export interface RequestMetrics {
  request(facts: { method: string; code: string; host: string; seconds: number }): void;
}

export interface Answer {
  status: number;
  body: Dispatcher.ResponseData['body'];
}

export class HttpCaller {
  readonly #env: Env;
  readonly #connection: Connection;
  readonly #limit: RequestLimit;
  readonly #metrics: RequestMetrics;

  constructor(env: Env, connection: Connection, limit: RequestLimit, metrics: RequestMetrics) {
    this.#env = env;
    this.#connection = connection;
    this.#limit = limit;
    this.#metrics = metrics;
  }

  /** The answer's body as JSON. */
  async json<T>(call: Call): Promise<T> {
    const abort = new AbortController();
    const timer = this.#deadline(call, abort);
    try {
      const answer = await this.#send(call, abort.signal);
      return JSON.parse(await answer.body.text()) as T;
    } catch (error) {
      throw this.#errorOf(call, error, abort.signal);
    } finally {
      timer.cancel();
    }
  }

  /** The answer's body as a stream that the signal ends; `deadlineMs` is for its beginning. */
  async stream(call: Call, signal: AbortSignal): Promise<Answer> {
    const abort = new AbortController();
    const timer = this.#deadline(call, abort);
    const beganAt = this.#env.monotonic();
    const onAbort = () => {
      if (signal.reason instanceof SilentWatch) this.#connection.suspect(beganAt);
      abort.abort();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) abort.abort();
    try {
      const answer = await this.#send(call, abort.signal);
      answer.body.once('close', () => signal.removeEventListener('abort', onAbort));
      return answer;
    } catch (error) {
      signal.removeEventListener('abort', onAbort);
      throw this.#errorOf(call, error, abort.signal);
    } finally {
      timer.cancel();
    }
  }

  #deadline(call: Call, abort: AbortController): Timer {
    const beganAt = this.#env.monotonic();
    return this.#env.timer(call.deadlineMs, () => {
      this.#connection.suspect(beganAt);
      abort.abort();
    });
  }

  #errorOf(call: Call, thrown: unknown, signal: AbortSignal): KubeError {
    if (thrown instanceof KubeError) return thrown;
    const what = `${call.method} ${call.what}`;
    return new KubeError(
      'KUBE_UNAVAILABLE',
      signal.aborted ? `${what}: no answer in time` : `${what}: ${messageOf(thrown)}`,
      { cause: thrown },
    );
  }

  async #send(call: Call, signal: AbortSignal): Promise<Answer> {
    let refreshed = false;
    let refused: KubeError | undefined;
    while (true) {
      const mayGo = call.unlimited === true || (await this.#limit.take(signal));
      if (!mayGo) throw refused ?? new Error('the client-side rate limit held it back');
      const answer = await this.#try(call, signal, refreshed);
      if (answer.status < 300) return answer;
      const text = await answer.body.text();
      const error = kubeErrorOf(
        `${call.method} ${call.what}`,
        answer.status,
        statusBodyOf(text),
        answer.retryAfter,
      );
      if (answer.status === 401 && !refreshed) {
        refreshed = true;
        continue;
      }
      if (answer.status !== 429) throw error;
      refused = error;
      const waitMs = Math.max(error.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS, MIN_RETRY_AFTER_MS);
      if (call.unlimited !== true) this.#limit.stopFor(waitMs);
      else if (!(await sleep(this.#env, waitMs, signal))) throw error;
    }
  }

  async #try(call: Call, signal: AbortSignal, refresh: boolean) {
    const { server, headers, connections } = await this.#connection.credentials(refresh);
    const url = new URL(server);
    const host = url.host;
    call.guard?.();
    const startedAt = this.#env.monotonic();
    const record = (code: string) =>
      this.#metrics.request({
        method: call.method,
        code,
        host,
        seconds: (this.#env.monotonic() - startedAt) / 1000,
      });
    try {
      const answer = await connections.request({
        origin: url.origin,
        path: `${url.pathname.replace(/\/$/, '')}${call.path}${queryText(call.query)}`,
        method: call.method,
        headers: {
          ...headers,
          accept: 'application/json',
          'user-agent': USER_AGENT,
          ...(call.body === undefined
            ? {}
            : { 'content-type': call.contentType ?? 'application/json' }),
        },
        body: call.body === undefined ? null : JSON.stringify(call.body),
        signal,
        // One deadline of ours covers both; a watch has none on its body.
        headersTimeout: 0,
        bodyTimeout: 0,
      });
      record(String(answer.statusCode));
      const retryAfter = answer.headers['retry-after'];
      return {
        status: answer.statusCode,
        body: answer.body,
        ...(typeof retryAfter === 'string' ? { retryAfter } : {}),
      };
    } catch (error) {
      record('<error>');
      throw error;
    }
  }
}

function statusBodyOf(text: string): StatusBody | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null) return body as StatusBody;
  } catch {
    // A proxy in between answers in its own way; its text is all there is.
  }
  return { message: text.slice(0, 500) };
}

function queryText(query: Record<string, string | undefined> | undefined): string {
  const pairs = Object.entries(query ?? {}).filter(
    (pair): pair is [string, string] => pair[1] !== undefined,
  );
  return pairs.length === 0 ? '' : `?${new URLSearchParams(pairs)}`;
}
