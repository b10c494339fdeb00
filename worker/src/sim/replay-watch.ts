/** What JobManagers say of replacements of lost tasks: which branch was taken. */
import type { SimProcess } from '../rehearsal/sim-process.ts';

export interface ReplayWatchDeps {
  hit(what: string): void;
  replaced(): void;
}

export class ReplayWatch {
  readonly #deps: ReplayWatchDeps;
  /** Who replaces lost tasks now. */
  #replacing: SimProcess | null = null;
  readonly #adopters = new Set<SimProcess>();

  constructor(deps: ReplayWatchDeps) {
    this.#deps = deps;
  }

  get replacing(): boolean {
    return this.#replacing?.alive === true;
  }

  said(process: SimProcess, { msg, kind }: { msg: string; kind?: string }): void {
    if (!process.alive) return;
    if (msg === 're-attach' && kind === 'adopt') this.#adopters.add(process);
    // Another attempt than the adopted one.
    if (msg === 'deploying') this.#adopters.delete(process);
    const branch = /^(lost tasks|replacement given up)(.*)$/.exec(msg);
    if (branch === null) return;
    const [, what, more = ''] = branch;
    this.#replacing = more === ' are being replaced' ? process : null;
    this.#deps.hit(`replay: ${what}${more.replace(/waited for.*/, 'the limit')}`);
    if (more !== ' replaced') return;
    this.#deps.replaced();
    if (this.#adopters.has(process)) this.#deps.hit('replay: in an adopted attempt');
  }

  ended(process: SimProcess): void {
    if (process !== this.#replacing) return;
    this.#replacing = null;
    this.#deps.hit('replay: given up, leader change');
  }
}
