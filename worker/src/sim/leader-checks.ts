/**
 * Leader changes. Nobody claims over a leader that lives (P39), and where all tasks of the attempt
 * ran from before to after, the new leader adopts them (P45): a restart would replay records.
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import type { SimProcess } from '../rehearsal/sim-process.ts';
import { recordOf } from './stored-job.ts';

/** Each of them must come in a run of all seeds. */
export const LEADER_CHANGES = [
  'adopted the running tasks',
  'refused tasks of another plan',
  'refused tasks of several attempts',
  'refused tasks that lost a peer',
  'refused tasks that are not all there',
  'succeeded a dead one',
  'succeeded one that released',
  'succeeded a silent one',
  'lease expired',
  'stale, ended',
  'released',
] as const;

/** More than a heartbeat timeout. */
const HEARD_MS = 5_000;

/** What the checks need of a TaskManager. */
export interface SeenTaskManager {
  readonly process: SimProcess;
  readonly attempt: number | null;
  /** Subtasks it runs, and those of the whole attempt. */
  readonly tasks: number;
  readonly of: number;
  /** When it last tried to reach a leader that does not stand still, ms. */
  readonly soughtAt: number;
}

export interface LeaderChecksDeps {
  hit(what: string): void;
  fail(fault: Error): void;
  now(): number;
  leaseMs: number;
  objects: StoredObjects;
  /** false: whoever starts leads. */
  elected: boolean;
  taskManagers(): readonly SeenTaskManager[];
  /** Somebody could not reach it, or it could reach somebody not, then or later. */
  wasCut(name: string, sinceMs: number): boolean;
  adopted(): void;
  /** The newest sign of life says that its leader leads no more. */
  gaveUp(): boolean;
}

export class LeaderChecks {
  readonly #deps: LeaderChecksDeps;
  readonly #takeovers = new Set<string>();
  #leader: { process: SimProcess; signAt: number; released: boolean } | null = null;
  /** Who ran an attempt when the last takeover was made, and whether that was all of it. */
  #before: {
    at: number;
    attempt: number;
    processes: readonly SimProcess[];
    whole: boolean;
  } | null = null;

  constructor(deps: LeaderChecksDeps) {
    this.#deps = deps;
  }

  /** Its sign of life is in the store. */
  signed(process: SimProcess): void {
    if (this.#leader?.process !== process) return;
    this.#leader.signAt = this.#deps.now();
    // It may wait for the store's answer for a while, but leads no more.
    if (this.#deps.gaveUp()) this.#leader.released = true;
  }

  released(process: SimProcess): void {
    if (this.#leader?.process === process) this.#leader.released = true;
  }

  /** An object was created, by this process or by another one before it. */
  created(process: SimProcess, name: string): void {
    if (!name.startsWith('log/') || this.#takeovers.has(name)) return;
    const record = recordOf(this.#deps.objects, name);
    if (record.kind !== 'takeover' || record.writer !== process.name) return;
    this.#takeovers.add(name);
    this.#tookOver(process);
  }

  #tookOver(process: SimProcess): void {
    const { hit, fail, now, leaseMs, elected, taskManagers } = this.#deps;
    const before = this.#leader;
    this.#leader = { process, signAt: now(), released: false };
    const running = taskManagers().filter(({ attempt }) => attempt !== null);
    const [first] = running;
    const alike = running.every(({ attempt }) => attempt === first?.attempt);
    const processes = running.map((one) => one.process);
    const whole = alike && running.reduce((sum, { tasks }) => sum + tasks, 0) === first?.of;
    const { attempt = null } = first ?? {};
    this.#before = attempt === null ? null : { at: now(), attempt, processes, whole };
    if (before === null || !elected) return;
    if (before.released) hit('leader: succeeded one that released');
    else if (!before.process.alive) hit('leader: succeeded a dead one');
    else if (now() - before.signAt >= leaseMs) hit('leader: succeeded a silent one');
    else {
      const { name } = before.process;
      fail(new Error(`P39: ${process.name} claimed over ${name}, which lives`));
    }
  }

  /** What the new leader says of the tasks it found. */
  said(process: SimProcess, line: { msg: string; kind?: string; reason?: string }): void {
    const { hit, adopted, taskManagers } = this.#deps;
    if (line.msg !== 're-attach' || process !== this.#leader?.process) return;
    if (line.kind === 'adopt') {
      hit('leader: adopted the running tasks');
      adopted();
      return;
    }
    const reason = line.reason ?? '';
    if (/another plan/.test(reason)) hit('leader: refused tasks of another plan');
    else if (/several attempts/.test(reason)) hit('leader: refused tasks of several attempts');
    else if (/lost to its peers/.test(reason)) hit('leader: refused tasks that lost a peer');
    else if (/is stopped/.test(reason)) hit('leader: stopped while it waited for tasks');
    else this.#refused(reason, taskManagers());
  }

  /** Something of the attempt was not there: then something of it must have died. */
  #refused(reason: string, now: readonly SeenTaskManager[]): void {
    const { hit, wasCut } = this.#deps;
    hit('leader: refused tasks that are not all there');
    const before = this.#before;
    if (before === null || reason.includes('came without its tasks')) return;
    // The log may name a later one: the last leader had given theirs up.
    const named = /runs attempt (\d+)/.exec(reason)?.[1];
    if (named !== undefined && Number(named) !== before.attempt) return;
    const still = now.filter(
      ({ process, attempt }) =>
        attempt === before.attempt && before.processes.includes(process) && process.alive,
    );
    // Others had slots for all, and these have not noticed yet that the last leader is silent: that
    // they are not waited for is the price of a quick cold start (SETTLE_MS in reattach.ts).
    const unaware = still.every(({ soughtAt }) => soughtAt < before.at);
    if (named !== undefined && unaware) {
      hit('leader: refused tasks that had not noticed');
      return;
    }
    // Stopped or cut off, it could not come; HEARD_MS before, the last leader may have missed it.
    const absent = still.some(
      ({ process }) => process.frozen || wasCut(process.name, before.at - HEARD_MS),
    );
    if (absent) {
      hit('leader: refused tasks that could not be reached');
      return;
    }
    const whole = still.length === before.processes.length && before.whole;
    if (whole) this.#deps.fail(new Error(`P45: refused tasks that all run: ${reason}`));
  }
}
