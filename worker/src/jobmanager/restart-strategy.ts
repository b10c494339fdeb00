/**
 * Whether a failed job starts again, and after how long. Pure: the state is a value, time (ms, any
 * monotonic origin) and chance are arguments. Semantics and names are Flink's.
 */
import type { RestartStrategyPlan } from '../plan/job-plan.ts';

export interface RestartState {
  /** Restarts granted so far (fixed-delay). */
  attempts: number;
  /** Times of the last failures, oldest first; at most maxFailures + 1 (failure-rate). */
  failures: readonly number[];
  /** Next wait before jitter, and when the last failure came (exponential-delay). */
  backoffMs: number | null;
  lastFailureAt: number | null;
}

export const NO_RESTARTS: RestartState = {
  attempts: 0,
  failures: [],
  backoffMs: null,
  lastFailureAt: null,
};

export type RestartDecision =
  | { restart: true; delayMs: number; state: RestartState }
  | { restart: false; reason: string; state: RestartState };

/** `random` is uniform in [0, 1). `now` is the time of the failure. */
export function onFailure(
  plan: RestartStrategyPlan,
  state: RestartState,
  now: number,
  random: number,
): RestartDecision {
  switch (plan.type) {
    case 'none':
      return { restart: false, reason: 'restartStrategy.type is none', state };
    case 'fixed-delay': {
      if (state.attempts >= plan.attempts) {
        const reason = `restartStrategy.attempts: all ${plan.attempts} restarts are used up`;
        return { restart: false, reason, state };
      }
      const next = { ...state, attempts: state.attempts + 1 };
      return { restart: true, delayMs: plan.delayMs, state: next };
    }
    case 'failure-rate':
      return onRate(plan, state, now);
    case 'exponential-delay':
      return onExponential(plan, state, now, random);
  }
}

function onRate(
  plan: RestartStrategyPlan & { type: 'failure-rate' },
  state: RestartState,
  now: number,
): RestartDecision {
  const failures = [...state.failures, now].filter((at) => now - at < plan.intervalMs);
  const next = { ...state, failures: failures.slice(-(plan.maxFailures + 1)) };
  if (failures.length > plan.maxFailures) {
    const reason =
      `restartStrategy.maxFailures: ${failures.length} failures in ${plan.intervalMs} ms, ` +
      `${plan.maxFailures} are allowed`;
    return { restart: false, reason, state: next };
  }
  return { restart: true, delayMs: plan.delayMs, state: next };
}

function onExponential(
  plan: RestartStrategyPlan & { type: 'exponential-delay' },
  state: RestartState,
  now: number,
  random: number,
): RestartDecision {
  // Quiet time is counted from the end of the wait: else a wait longer than resetAfterMs resets
  // itself.
  const quietSince = (state.lastFailureAt ?? now) + (state.backoffMs ?? 0);
  const calm = state.backoffMs === null || now - quietSince >= plan.resetAfterMs;
  const backoffMs = calm
    ? plan.initialMs
    : Math.min((state.backoffMs ?? plan.initialMs) * plan.multiplier, plan.maxMs);
  const spread = backoffMs * plan.jitter * (random * 2 - 1);
  return {
    restart: true,
    // As in Flink: jitter goes beyond neither end.
    delayMs: Math.max(plan.initialMs, Math.min(Math.round(backoffMs + spread), plan.maxMs)),
    state: { ...state, backoffMs, lastFailureAt: now },
  };
}
