/**
 * The Profile API over HTTP: fetches a user's profile, visit and history in parallel. Owns the
 * pool, the cap on users in flight, the room for large answers, the retries and the circuit
 * breaker.
 *
 * - The cap counts users with requests on the wire. One that backs off gives its place away: 64
 *   users with a permanently bad answer must not stop all others.
 * - A failed user is asked for all three parts again. Keeping the parts that came was rejected:
 *   they would be held for as long as the backoff lasts, for any number of users.
 * - Only what says "the server is down" opens the breaker: network errors, timeouts, 5xx, 429. A
 *   user whose answer is too large or no JSON is that user's problem.
 * - Bytes held: small answers (64 KiB) of all users in flight, plus a room of three times
 *   maxResponseBytes for all that is larger. A user that finds no room in it is cut off and comes
 *   back when there is. Waiting with the socket unread was rejected: it used up the user's deadline
 *   and the place of one whose answer is small.
 * - A user whose answer was too large backs off for the longest time from the start and is asked
 *   for only while there is room: it must not take that from users with large answers that fit.
 */
import type { Logger } from 'pino';
import { Pool } from 'undici';
import { type HttpEndpoint, parseEndpoint } from '../http/http-exchange.ts';
import { backoffMs } from '../http/http-retry.ts';
import { Permits } from '../http/permits.ts';
import type { ProfileApiPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { HISTOGRAM_BOUNDS, Histogram } from '../runtime/histogram.ts';
import { type BreakerLimits, CircuitBreaker } from './circuit-breaker.ts';
import { PARTS, ProfileAttempt, SMALL_ANSWER_BYTES } from './http-profile-api-attempt.ts';
import { type FoundPart, judgePart, type PartFault } from './http-profile-api-part.ts';
import { AnswerRoom, type RoomLease } from './http-profile-api-room.ts';
import type { ProfileAnswer, ProfileApi, ProfileFailure } from './profile-api.ts';

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
}

type Outcome =
  | ProfileAnswer
  | { kind: 'failed'; faults: PartFault[] }
  /** Nothing was learnt. `roomBytes`: what to have before it is tried again. */
  | { kind: 'crowded'; roomBytes: number };

const NO_ROOM: Outcome = { kind: 'crowded', roomBytes: 0 };

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
  readonly #room: AnswerRoom;
  readonly #attempts = new Set<ProfileAttempt>();
  readonly #headers: Record<string, string>;
  readonly #breaker: CircuitBreaker;
  readonly #closing = new AbortController();
  readonly attemptSeconds = new Histogram(HISTOGRAM_BOUNDS.profileSeconds);
  readonly #counts = {
    requests: 0,
    found: 0,
    absentParts: 0,
    errors: 0,
    retries: 0,
    crowded: 0,
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
    const roomBytes = PARTS.length * plan.maxResponseBytes;
    this.#room = new AnswerRoom(env, roomBytes, this.#closing.signal);
    this.#headers = { accept: 'application/json', ...this.#endpoint.headers };
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
    let roomBytes = 0;
    let tooLarge = false;
    for (;;) {
      const lease: RoomLease | null = tooLarge
        ? this.#room.tryEnter(SMALL_ANSWER_BYTES)
        : await this.#room.enter(roomBytes);
      const outcome: Outcome = lease === null ? NO_ROOM : await this.#attempt(userId, lease);
      if (outcome.kind === 'found') {
        this.#counts.found += 1;
        return outcome;
      }
      if (outcome.kind === 'crowded') {
        // Our own lack of room says nothing about the user, so it can't use up its attempts.
        roomBytes = outcome.roomBytes;
        if (tooLarge) await this.#wait(Number.POSITIVE_INFINITY, []);
        continue;
      }
      attempts += 1;
      this.#counts.errors += 1;
      if (onError !== 'retry' && attempts >= maxAttempts) {
        return this.#giveUp(attempts, outcome.faults);
      }
      this.#counts.retries += 1;
      tooLarge ||= outcome.faults.some(({ blame }) => blame === 'tooLarge');
      await this.#wait(tooLarge ? Number.POSITIVE_INFINITY : attempts, outcome.faults);
    }
  }

  stats(): Record<string, number> {
    return {
      ...this.#counts,
      breakerOpen: this.#breaker.isOpen ? 1 : 0,
      inFlight: this.#users.held,
      queued: this.#users.waiting + this.#room.waiting,
      answerBytes: this.#room.held,
      answerRoomBytes: this.#room.bytes,
    };
  }

  async close(): Promise<void> {
    const reason = new TriggerJobError('PROFILE_API_CLOSED', 'the Profile API client was closed');
    this.#closing.abort(reason);
    this.#breaker.close();
    for (const attempt of [...this.#attempts]) attempt.cut();
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

  async #attempt(userId: string, lease: RoomLease): Promise<Outcome> {
    const { signal } = this.#closing;
    try {
      // The permit comes first: behind an open breaker then stand at most maxConcurrent users.
      await this.#users.acquire(signal);
      try {
        const pass = await this.#breaker.enter(signal);
        let outcome: Outcome;
        try {
          outcome = await this.#ask(userId, lease);
        } catch (thrown) {
          pass.abandoned();
          throw thrown;
        }
        if (outcome.kind === 'crowded') pass.abandoned();
        else if (outcome.kind === 'failed' && outcome.faults.some(isServers)) pass.failed();
        else pass.succeeded();
        return outcome;
      } finally {
        this.#users.release();
      }
    } finally {
      lease.end();
    }
  }

  async #ask(userId: string, lease: RoomLease): Promise<Outcome> {
    const { timeoutMs, maxResponseBytes } = this.#plan;
    const attempt = new ProfileAttempt(maxResponseBytes, lease);
    const path = `${this.#endpoint.path}/users/${pathSegment(userId)}`;
    this.#counts.requests += PARTS.length;
    this.#attempts.add(attempt);
    const request = { path, headers: this.#headers, timeoutMs };
    const startedAt = this.#env.monotonic();
    const answers = await attempt.run(this.#env, this.#pool, request);
    this.attemptSeconds.observe((this.#env.monotonic() - startedAt) / 1000);
    this.#attempts.delete(attempt);
    this.#closing.signal.throwIfAborted();
    const now = this.#env.now();
    const results = PARTS.map((part, i) => judgePart(part, answers[i]!, maxResponseBytes, now));
    if (results.every((result) => result.kind === 'found')) return this.#found(results);
    const faults = results.filter((result) => result.kind === 'fault');
    if (faults.some(({ blame }) => blame === 'ours' || blame === 'tooLarge')) {
      lease.waste(attempt.received);
    }
    const others = faults.filter(({ blame }) => blame !== 'ours');
    if (others.length > 0) return { kind: 'failed', faults: others };
    this.#counts.crowded += 1;
    return { kind: 'crowded', roomBytes: lease.wanted };
  }

  #found(parts: readonly FoundPart[]): ProfileAnswer {
    const [profile, visit, history] = parts;
    for (const { absent } of parts) if (absent) this.#counts.absentParts += 1;
    return {
      kind: 'found',
      profile: profile?.texts[0] ?? '{}',
      visit: visit?.texts[0] ?? '{}',
      history: history?.texts ?? [],
    };
  }
}

function isServers({ blame }: PartFault): boolean {
  return blame === 'server';
}

/**
 * The user id as one segment of a path. A lone surrogate becomes U+FFFD (it has no UTF-8); the ids
 * `.` and `..` are escaped, or a proxy would take them for a walk up the path.
 */
function pathSegment(userId: string): string {
  if (userId === '.' || userId === '..') return userId.replaceAll('.', '%2E');
  return encodeURIComponent(userId.toWellFormed());
}
