/**
 * Whether a new leader adopts the tasks it finds running (P45). The log says which attempt must be
 * running, the TaskManagers what is. Adopted is that very attempt and all of it, deployed from the
 * plan this leader has; anything else is restarted from the newest checkpoint. `judge` is pure.
 */
import type { Logger } from 'pino';
import type { JobPlan } from '../plan/job-plan.ts';
import type { RunningAttempt } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { planDigest } from './plan-digest.ts';
import type { TaskManager } from './task-managers.ts';

/**
 * With slots enough for a new deployment and nobody that runs the old one, so long after the newest
 * came nobody will come: a TaskManager looks for a leader several times within it. Not so long
 * after the takeover: those that an old leader kept waiting that stood still come all at once, and
 * one without tasks may be first.
 */
const SETTLE_MS = 1_500;
/** What a look counts for at most: who stood still has yet to read what the others said. */
const TICK_MS = 250;

export interface Expected {
  attempt: number;
  planDigest: string;
  /** Slots that a new deployment needs. */
  parallelism: number;
  /** As long as a TaskManager may take to notice that the old leader is gone. */
  waitMs: number;
}

/** For a TaskManager to notice the silence and to go through the addresses (leader-link.ts). */
const FIND_LEADER_MS = 5_000;

export function expectedOf(plan: JobPlan, attempt: number): Expected {
  const { parallelism, heartbeatTimeoutMs } = plan;
  const waitMs = heartbeatTimeoutMs + FIND_LEADER_MS;
  return { attempt, planDigest: planDigest(plan), parallelism, waitMs };
}

export type Verdict = { kind: 'wait' } | { kind: 'adopt' } | { kind: 'refuse'; reason: string };

export type Candidate = Pick<TaskManager, 'id' | 'slots'> & { running: RunningAttempt | null };

/** `quietMs`: since the newest of them came. */
export function judge(
  expected: Expected,
  candidates: readonly Candidate[],
  waitedMs: number,
  quietMs = waitedMs,
): Verdict {
  const refuse = (reason: string): Verdict => ({ kind: 'refuse', reason });
  const { attempt, planDigest, parallelism, waitMs } = expected;
  const running = candidates.flatMap(({ running: one }) => (one?.attempt === attempt ? [one] : []));
  const [first] = running;
  if (first === undefined) {
    const slots = candidates.reduce((sum, candidate) => sum + candidate.slots, 0);
    const settled = slots >= parallelism && quietMs >= SETTLE_MS;
    if (!settled && waitedMs < waitMs) return { kind: 'wait' };
    return refuse(`no TaskManager runs attempt ${attempt}`);
  }
  if (running.some((one) => one.planDigest !== planDigest)) {
    return refuse(`attempt ${attempt} runs another plan`);
  }
  if (running.some(({ attempts }) => attempts.some((one) => one !== attempt))) {
    return refuse(`attempt ${attempt} has tasks of several attempts`);
  }
  const lost = running.flatMap(({ lostPeers }) => lostPeers);
  if (lost.length > 0) return refuse(`TaskManager ${lost[0]} is lost to its peers`);
  const missing = first.members.filter(
    (id) => !candidates.some((one) => one.id === id && one.running?.attempt === attempt),
  );
  const fresh = missing.find((id) => candidates.some((one) => one.id === id));
  if (fresh !== undefined) return refuse(`TaskManager ${fresh} came without its tasks`);
  if (missing.length > 0) {
    if (waitedMs < waitMs) return { kind: 'wait' };
    return refuse(`TaskManager ${missing.join(', ')} did not come in ${waitMs} ms`);
  }
  const tasks = running.flatMap((one) => one.tasks.map(({ subtask }) => subtask));
  const whole = first.ranges.every((_, subtask) => tasks.includes(subtask));
  if (!whole || tasks.length !== first.ranges.length) {
    return refuse(`attempt ${attempt} is not complete: subtasks ${tasks.join(', ')} run`);
  }
  return { kind: 'adopt' };
}

export interface ReattachDeps {
  env: Env;
  log: Logger;
  expected: Expected;
  candidates(): readonly Candidate[];
}

/** Waits for the TaskManagers, once, right after the takeover. */
export class Reattachment {
  readonly #deps: ReattachDeps;
  #lookedAt: number;
  #waitedMs = 0;
  /** Candidates of the last look, and how long it was waited for the newest of them. */
  #known: readonly Candidate[] = [];
  #cameAtMs = 0;
  readonly #decided = Promise.withResolvers<Verdict & { kind: 'adopt' | 'refuse' }>();
  #over = false;
  #timer: Timer | null = null;

  constructor(deps: ReattachDeps) {
    this.#deps = deps;
    this.#lookedAt = deps.env.monotonic();
  }

  /** Whether a TaskManager may register with what it runs; otherwise it has to cancel that. */
  admits(running: RunningAttempt): boolean {
    return !this.#over && running.attempt === this.#deps.expected.attempt;
  }

  decide(): Promise<Verdict & { kind: 'adopt' | 'refuse' }> {
    this.look();
    return this.#decided.promise;
  }

  /** A TaskManager came, went, or said something. */
  look(): void {
    if (this.#over) return;
    const { env, log, expected, candidates } = this.#deps;
    this.#timer?.cancel();
    const now = env.monotonic();
    this.#waitedMs += Math.min(now - this.#lookedAt, TICK_MS);
    this.#lookedAt = now;
    const waitedMs = Math.round(this.#waitedMs);
    const all = candidates();
    if (all.some((one) => !this.#known.includes(one))) this.#cameAtMs = waitedMs;
    this.#known = all;
    const verdict = judge(expected, all, waitedMs, waitedMs - this.#cameAtMs);
    if (verdict.kind === 'wait') {
      this.#timer = env.timer(TICK_MS, () => this.look());
      return;
    }
    log.info({ attempt: expected.attempt, ...verdict, waitedMs }, 're-attach');
    this.#settle(verdict);
  }

  stop(): void {
    this.#settle({ kind: 'refuse', reason: 'the job is stopped' });
  }

  #settle(verdict: Verdict & { kind: 'adopt' | 'refuse' }): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#decided.resolve(verdict);
  }
}
