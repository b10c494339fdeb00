/**
 * The webhook action: one event, one POST. Owns the pool of connections and the loop of each
 * delivery: attempt, verdict, wait, again, until the total deadline.
 *
 * - A permit is held for an attempt only, never for a wait: a delivery that backs off for minutes
 *   leaves its connection to the others.
 * - The deadline runs from the first permit: a queue of ours must not turn deliveries into
 *   failures.
 * - Failures in a row, over all deliveries, lengthen everyone's backoff. A circuit breaker was
 *   rejected here: a delivery has a deadline, so it would be dead-lettered without one attempt.
 */
import type { Logger } from 'pino';
import { Pool } from 'undici';
import {
  exchange,
  type HttpBody,
  type HttpEndpoint,
  parseEndpoint,
} from '../http/http-exchange.ts';
import { backoffMs, nextAttempt } from '../http/http-retry.ts';
import { Permits } from '../http/permits.ts';
import type { WebhookPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { HISTOGRAM_BOUNDS, Histogram } from '../runtime/histogram.ts';
import type { ActionExecutor, Delivery, DeliveryOutcome } from './action.ts';
import {
  ADDRESS_REFUSED,
  addressRefused,
  guardedConnector,
  isRefusedAddress,
  type ResolveAll,
} from './address-guard.ts';
import { cloudEventHeaders, headerValue } from './cloud-events.ts';
import { SigningKeys, sign } from './signing.ts';
import { judgeAnswer, type WebhookVerdict } from './webhook-answer.ts';

/**
 * Of an answer's body at most this much is read, for at most this long; then the connection is
 * cut.
 */
const DRAIN_BYTES = 64 * 1024;
const DRAIN_MS = 1_000;
/** Of it at most this much goes into the error text. */
const SNIPPET_BYTES = 200;
/** Header names that only this file or HTTP itself may set. */
const RESERVED_HEADER = /^(ce|webhook)-/;
const RESERVED_HEADERS = new Set(
  (
    'connection content-length content-type expect host keep-alive te trailer ' +
    'transfer-encoding upgrade'
  ).split(' '),
);
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

interface WebhookTuning {
  /** How names are resolved for the address guard; default the system's resolver. */
  resolve?: ResolveAll;
}

/** Throws TriggerJobError on a URL, literal address or header that can never work. */
export function openWebhook(
  plan: WebhookPlan,
  env: Env,
  log: Logger,
  tuning: WebhookTuning = {},
): ActionExecutor {
  return new WebhookExecutor(plan, env, log, tuning);
}

class WebhookExecutor implements ActionExecutor {
  readonly maxInFlight: number;
  readonly attemptSeconds = new Histogram(HISTOGRAM_BOUNDS.webhookSeconds);
  readonly #plan: WebhookPlan;
  readonly #env: Env;
  readonly #log: Logger;
  readonly #endpoint: HttpEndpoint;
  readonly #headers: Record<string, string>;
  readonly #keys: SigningKeys | null;
  readonly #pool: Pool;
  readonly #permits: Permits;
  readonly #closing = new AbortController();
  #failuresInARow = 0;
  readonly #counts = {
    attempts: 0,
    delivered: 0,
    failed: 0,
    retries: 0,
    timeouts: 0,
    networkErrors: 0,
    refusedAddresses: 0,
    status2xx: 0,
    status3xx: 0,
    status4xx: 0,
    status5xx: 0,
    waiting: 0,
  };

  constructor(plan: WebhookPlan, env: Env, log: Logger, tuning: WebhookTuning) {
    this.#plan = plan;
    this.#env = env;
    this.#log = log;
    this.maxInFlight = plan.maxInFlight;
    this.#endpoint = parseEndpoint(plan.url, 'action.webhook.url');
    this.#headers = { 'user-agent': 'triggerjob', ...this.#endpoint.headers };
    Object.assign(this.#headers, checkedHeaders(plan.headers));
    const { hostname } = this.#endpoint;
    // Found at the start: else a mistyped address would send the whole stream to the dead letter.
    if (!plan.allowPrivateAddresses && isLiteral(hostname) && isRefusedAddress(hostname)) {
      throw addressRefused(hostname, [hostname]);
    }
    this.#keys =
      plan.signingSecret === null
        ? null
        : new SigningKeys(plan.signingSecret.path, env, (message) => log.warn(message));
    this.#permits = new Permits(env, plan.maxInFlight);
    this.#pool = new Pool(this.#endpoint.origin, {
      connections: plan.maxInFlight,
      allowH2: false,
      // An attempt that times out while connecting leaves the connector behind, holding one of the
      // pool's connections until this ends it.
      connectTimeout: plan.timeoutMs,
      ...(!plan.allowPrivateAddresses && {
        connect: guardedConnector(plan.timeoutMs, tuning.resolve),
      }),
    });
  }

  async deliver(delivery: Delivery): Promise<DeliveryOutcome> {
    const { signal } = this.#closing;
    const { timeoutMs, deadlineMs } = this.#plan;
    await this.#permits.acquire(signal);
    const deadline = this.#env.monotonic() + deadlineMs;
    let last = false;
    for (let attempts = 1; ; attempts++) {
      const leftMs = deadline - this.#env.monotonic();
      let verdict: WebhookVerdict;
      try {
        verdict = await this.#attempt(delivery, Math.min(timeoutMs, leftMs));
      } finally {
        this.#permits.release();
      }
      if (verdict.kind !== 'retry') return this.#settle(verdict, attempts);
      const wantedMs = this.#waitAfter(attempts, verdict.afterMs);
      const next = nextAttempt(wantedMs, deadline - this.#env.monotonic(), timeoutMs);
      if (next === null || last) return this.#giveUp(verdict.error, attempts);
      this.#counts.retries += 1;
      await this.#wait(next.waitMs);
      const permitted = await this.#permits.acquire(signal, deadline - this.#env.monotonic());
      if (!permitted) return this.#giveUp(verdict.error, attempts);
      last = next.last;
    }
  }

  stats(): Record<string, number> {
    return {
      ...this.#counts,
      inFlight: this.#permits.held,
      queued: this.#permits.waiting,
      failuresInARow: this.#failuresInARow,
    };
  }

  async close(): Promise<void> {
    const reason = new TriggerJobError('ACTION_CLOSED', 'the action executor was closed');
    this.#closing.abort(reason);
    await this.#pool.destroy(reason);
  }

  #settle(verdict: Exclude<WebhookVerdict, { kind: 'retry' }>, attempts: number): DeliveryOutcome {
    if (verdict.kind === 'delivered') {
      this.#counts.delivered += 1;
      return { kind: 'delivered', attempts };
    }
    this.#counts.failed += 1;
    return { kind: 'failed', attempts, error: verdict.error };
  }

  #giveUp(lastError: string, attempts: number): DeliveryOutcome {
    this.#counts.failed += 1;
    const limit = `not delivered within ${this.#plan.deadlineMs} ms`;
    return { kind: 'failed', attempts, error: `${limit}; last error: ${lastError}` };
  }

  #waitAfter(attempts: number, askedMs: number | null): number {
    const { initialBackoffMs, maxBackoffMs, maxInFlight } = this.#plan;
    const rounds = Math.floor(this.#failuresInARow / maxInFlight);
    const ownMs = backoffMs(this.#env, Math.max(attempts, rounds), initialBackoffMs, maxBackoffMs);
    return Math.max(ownMs, askedMs ?? 0);
  }

  async #wait(waitMs: number): Promise<void> {
    this.#counts.waiting += 1;
    try {
      await sleep(this.#env, waitMs, this.#closing.signal);
    } finally {
      this.#counts.waiting -= 1;
    }
  }

  async #attempt(delivery: Delivery, timeoutMs: number): Promise<WebhookVerdict> {
    this.#counts.attempts += 1;
    const verdict = await this.#post(delivery, timeoutMs);
    if (verdict.kind === 'retry') {
      this.#failuresInARow += 1;
      if (this.#failuresInARow === this.#plan.maxInFlight) {
        this.#log.warn(
          { error: verdict.error },
          'the webhook fails for every delivery; backing off',
        );
      }
    } else {
      if (this.#failuresInARow >= this.#plan.maxInFlight)
        this.#log.info('the webhook answers again');
      this.#failuresInARow = 0;
    }
    return verdict;
  }

  async #post(delivery: Delivery, timeoutMs: number): Promise<WebhookVerdict> {
    let headers: Record<string, string>;
    try {
      headers = await this.#requestHeaders(delivery);
    } catch (thrown) {
      return { kind: 'retry', error: messageOf(thrown), afterMs: null };
    }
    const request = {
      method: 'POST' as const,
      path: this.#endpoint.path || '/',
      headers,
      // An answer can come, or the deadline pass, while the socket still reads the body.
      body: Buffer.from(delivery.body),
      timeoutMs,
    };
    const { signal } = this.#closing;
    const startedAt = this.#env.monotonic();
    const result = await exchange(this.#pool, request, this.#env, signal, (_head, body) =>
      drain(body, this.#env),
    );
    this.attemptSeconds.observe((this.#env.monotonic() - startedAt) / 1000);
    if (result.kind === 'answer') {
      const { status, header } = result.head;
      this.#counts[classOf(status)] += 1;
      return judgeAnswer(status, header('retry-after'), result.value, this.#env.now());
    }
    if (result.thrown instanceof TriggerJobError && result.thrown.code === ADDRESS_REFUSED) {
      this.#counts.refusedAddresses += 1;
      return { kind: 'final', error: result.error };
    }
    if (result.timedOut) this.#counts.timeouts += 1;
    else this.#counts.networkErrors += 1;
    return { kind: 'retry', error: result.error, afterMs: null };
  }

  async #requestHeaders(delivery: Delivery): Promise<Record<string, string>> {
    const seconds = Math.floor(this.#env.now() / 1000);
    const id = headerValue(delivery.id);
    const headers: Record<string, string> = {
      ...this.#headers,
      'content-type': 'application/json',
      ...cloudEventHeaders(delivery),
      'webhook-id': id,
      'webhook-timestamp': String(seconds),
    };
    if (this.#keys !== null) {
      const keys = await this.#keys.current();
      headers['webhook-signature'] = sign(keys, id, seconds, delivery.body);
    }
    return headers;
  }
}

function classOf(status: number): 'status2xx' | 'status3xx' | 'status4xx' | 'status5xx' {
  if (status < 300) return 'status2xx';
  if (status < 400) return 'status3xx';
  return status < 500 ? 'status4xx' : 'status5xx';
}

/**
 * A host of digits and dots, or with a colon: by the URL parser's rules only a literal has these.
 */
function isLiteral(hostname: string): boolean {
  return /^[\d.]+$/.test(hostname) || hostname.includes(':');
}

function checkedHeaders(given: Record<string, string>): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [given_, value] of Object.entries(given)) {
    const name = given_.toLowerCase();
    const fault = !HEADER_NAME.test(name)
      ? 'is no header name'
      : RESERVED_HEADER.test(name) || RESERVED_HEADERS.has(name)
        ? 'is set by triggerjob itself'
        : HEADER_VALUE.test(value)
          ? null
          : 'has a value with a control character';
    if (fault !== null) {
      throw new TriggerJobError('ACTION_HEADER', `action.webhook.headers: ${given_} ${fault}`);
    }
    headers[name] = value;
  }
  return headers;
}

/**
 * Reads the body so that the connection can be used again; a long or hanging one costs the
 * connection, never the verdict: the status has decided. Resolves to its first bytes as text.
 */
async function drain(body: HttpBody, env: Env): Promise<string> {
  let read = 0;
  let snippet = '';
  const cut = env.timer(DRAIN_MS, () => body.destroy());
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (read < SNIPPET_BYTES) snippet += chunk.toString('utf8', 0, SNIPPET_BYTES - read);
      read += chunk.length;
      if (read > DRAIN_BYTES) break;
    }
  } catch {
    // The status stands; what broke is only the rest of the body.
  } finally {
    cut.cancel();
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: one line without terminal escapes
  return snippet.replace(/[\s\u0000-\u001f\u007f]+/g, ' ').trim();
}
