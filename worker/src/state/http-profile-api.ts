/**
 * The Profile API over HTTP: fetches a user's profile, visit and history in parallel. Owns the
 * pool, the cap on users in flight, the retries and the circuit breaker.
 *
 * - The cap counts users with requests on the wire. One that backs off gives its place away: 64
 *   users with a permanently bad answer must not stop all others.
 * - A failed user is asked for all three parts again. Keeping the parts that came was rejected:
 *   they would be held for as long as the backoff lasts, for any number of users.
 * - Only what says "the server is down" opens the breaker: network errors, timeouts, 5xx, 429. A
 *   user whose answer is too large or no JSON is that user's problem.
 * - Bytes held: small answers (64 KiB) of all users in flight, plus MAX_LARGE_USERS x three times
 *   maxResponseBytes; a user with a larger answer waits its turn with the socket unread.
 */
import type { Logger } from 'pino';
import { Pool } from 'undici';
import { type HttpEndpoint, parseEndpoint } from '../http/http-exchange.ts';
import { backoffMs } from '../http/http-retry.ts';
import { Permits } from '../http/permits.ts';
import type { ProfileApiPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { type BreakerLimits, CircuitBreaker } from './circuit-breaker.ts';
import { fetchPart, type PartName, type PartResult } from './http-profile-api-part.ts';
import type { ProfileAnswer, ProfileApi, ProfileFailure } from './profile-api.ts';

const PARTS = ['profile', 'visit', 'history'] as const;
const MAX_LARGE_USERS = 4;
/**
 * A server that asks for more gets this: a stray `Retry-After: 86400` must not park users for a
 * day.
 */
const MAX_RETRY_AFTER_MS = 5 * 60_000;
const FAILURES_TO_OPEN = 10;
const OPEN_MS = 1_000;
const MAX_OPEN_MS = 15_000;

export interface ProfileApiTuning {
  breaker?: Partial<BreakerLimits>;
  maxLargeUsers?: number;
}

type PartFault = Extract<PartResult, { kind: 'fault' }>;
type Outcome = ProfileAnswer | { kind: 'retry'; faults: PartFault[] };

/** Throws TriggerJobError HTTP_URL when the plan's URL can never work. */
export function openHttpProfileApi(
  plan: ProfileApiPlan,
  env: Env,
  log: Logger,
  tuning: ProfileApiTuning = {},
): ProfileApi {
  return new HttpProfileApi(plan, env, log, tuning);
}

class HttpProfileApi implements ProfileApi {
  readonly #plan: ProfileApiPlan;
  readonly #env: Env;
  readonly #endpoint: HttpEndpoint;
  readonly #pool: Pool;
  readonly #users: Permits;
  readonly #large: Permits;
  readonly #breaker: CircuitBreaker;
  readonly #closing = new AbortController();
  readonly #counts = {
    requests: 0,
    found: 0,
    absentParts: 0,
    errors: 0,
    retries: 0,
    breakerOpened: 0,
    failed: 0,
    emptied: 0,
    waiting: 0,
  };

  constructor(plan: ProfileApiPlan, env: Env, log: Logger, tuning: ProfileApiTuning) {
    this.#plan = plan;
    this.#env = env;
    this.#endpoint = parseEndpoint(plan.url, 'state.profileApi.url');
    this.#users = new Permits(env, plan.maxConcurrent);
    this.#large = new Permits(env, tuning.maxLargeUsers ?? MAX_LARGE_USERS);
    const limits: BreakerLimits = {
      failuresToOpen: FAILURES_TO_OPEN,
      openMs: OPEN_MS,
      maxOpenMs: MAX_OPEN_MS,
      ...tuning.breaker,
    };
    this.#breaker = new CircuitBreaker(env, limits, (open) => {
      if (open) this.#counts.breakerOpened += 1;
      const { origin } = this.#endpoint;
      if (open) log.warn({ origin }, 'the Profile API fails; asking it with single probes');
      else log.info({ origin }, 'the Profile API answers again');
    });
    this.#pool = new Pool(this.#endpoint.origin, {
      connections: plan.maxConcurrent * PARTS.length,
      allowH2: false,
      // A request that times out while connecting leaves the connector behind until this ends it.
      connectTimeout: plan.timeoutMs,
    });
  }

  async fetch(userId: string): Promise<ProfileAnswer | ProfileFailure> {
    const { onError, maxAttempts } = this.#plan;
    let attempts = 0;
    for (let failures = 1; ; failures++) {
      const outcome = await this.#attempt(userId);
      if (outcome.kind === 'found') {
        this.#counts.found += 1;
        return outcome;
      }
      this.#counts.errors += 1;
      // Our own lack of room says nothing about the user, so it can't use up its attempts.
      const faults = outcome.faults.filter(({ blame }) => blame !== 'ours');
      if (faults.length > 0) attempts += 1;
      if (onError !== 'retry' && attempts >= maxAttempts) return this.#giveUp(attempts, faults);
      this.#counts.retries += 1;
      await this.#wait(failures, outcome.faults);
    }
  }

  stats(): Record<string, number> {
    return {
      ...this.#counts,
      breakerOpen: this.#breaker.isOpen ? 1 : 0,
      inFlight: this.#users.held,
      queued: this.#users.waiting,
    };
  }

  async close(): Promise<void> {
    const reason = new TriggerJobError('PROFILE_API_CLOSED', 'the Profile API client was closed');
    this.#closing.abort(reason);
    this.#breaker.close();
    await this.#pool.destroy(reason);
  }

  #giveUp(attempts: number, faults: readonly PartFault[]): ProfileAnswer | ProfileFailure {
    if (this.#plan.onError === 'empty') {
      this.#counts.emptied += 1;
      return { kind: 'found', profile: '{}', visit: '{}', history: [] };
    }
    this.#counts.failed += 1;
    const error = faults.map((fault) => fault.error).join('; ');
    return { kind: 'failed', error: `Profile API, ${attempts} attempts: ${error}` };
  }

  async #wait(failures: number, faults: readonly PartFault[]): Promise<void> {
    const { initialBackoffMs, maxBackoffMs } = this.#plan;
    const asked = Math.max(0, ...faults.map(({ afterMs }) => afterMs ?? 0));
    const waitMs = Math.max(
      backoffMs(this.#env, failures, initialBackoffMs, maxBackoffMs),
      Math.min(asked, MAX_RETRY_AFTER_MS),
    );
    this.#counts.waiting += 1;
    try {
      await sleep(this.#env, waitMs, this.#closing.signal);
    } finally {
      this.#counts.waiting -= 1;
    }
  }

  /** The permit comes first: behind an open breaker then stand at most maxConcurrent users. */
  async #attempt(userId: string): Promise<Outcome> {
    const { signal } = this.#closing;
    await this.#users.acquire(signal);
    try {
      const pass = await this.#breaker.enter(signal);
      let outcome: Outcome;
      try {
        outcome = await this.#fetchParts(userId);
      } catch (thrown) {
        pass.abandoned();
        throw thrown;
      }
      const blames = outcome.kind === 'found' ? [] : outcome.faults.map(({ blame }) => blame);
      if (blames.includes('server')) pass.failed();
      else if (blames.includes('ours')) pass.abandoned();
      else pass.succeeded();
      return outcome;
    } finally {
      this.#users.release();
    }
  }

  async #fetchParts(userId: string): Promise<Outcome> {
    const { signal } = this.#closing;
    const { timeoutMs, maxResponseBytes } = this.#plan;
    // One claim for the user's three parts: a claim each could deadlock two users on each other.
    let claim: Promise<boolean> | null = null;
    const claimLarge = () => {
      claim ??= this.#large.acquire(signal, timeoutMs);
      return claim;
    };
    const base = `${this.#endpoint.path}/users/${pathSegment(userId)}`;
    const headers = { accept: 'application/json', ...this.#endpoint.headers };
    const get = (part: PartName) => {
      this.#counts.requests += 1;
      return fetchPart(
        this.#pool,
        {
          part,
          path: `${base}/${part}`,
          headers,
          timeoutMs,
          maxBytes: maxResponseBytes,
          claimLarge,
        },
        this.#env,
        signal,
      );
    };
    try {
      return this.#together(await Promise.all(PARTS.map(get)));
    } finally {
      // Taken by a part that is gone by now, or still held: either way it goes back.
      if (claim !== null && (await (claim as Promise<boolean>).catch(() => false))) {
        this.#large.release();
      }
    }
  }

  #together(results: readonly PartResult[]): Outcome {
    const faults = results.filter((result) => result.kind === 'fault');
    if (faults.length > 0) return { kind: 'retry', faults };
    const texts = results.map((result) => {
      if (result.kind === 'found' && result.absent) this.#counts.absentParts += 1;
      return result.kind === 'found' ? result.texts : [];
    });
    const [profile, visit, history] = texts;
    return {
      kind: 'found',
      profile: profile?.[0] ?? '{}',
      visit: visit?.[0] ?? '{}',
      history: history ?? [],
    };
  }
}

/**
 * The user id as one segment of a path. A lone surrogate becomes U+FFFD (it has no UTF-8); the ids
 * `.` and `..` are escaped, or a proxy would take them for a walk up the path.
 */
function pathSegment(userId: string): string {
  if (userId === '.' || userId === '..') return userId.replaceAll('.', '%2E');
  return encodeURIComponent(userId.toWellFormed());
}
