/** From what was done and the moments of all events to the figures of recovery.ts. Pure. */
import type { CheckpointFigures } from './job-process.ts';
import { quantile } from './quantile.ts';
import type { Figure } from './report.ts';
import { indexAt, seenIn, type ThreadTimes } from './slot-times.ts';

/** Something that was done to the job. */
export interface Act {
  kind: 'kill' | 'leader killed' | 'leader released' | 'rescale';
  /** ms since the epoch. */
  at: number;
  /** Process that it was done to. */
  pid: number;
  /** Subtasks that began anew by it. */
  lost: number;
  /** Until it was done; 0 = the figures tell. */
  tookMs: number;
}

const MEBIBYTE = 1024 ** 2;
const FIRST_EVENT_LIMIT_MS = 5_000;
const FIRST_EVENT_GOAL_MS = 2_000;
const PAUSE_GOAL_MS = 100;
/** Goal 0: what can't be told from the same time without a change. */
const NO_PAUSE_MS = 10;
const CHECKPOINT_GOAL_MS = { p50: 500, p99: 2_000 };
const RESCALE_GOAL_MS = 2_000;
/** Of an event of a task that is at the head of its partitions again. */
const LATE_MS = 500;

const ms = (name: string, value: number, atMost?: number): Figure => {
  return { name, value, unit: 'ms', ...(atMost !== undefined && { goal: { atMost } }) };
};

export function checkpointFigures(all: readonly CheckpointFigures[]): Figure[] {
  const done = all.filter(({ status }) => status === 'COMPLETED');
  const took = done.map((one) => one.end_to_end_duration);
  const written = done.map((one) => one.checkpointed_size / MEBIBYTE);
  return [
    { name: 'checkpoints, 1 % touched', value: done.length, unit: '' },
    { name: 'of them failed', value: all.length - done.length, unit: '' },
    ms('checkpoint duration p50', quantile(took, 0.5), CHECKPOINT_GOAL_MS.p50),
    ms('checkpoint duration p99', quantile(took, 0.99), CHECKPOINT_GOAL_MS.p99),
    ms('checkpoint duration max', quantile(took, 1)),
    { name: 'written by one, p50', value: quantile(written, 0.5), unit: 'MiB' },
  ];
}

interface Seen {
  gaps: number[];
  late: number[];
}

/** What the users of the threads that lived through the act saw, before it and in it. */
function seen(act: Act, threads: readonly ThreadTimes[], from: number, to: number): Seen {
  const all = threads
    .filter(({ pid }) => act.kind !== 'kill' || pid !== act.pid)
    // Both windows or none: the same threads are compared.
    .filter((one) => seenIn(one, act.at - 1, act.at + 1) !== null)
    .flatMap((one) => seenIn(one, act.at + from, act.at + to) ?? []);
  return { gaps: all.map(({ gapMs }) => gapMs), late: all.map(({ latencyMs }) => latencyMs) };
}

function compared(
  what: string,
  acts: readonly Act[],
  threads: readonly ThreadTimes[],
  windowMs: number,
  goalMs: number,
): Figure[] {
  const over = (from: number, to: number): Seen => {
    const each = acts.map((act) => seen(act, threads, from, to));
    return { gaps: each.flatMap(({ gaps }) => gaps), late: each.flatMap(({ late }) => late) };
  };
  const calm = over(-windowMs, 0);
  const during = over(0, windowMs);
  const added = quantile(during.gaps, 0.95) - quantile(calm.gaps, 0.95);
  return [
    { name: `${what}: slots seen`, value: during.gaps.length, unit: '' },
    ms(`${what}: longest pause of a slot, p50`, quantile(during.gaps, 0.5)),
    ms(`${what}: longest pause of a slot, p95`, quantile(during.gaps, 0.95), goalMs),
    ms(`${what}: longest pause of a slot, max`, quantile(during.gaps, 1)),
    ms('  as long before, p50', quantile(calm.gaps, 0.5)),
    ms('  as long before, p95', quantile(calm.gaps, 0.95)),
    ms('  as long before, max', quantile(calm.gaps, 1)),
    ms('  added at p95', Math.max(0, added)),
    ms(`${what}: most that an event was late, p95`, quantile(during.late, 0.95)),
    ms('  as long before, p95', quantile(calm.late, 0.95)),
  ];
}

/** Of each thread that began after the act and before the next one. */
function begun(acts: readonly Act[], threads: readonly ThreadTimes[]) {
  return acts.flatMap(({ at }, index) => {
    const end = acts[index + 1]?.at ?? Number.POSITIVE_INFINITY;
    return threads
      .filter((one) => one.at.length > 0 && one.at[0]! > at && one.at[0]! < end)
      .map((one) => {
        const caughtUp = one.latencyMs.findIndex((late) => late < LATE_MS);
        return { firstMs: one.at[0]! - at, caughtUpMs: (one.at[caughtUp] ?? Number.NaN) - at };
      });
  });
}

export function killFigures(
  acts: readonly Act[],
  threads: readonly ThreadTimes[],
  windowMs: number,
): Figure[] {
  const all = begun(acts, threads);
  const firsts = all.map(({ firstMs }) => firstMs);
  const caughtUp = all.map(({ caughtUpMs }) => caughtUpMs);
  const lost = acts.reduce((sum, act) => sum + act.lost, 0);
  const p95 = quantile(firsts, 0.95);
  return [
    { name: 'SIGKILLs of a TaskManager', value: acts.length, unit: '' },
    { name: 'subtasks lost by them', value: lost, unit: '' },
    { name: 'subtasks that began anew', value: all.length, unit: '' },
    ms('first event of a lost key group, p50', quantile(firsts, 0.5), FIRST_EVENT_GOAL_MS),
    ms('first event of a lost key group, p95, limit', p95, FIRST_EVENT_LIMIT_MS),
    ms('first event of a lost key group, p95, goal', p95, FIRST_EVENT_GOAL_MS),
    ms('first event of a lost key group, max', quantile(firsts, 1)),
    ms('lost key groups at the head again, p95', quantile(caughtUp, 0.95)),
    ...compared('survivors', acts, threads, windowMs, PAUSE_GOAL_MS),
  ];
}

export function leaderFigures(
  acts: readonly Act[],
  threads: readonly ThreadTimes[],
  windowMs: number,
  leaseMs: number,
): Figure[] {
  const took = (kind: Act['kind']) =>
    acts.filter((act) => act.kind === kind).map(({ tookMs }) => tookMs);
  const figures = compared('leader change', acts, threads, windowMs + leaseMs, Number.NaN);
  const added = figures.find(({ name }) => name === '  added at p95')?.value ?? Number.NaN;
  return [
    ms('new leader after SIGKILL, max', quantile(took('leader killed'), 1), leaseMs + 2_000),
    ms('new leader after a release, max', quantile(took('leader released'), 1), 1_000),
    ms('pause that a leader change adds, p95', added, NO_PAUSE_MS),
    ...figures.map(({ goal: _, ...rest }) => rest),
  ];
}

export function rescaleFigures(
  acts: readonly Act[],
  threads: readonly ThreadTimes[],
  windowMs: number,
): Figure[] {
  const pauses = acts.map(({ at, tookMs }) => pauseOfAll(threads, at, at + tookMs + windowMs));
  return [
    { name: 'rescales', value: acts.length, unit: '' },
    ms('pause of a rescale, p50', quantile(pauses, 0.5), RESCALE_GOAL_MS),
    ms('pause of a rescale, max', quantile(pauses, 1), RESCALE_GOAL_MS),
    ms(
      'from the command to all at the head, max',
      quantile(
        acts.map((one) => one.tookMs),
        1,
      ),
    ),
  ];
}

/** The longest time in [from, to] without an event of any thread. */
function pauseOfAll(threads: readonly ThreadTimes[], from: number, to: number): number {
  const times = threads
    .flatMap((one) => [...one.at.subarray(indexAt(one, from), indexAt(one, to))])
    .sort((a, b) => a - b);
  let longest = 0;
  for (let i = 1; i < times.length; i++) longest = Math.max(longest, times[i]! - times[i - 1]!);
  return longest;
}
