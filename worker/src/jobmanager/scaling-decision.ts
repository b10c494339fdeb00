/**
 * With how many subtasks the job is deployed, and when it is rescaled. Pure: facts and a clock in,
 * a decision out; scaling.ts acts. `now` and all times are monotonic, ms.
 *
 * While nothing runs, the job waits for all the slots it wants, but not longer than
 * `resourceWaitMs` from when there is at least one; then what is there must do. While it runs on
 * fewer, it goes to more when they have stayed for a while, and not sooner than `minIntervalMs`
 * after the rescale before: a TaskManager that comes and goes must not stop all the others each
 * time.
 */
import type { AskedParallelism } from '../checkpoint/snapshot.ts';
import type { ScalingPlan } from '../plan/job-plan.ts';
import { TriggerJobError } from '../runtime/errors.ts';

/** Looked at again then; null = when the facts change. */
export type Wait = { waitMs: number | null };

export interface WaitingFacts {
  wanted: number;
  /** Registered, whether used or not. */
  slots: number;
  /** Since when at least one slot is there and nothing runs; null = there is none. */
  since: number | null;
  /**
   * Parallelism of the attempt before, or the one it was ended for; null = there was none. It takes
   * no second wait to run with as many again.
   */
  before: number | null;
}

/** While nothing runs: the parallelism to deploy now, or how long to wait. */
export function decideDeployment(
  plan: ScalingPlan,
  { wanted, slots, since, before }: WaitingFacts,
  now: number,
): { parallelism: number } | Wait {
  const parallelism = Math.min(wanted, slots);
  if (slots >= Math.min(wanted, before ?? wanted)) return { parallelism };
  if (slots < 1 || since === null) return { waitMs: null };
  const waitMs = since + plan.resourceWaitMs - now;
  return waitMs <= 0 ? { parallelism } : { waitMs };
}

export interface RunningFacts {
  /** Parallelism of the running attempt. */
  running: number;
  wanted: number;
  slots: number;
  /** When a slot last came or went, and when another parallelism was last asked for. */
  slotsChangedAt: number;
  askedAt: number | null;
  /** The last rescale, also one that came to nothing; null = there was none. */
  rescaledAt: number | null;
}

/** While all tasks run: the parallelism to rescale to now, or how long to wait. */
export function decideRescale(
  plan: ScalingPlan,
  facts: RunningFacts,
  now: number,
): { parallelism: number } | Wait {
  const { running, wanted, slots, slotsChangedAt, askedAt, rescaledAt } = facts;
  const parallelism = Math.min(wanted, Math.max(slots, 1));
  // Fewer slots than run are a loss, which ends the attempt by itself.
  if (parallelism === running || slots < running) return { waitMs: null };
  const due = (): number => {
    if (parallelism < running) return now;
    // All are there: it is only waited whether they stay. Some are: the rest may be on its way.
    if (slots >= wanted) return slotsChangedAt + plan.stabilizationMs;
    return Math.max(slotsChangedAt, askedAt ?? slotsChangedAt) + plan.resourceWaitMs;
  };
  // What the user asks for after the last rescale is no thrashing.
  const asked = rescaledAt !== null && askedAt !== null && askedAt > rescaledAt;
  const notBefore = rescaledAt === null || asked ? now : rescaledAt + plan.minIntervalMs;
  const waitMs = Math.max(due(), notBefore) - now;
  return waitMs <= 0 ? { parallelism } : { waitMs };
}

/** The later wish wins: a spec that was changed since makes what was asked for void. */
export function wantedParallelism(asked: AskedParallelism | null, planned: number): number {
  return asked?.planned === planned ? asked.asked : planned;
}

/** Throws PARALLELISM, which says what is possible. */
export function checkAsked(parallelism: number, limits: { max: number; buffers: number }): void {
  const refuse = (why: string): never => {
    throw new TriggerJobError('PARALLELISM', `parallelism ${parallelism} is not possible: ${why}`);
  };
  const { max, buffers } = limits;
  if (!Number.isInteger(parallelism) || parallelism < 1 || parallelism > max) {
    refuse(`it must be from 1 to spec.maxParallelism (${max})`);
  }
  if (parallelism > buffers) {
    refuse(`network memory has room for the exchange buffers of ${buffers} subtasks`);
  }
}
