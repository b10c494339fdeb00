/**
 * Leader changes. Nobody claims over a leader that lives (P39), and where all tasks of the attempt
 * ran from before to after, the new leader adopts them (P45): a restart would replay records.
 */
import type { SimProcess } from './virtual-time.ts';

/** What the checks need of a TaskManager. */
export interface SeenTaskManager {
  readonly process: SimProcess;
  readonly attempt: number | null;
}

export interface LeaderChecksDeps {
  hit(what: string): void;
  now(): number;
  leaseMs: number;
  taskManagers(): readonly SeenTaskManager[];
  adopted(): void;
}

/** A refusal for one of these while nothing had happened to the tasks is a bug. */
const TASKS_ARE_GONE = /came without its tasks|did not come|no TaskManager runs|not complete/;

export class LeaderChecks {
  readonly #deps: LeaderChecksDeps;
  #leader: { process: SimProcess; signAt: number; released: boolean } | null = null;
  /** Processes that ran the attempt when the last leader was gone; null: not all of it ran. */
  #before: { attempt: number; processes: readonly SimProcess[] } | null = null;

  constructor(deps: LeaderChecksDeps) {
    this.#deps = deps;
  }

  /** Its sign of life is in the store. */
  signed(process: SimProcess): void {
    if (this.#leader?.process === process) this.#leader.signAt = this.#deps.now();
  }

  released(process: SimProcess): void {
    if (this.#leader?.process === process) this.#leader.released = true;
  }

  /** Its takeover is in the log. `elected`: claimed in an election. */
  tookOver(process: SimProcess, elected: boolean): void {
    const { hit, now, leaseMs, taskManagers } = this.#deps;
    const before = this.#leader;
    this.#leader = { process, signAt: now(), released: false };
    const running = taskManagers().filter(({ attempt }) => attempt !== null);
    const [first] = running;
    const alike = running.every(({ attempt }) => attempt === first?.attempt);
    const processes = running.map((one) => one.process);
    this.#before = alike && first?.attempt != null ? { attempt: first.attempt, processes } : null;
    if (before === null || !elected) return;
    if (!before.process.alive) hit('leader: succeeded a dead one');
    else if (before.released) hit('leader: succeeded one that released');
    else if (now() - before.signAt >= leaseMs) hit('leader: succeeded a silent one');
    else throw new Error(`P39: ${process.name} claimed over ${before.process.name}, which lives`);
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
    const reason = (line.reason ?? '').replaceAll(/[a-z]+-\d+|\d+/g, 'n').slice(0, 40);
    hit(`leader: refused the running tasks: ${reason}`);
    const before = this.#before;
    if (before === null || before.processes.length === 0 || !TASKS_ARE_GONE.test(reason)) return;
    const still = taskManagers().filter(({ attempt }) => attempt === before.attempt);
    if (still.length === before.processes.length) {
      hit('leader: refused tasks that run');
    }
  }
}
