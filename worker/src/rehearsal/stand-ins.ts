/**
 * What a rehearsed job meets outside: a Profile API, a webhook and a dead letter that answer as the
 * test says, under virtual time. They keep the plan's retries, backoff and deadline, and write down
 * all that arrives.
 */
import type { ActionExecutor, DeadLetter, DeadLetterWriter, Delivery } from '../action/action.ts';
import { judgeAnswer } from '../action/webhook-answer.ts';
import { backoffMs, nextAttempt } from '../http/http-retry.ts';
import type { ActionPlan, ProfileApiPlan } from '../plan/job-plan.ts';
import { sleep } from '../runtime/env.ts';
import type { JsonObject } from '../runtime/json.ts';
import type { ProfileAnswer, ProfileApi, ProfileFailure } from '../state/profile-api.ts';
import type { Receipt } from './honest-repeats.ts';
import type { SimThread } from './sim-process.ts';

/** Parts that are absent are empty. A number: the HTTP status the API answers for this user. */
export type ProfileSetting =
  | { profile?: JsonObject; visit?: JsonObject; history?: JsonObject[] }
  | number;

/**
 * A number: the HTTP status of the answer. `down`: nobody listens. `no-reply`: the request arrives,
 * the answer gets lost.
 */
export type WebhookSetting = number | 'down' | 'no-reply';

/** Shared by all attempts of a job; a test changes it as it goes on. */
export interface Outside {
  /** Users that are not named are unknown: 404. */
  profiles: Map<string, ProfileSetting>;
  webhook: WebhookSetting;
  readonly receipts: Receipt[];
}

const ANSWER_MS = 5;
const NOT_FOUND = 404;

export class StandInProfileApi implements ProfileApi {
  readonly #thread: SimThread;
  readonly #outside: Outside;
  readonly #plan: ProfileApiPlan;

  constructor(thread: SimThread, outside: Outside, plan: ProfileApiPlan) {
    this.#thread = thread;
    this.#outside = outside;
    this.#plan = plan;
  }

  async fetch(userId: string): Promise<ProfileAnswer | ProfileFailure> {
    const { env } = this.#thread;
    const { onError, maxAttempts, initialBackoffMs, maxBackoffMs } = this.#plan;
    for (let attempts = 1; ; attempts++) {
      await sleep(env, ANSWER_MS);
      const setting = this.#outside.profiles.get(userId) ?? NOT_FOUND;
      if (setting === NOT_FOUND) return found({});
      if (typeof setting !== 'number') return found(setting);
      if (onError !== 'retry' && attempts >= maxAttempts) {
        if (onError === 'empty') return found({});
        return { kind: 'failed', error: `Profile API, ${attempts} attempts: HTTP ${setting}` };
      }
      await sleep(env, backoffMs(env, attempts, initialBackoffMs, maxBackoffMs));
    }
  }

  stats(): Record<string, number> {
    return {};
  }

  async close(): Promise<void> {}
}

function found({ profile = {}, visit = {}, history = [] }: Exclude<ProfileSetting, number>) {
  const texts = history.map((event) => JSON.stringify(event));
  const parts = { profile: JSON.stringify(profile), visit: JSON.stringify(visit) };
  return { kind: 'found', ...parts, history: texts } as const;
}

/** `debug` prints each match and never fails. */
const DEBUG_LIMITS = { timeoutMs: 10_000, deadlineMs: 60_000, maxInFlight: 64 };
const DEBUG_BACKOFF = { initialBackoffMs: 500, maxBackoffMs: 30_000 };

export class StandInWebhook implements ActionExecutor {
  readonly maxInFlight: number;
  readonly #thread: SimThread;
  readonly #outside: Outside;
  readonly #attempt: number;
  readonly #limits: typeof DEBUG_LIMITS & typeof DEBUG_BACKOFF;
  #calls = 0;

  constructor(thread: SimThread, outside: Outside, attempt: number, plan: ActionPlan) {
    this.#thread = thread;
    this.#outside = outside;
    this.#attempt = attempt;
    this.#limits = plan.kind === 'webhook' ? plan : { ...DEBUG_LIMITS, ...DEBUG_BACKOFF };
    this.maxInFlight = this.#limits.maxInFlight;
  }

  async deliver(delivery: Delivery): ReturnType<ActionExecutor['deliver']> {
    const { env } = this.#thread;
    const { timeoutMs, deadlineMs, initialBackoffMs, maxBackoffMs } = this.#limits;
    const call = `${this.#attempt}/${this.#calls++}`;
    const deadline = env.monotonic() + deadlineMs;
    for (let attempts = 1, last = false; ; attempts++) {
      const verdict = await this.#post(delivery, call, timeoutMs);
      if (verdict.kind === 'delivered') return { kind: 'delivered', attempts };
      if (verdict.kind === 'final') return { kind: 'failed', attempts, error: verdict.error };
      const wanted = Math.max(
        backoffMs(env, attempts, initialBackoffMs, maxBackoffMs),
        verdict.afterMs ?? 0,
      );
      const next: ReturnType<typeof nextAttempt> = last
        ? null
        : nextAttempt(wanted, deadline - env.monotonic(), timeoutMs);
      if (next === null) return { kind: 'failed', attempts, error: verdict.error };
      last = next.last;
      await sleep(env, next.waitMs);
    }
  }

  async #post(delivery: Delivery, call: string, timeoutMs: number) {
    const { env, process } = this.#thread;
    await sleep(env, ANSWER_MS);
    const setting = this.#outside.webhook;
    const accepted = typeof setting === 'number' && setting >= 200 && setting < 300;
    if ((accepted || setting === 'no-reply') && process.alive) {
      const { id, userId, partition, offset, body } = delivery;
      const place = { id, userId, partition, offset, body: body.toString() };
      const attempt = this.#attempt;
      this.#outside.receipts.push({ to: 'webhook', ...place, attempt, call, stage: null });
    }
    if (typeof setting === 'number') return judgeAnswer(setting, undefined, '', env.now());
    if (setting === 'no-reply') await sleep(env, timeoutMs);
    const error = setting === 'down' ? 'connection refused' : `no answer within ${timeoutMs} ms`;
    return { kind: 'retry', error, afterMs: null } as const;
  }

  stats(): Record<string, number> {
    return {};
  }

  async close(): Promise<void> {}
}

export class StandInDeadLetter implements DeadLetterWriter {
  readonly #thread: SimThread;
  readonly #outside: Outside;
  readonly #attempt: number;
  #calls = 0;

  constructor(thread: SimThread, outside: Outside, attempt: number) {
    this.#thread = thread;
    this.#outside = outside;
    this.#attempt = attempt;
  }

  async write(entry: DeadLetter): Promise<void> {
    await sleep(this.#thread.env, ANSWER_MS);
    if (!this.#thread.process.alive) return;
    const { id, userId, partition, offset, raw, stage } = entry;
    const place = { id, userId: userId ?? '', partition, offset, body: raw.toString() };
    const call = `${this.#attempt}/${this.#calls++}`;
    this.#outside.receipts.push({
      to: 'deadLetter',
      ...place,
      attempt: this.#attempt,
      call,
      stage,
    });
  }

  async close(): Promise<void> {}
}
