/**
 * When each fault was on, and what the pipeline did meanwhile. A window ends when its fault was on
 * for its time and what is promised has been seen under it, so no test depends on how fast the
 * machine is; how long it took is printed with its goal. What never comes turns the run red.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { eventText } from '../exactly-once/event-model.ts';
import type { History } from '../exactly-once/history.ts';
import type { Outgoing } from '../exactly-once/producer.ts';
import { printRun as printVerdict } from '../exactly-once/report.ts';
import type { RunResult, Stage } from '../exactly-once/run.ts';
import type { Verdict } from '../exactly-once/verdict.ts';

/** Of every checked run (run.ts). */
const CHECKPOINT_INTERVAL_MS = 2_000;
const MAX_AGE_GOAL_MS = 2 * CHECKPOINT_INTERVAL_MS;
const POLL_MS = 50;
/** A watchdog waits so many times as long as it usually takes. */
const PATIENCE = 10;
/** Nothing that a window promises usually takes longer than this. */
const USUAL_MS = 6_000;
const ROUND_MS = 500;

/** Something to be seen in what came at `from` or later; `to` is when the fault had its time. */
export interface Promised {
  what: string;
  seen(from: number, to: number): boolean;
}

interface FaultWindow {
  name: string;
  from: number;
  to: number;
}

interface FaultPlan {
  name: string;
  /** How long the fault is on at least. */
  ms: number;
  on: () => Promise<void> | void;
  off: () => Promise<void> | void;
  promised: readonly Promised[];
  /** Goes on after the fault had its time: the run's own schedule may be over by then. */
  traffic?: SpareTraffic;
}

export class FaultWindows {
  readonly all: FaultWindow[] = [];

  /** Switching on and off are part of the window. Rejects with what was promised and not seen. */
  async during({ name, ms, on, off, promised, traffic }: FaultPlan): Promise<void> {
    const from = Date.now();
    await on();
    await wait(ms);
    const to = Date.now();
    const awaited = promised.map(({ what, seen }) => ({ what, seen: () => seen(from, to) }));
    const more = traffic?.start();
    try {
      await untilSeen(name, awaited, Math.max(ms, USUAL_MS) * PATIENCE);
    } finally {
      await more?.stop();
      await off();
      this.all.push({ name, from, to: Date.now() });
    }
  }
}

/** Resolves when all have been seen, each at some time. */
export async function untilSeen(
  name: string,
  awaited: readonly { what: string; seen: () => boolean | Promise<boolean> }[],
  limitMs = USUAL_MS * PATIENCE,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  for (const { what, seen } of awaited) {
    while (!(await seen())) {
      if (Date.now() > deadline)
        throw new Error(`${name}: in ${limitMs} ms it never came: ${what}`);
      await wait(POLL_MS);
    }
  }
}

/** Two checkpoints begun under the fault; one of them when it had been on for half of its time. */
export function checkpointsGoOn({ watch }: Stage): Promised {
  return {
    what: 'two completed checkpoints that were triggered under the fault, one in its second half',
    seen: (from, to) => {
      const under = watch.checkpoints.filter((one) => one.triggeredAt >= from);
      return under.length >= 2 && under.some((one) => one.triggeredAt >= (from + to) / 2);
    },
  };
}

export function answered({ receiver }: Stage, status: number): Promised {
  return {
    what: `a delivery that was answered ${status}`,
    seen: (from) => receiver.receipts.some((one) => one.at >= from && one.status === status),
  };
}

export function waiting({ pipeline }: Stage, place: 'parked' | 'outbox'): Promised {
  return {
    what: `an event that waits, ${place}`,
    seen: (from) => pipeline.samples.some((one) => one.at >= from && one[place] > 0),
  };
}

/**
 * Events of users beyond those of the run's schedule: of some that are known before the first fault
 * and of one more unknown user in each round.
 */
export class SpareTraffic {
  readonly #stage: Stage;
  readonly #seed: number;
  readonly #known: string[];
  #nextUser: number;
  #seq = 0;

  /** `firstUser` is above the index of all users of the schedule. */
  constructor(stage: Stage, seed: number, firstUser: number) {
    this.#stage = stage;
    this.#seed = seed;
    this.#nextUser = firstUser;
    this.#known = Array.from({ length: 10 }, () => this.#newUser());
  }

  /** To be called before the first fault: makes its users known. */
  async round(): Promise<void> {
    this.#seq += 1;
    const events = this.#known.map((user) => this.#event(user, this.#seq));
    events.push(this.#event(this.#newUser(), 1));
    await this.#stage.producer.send(events);
  }

  start(): { stop: () => Promise<void> } {
    let stopped = false;
    const rounds = async () => {
      // The first only after a while: mostly nothing more is needed.
      for (await wait(ROUND_MS); !stopped; await wait(ROUND_MS)) await this.round();
    };
    const running = rounds();
    running.catch(() => undefined);
    return {
      stop: async () => {
        stopped = true;
        await running;
      },
    };
  }

  #newUser(): string {
    return `user-${String(this.#nextUser++).padStart(4, '0')}`;
  }

  #event(user: string, seq: number): Outgoing {
    return { user, seq, partition: 0, raw: eventText(this.#seed, user, seq) };
  }
}

export interface WindowFigures {
  name: string;
  ms: number;
  checkpoints: number;
  /** Checkpoints that were due in the window. */
  due: number;
  /** Longest time from one completion to the next that touches the window. */
  maxAgeMs: number;
  delivered: number;
  maxParked: number;
  maxOutbox: number;
  maxRssBytes: number;
}

export function windowFigures(history: History, window: FaultWindow): WindowFigures {
  const { from, to } = window;
  const within = (at: number) => at >= from && at <= to;
  const completions = history.checkpoints.map((one) => one.completedAt);
  const edges = [from, ...completions, to].sort((a, b) => a - b);
  let maxAgeMs = 0;
  for (const [index, at] of edges.entries()) {
    const next = edges[index + 1];
    if (next !== undefined && at < to && next > from) maxAgeMs = Math.max(maxAgeMs, next - at);
  }
  const samples = history.samples.filter((one) => within(one.at));
  const most = (pick: (sample: History['samples'][number]) => number) =>
    samples.reduce((highest, sample) => Math.max(highest, pick(sample)), 0);
  return {
    name: window.name,
    ms: to - from,
    checkpoints: completions.filter(within).length,
    due: Math.floor((to - from) / CHECKPOINT_INTERVAL_MS),
    maxAgeMs,
    delivered: history.receipts.filter((one) => within(one.at) && one.status === 204).length,
    maxParked: most((sample) => sample.parked),
    maxOutbox: most((sample) => sample.outbox),
    maxRssBytes: most((sample) => sample.rssBytes),
  };
}

const goal = (relation: '<=' | '>=', limit: number, reached: boolean): string =>
  `goal ${relation} ${limit}: ${reached ? 'reached' : 'missed'}`;

const mebibytes = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`;

function windowLine(one: WindowFigures): string {
  const least = one.due / 2;
  return (
    `${one.name}, ${one.ms} ms: ${one.checkpoints} checkpoints of ${one.due} due ` +
    `(${goal('>=', least, one.checkpoints >= least)}), oldest ${one.maxAgeMs} ms ` +
    `(${goal('<=', MAX_AGE_GOAL_MS, one.maxAgeMs <= MAX_AGE_GOAL_MS)}); ` +
    `${one.delivered} delivered, at most ${one.maxParked} parked, ` +
    `${one.maxOutbox} in outbox, RSS ${mebibytes(one.maxRssBytes)}`
  );
}

export function printRun(
  result: RunResult,
  verdict: Verdict,
  windows: readonly WindowFigures[],
): void {
  for (const one of windows) console.log(windowLine(one));
  console.log(`highest RSS of the TaskManager: ${mebibytes(highestRss(result.history))}`);
  printVerdict(result, verdict);
}

export function highestRss(history: History): number {
  return history.samples.reduce((highest, one) => Math.max(highest, one.rssBytes), 0);
}
