/**
 * Leader changes (P45): what a new leader says of the tasks it finds. Where all of them ran from
 * before to after, with nothing lost, it must have adopted them: a restart would replay records.
 */
import type { SimTaskManager } from './sim-task-manager.ts';

export interface LeaderChecksDeps {
  hit(what: string): void;
  fail(fault: Error): void;
  taskManagers(): readonly SimTaskManager[];
  adopted(): void;
}

/** Reasons that are a fault of the outside, as the leader words them. */
const RIGHTLY =
  /runs another plan|is lost to its peers|came without its tasks|did not come|no TaskManager runs|job is stopped|not complete/;

export class LeaderChecks {
  readonly #deps: LeaderChecksDeps;

  constructor(deps: LeaderChecksDeps) {
    this.#deps = deps;
  }

  said(_leader: string, line: { msg: string; kind?: string; reason?: string }): void {
    const { hit, fail, adopted } = this.#deps;
    if (line.msg !== 're-attach') return;
    if (line.kind === 'adopt') {
      hit('leader: adopted the running tasks');
      adopted();
      return;
    }
    const reason = line.reason ?? '';
    hit(`leader: refused the running tasks: ${reason.replaceAll(/[a-z]+-\d+|\d+/g, 'n').slice(0, 40)}`);
    if (!RIGHTLY.test(reason)) fail(new Error(`P45: refused for "${reason}"`));
  }
}
