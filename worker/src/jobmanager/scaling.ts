/**
 * Makes the parallelism follow the slots and the user's wish: says with how many subtasks an
 * attempt is deployed, and ends a running one for another parallelism, after a checkpoint, so that
 * little is replayed. scaling-decision.ts decides; the job's loop (job-lifecycle.ts) does the rest.
 */
import type { Logger } from 'pino';
import { mostSubtasks } from '../exchange/credit.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Bound } from '../runtime/bound.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf } from '../runtime/errors.ts';
import type { Journal } from './journal.ts';
import {
  checkAsked,
  decideDeployment,
  decideRescale,
  wantedParallelism,
} from './scaling-decision.ts';

/** After a checkpoint for a rescale that failed, or that somebody else waits behind. */
const RETRY_MS = 1_000;
const MAX_EVENTS = 20;

/** A deployment with another parallelism than the one before, or with fewer than wanted. */
export interface ScalingEvent {
  /** Wall time, ms. */
  at: number;
  kind: 'degraded' | 'rescaled';
  parallelism: number;
  wanted: number;
  reason: string;
}

export interface JobScalingDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  journal: Pick<Journal, 'want'>;
  /** Registered now. */
  slots(): number;
  /** Resolves when a checkpoint is complete. */
  checkpoint(): Promise<unknown>;
  /** Somebody waits for a checkpoint of the running attempt: it must not be ended now. */
  awaited(): boolean;
}

export interface ScalableAttempt {
  readonly parallelism: number;
  rescale(reason: string): void;
}

/** The wish that is in force when a leader starts; what is void is taken out of the log. */
export async function wantedAtStart(
  plan: JobPlan,
  journal: Pick<Journal, 'want' | 'wantedParallelism'>,
  log: Logger,
): Promise<number> {
  const before = journal.wantedParallelism;
  if (before === null) return plan.parallelism;
  const wanted = wantedParallelism(before, plan.parallelism);
  try {
    checkAsked(wanted, limitsOf(plan));
    if (before.planned === plan.parallelism) return wanted;
    log.info(before, `spec.parallelism is ${plan.parallelism} now: what was asked for is void`);
  } catch (error) {
    log.warn(before, `${messageOf(error)}; spec.parallelism is in force again`);
  }
  await journal.want(null);
  return plan.parallelism;
}

function limitsOf(plan: JobPlan): { max: number; buffers: number } {
  return { max: plan.maxParallelism, buffers: mostSubtasks(plan) };
}

export class JobScaling {
  readonly #deps: JobScalingDeps;
  #wanted: number;
  /** Monotonic times, ms; see scaling-decision.ts. */
  #since: number | null = null;
  #slotsChangedAt: number;
  #askedAt: number | null = null;
  #rescaledAt: number | null = null;
  #slots = 0;
  #before: number | null = null;
  #rescales = 0;
  #events: ScalingEvent[] = [];
  /** All of its tasks run. */
  #attempt: ScalableAttempt | null = null;
  #preparing = false;
  #timer: Timer | null = null;
  #wake: (() => void) | null = null;

  constructor(deps: JobScalingDeps, wanted: number) {
    this.#deps = deps;
    this.#wanted = wanted;
    this.#slotsChangedAt = deps.env.monotonic();
  }

  get wanted(): number {
    return this.#wanted;
  }

  /** Attempts that were ended for another parallelism. */
  get rescales(): number {
    return this.#rescales;
  }

  get kept(): Bound {
    return { value: this.#events.length, limit: MAX_EVENTS };
  }

  /** Newest first. */
  get events(): readonly ScalingEvent[] {
    return this.#events;
  }

  /**
   * Waits until the job can be deployed; answers with how many subtasks. null: stopped by `signal`.
   */
  async deployable(signal: AbortSignal): Promise<number | null> {
    const { env, log, plan } = this.#deps;
    this.slotsChanged();
    for (let told = -1; !signal.aborted; ) {
      const slots = this.#slots;
      const wanted = this.#wanted;
      const facts = { wanted, slots, since: this.#since, before: this.#before };
      const decision = decideDeployment(plan.scaling, facts, env.monotonic());
      if ('parallelism' in decision) {
        const { parallelism } = decision;
        if (parallelism < wanted) this.#degraded(parallelism);
        this.#before = parallelism;
        return parallelism;
      }
      if (slots !== told) log.info({ slots, needed: wanted }, 'waiting for slots');
      told = slots;
      await this.#changed(decision.waitMs, signal);
    }
    return null;
  }

  /** Every task of the attempt runs. */
  running(attempt: ScalableAttempt): void {
    this.#attempt = attempt;
    this.#before = attempt.parallelism;
    this.#look();
  }

  /** The attempt is over; the wait for slots is counted from now, or from `since`. */
  ended(since = this.#deps.env.monotonic()): void {
    this.#attempt = null;
    this.#timer?.cancel();
    this.#since = this.#deps.slots() > 0 ? since : null;
  }

  /** The loop found an attempt ended by `rescale`. */
  rescaled(reason: string): void {
    this.#rescales += 1;
    this.#before = this.#target();
    this.#note('rescaled', this.#before, reason);
  }

  slotsChanged(): void {
    const now = this.#deps.env.monotonic();
    const slots = this.#deps.slots();
    if (slots !== this.#slots) this.#slotsChangedAt = now;
    this.#slots = slots;
    if (slots === 0) this.#since = null;
    else this.#since ??= now;
    this.#wake?.();
    this.#look();
  }

  /**
   * Resolves when the wish is stored; what it leads to follows. Rejects with PARALLELISM for what
   * can't be, and as Journal.want does.
   */
  async ask(parallelism: number): Promise<void> {
    const { env, log, plan, journal } = this.#deps;
    checkAsked(parallelism, limitsOf(plan));
    const planned = plan.parallelism;
    await journal.want(parallelism === planned ? null : { asked: parallelism, planned });
    log.info({ before: this.#wanted, wanted: parallelism }, 'another parallelism is asked for');
    this.#wanted = parallelism;
    this.#askedAt = env.monotonic();
    this.#wake?.();
    this.#look();
  }

  close(): void {
    this.ended();
  }

  #target(): number {
    return Math.min(this.#wanted, Math.max(1, this.#deps.slots()));
  }

  #degraded(parallelism: number): void {
    const wanted = this.#wanted;
    const reason = `there are slots for ${parallelism} of ${wanted} subtasks`;
    this.#deps.log.warn({ parallelism, wanted }, `degraded: ${reason}, the job runs on these`);
    if (parallelism !== this.#before) this.#note('degraded', parallelism, reason);
  }

  #note(kind: ScalingEvent['kind'], parallelism: number, reason: string): void {
    const at = this.#deps.env.now();
    const event = { at, kind, parallelism, wanted: this.#wanted, reason };
    this.#events = [event, ...this.#events].slice(0, MAX_EVENTS);
  }

  #look(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const attempt = this.#attempt;
    if (attempt === null || this.#preparing) return;
    const { env, plan } = this.#deps;
    const facts = {
      running: attempt.parallelism,
      wanted: this.#wanted,
      slots: this.#slots,
      slotsChangedAt: this.#slotsChangedAt,
      askedAt: this.#askedAt,
      rescaledAt: this.#rescaledAt,
    };
    const decision = decideRescale(plan.scaling, facts, env.monotonic());
    if ('parallelism' in decision) void this.#rescale(attempt);
    else if (decision.waitMs !== null) this.#lookIn(decision.waitMs);
  }

  #lookIn(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#deps.env.timer(delayMs, () => this.#look());
  }

  /** Never rejects. A checkpoint that fails costs the rescale, not the job. */
  async #rescale(attempt: ScalableAttempt): Promise<void> {
    const { env, log } = this.#deps;
    this.#preparing = true;
    this.#rescaledAt = env.monotonic();
    const failure = await this.#deps.checkpoint().then(
      () => null,
      (error: unknown) => messageOf(error),
    );
    this.#preparing = false;
    const current = this.#attempt;
    if (current !== attempt) {
      if (current !== null) this.#look();
      return;
    }
    const from = attempt.parallelism;
    // What was true before the checkpoint need not be true after it.
    const to = this.#target();
    if (failure !== null) log.warn({ failure }, 'no rescale: its checkpoint failed');
    if (failure !== null || this.#deps.awaited()) this.#lookIn(RETRY_MS);
    else if (to === from || this.#slots < from) this.#look();
    else attempt.rescale(`rescale from ${from} to ${to} subtasks, ${this.#wanted} are wanted`);
  }

  async #changed(waitMs: number | null, signal: AbortSignal): Promise<void> {
    const { promise, resolve: wake } = Promise.withResolvers<void>();
    const timer = waitMs === null ? null : this.#deps.env.timer(waitMs, wake);
    const onAbort = () => wake();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#wake = wake;
    await promise;
    this.#wake = null;
    timer?.cancel();
    signal.removeEventListener('abort', onAbort);
  }
}

/** The scaling of a leader's job. */
export function scalingOf(
  { env, log, plan }: Pick<JobScalingDeps, 'env' | 'log' | 'plan'>,
  journal: JobScalingDeps['journal'],
  driver: { request(kind: 'manual'): Promise<unknown>; readonly awaited: boolean },
  taskManagers: { readonly slots: number },
  wanted: number,
): JobScaling {
  const slots = () => taskManagers.slots;
  const checkpoint = () => driver.request('manual');
  const awaited = () => driver.awaited;
  return new JobScaling({ env, log, plan, journal, slots, checkpoint, awaited }, wanted);
}
