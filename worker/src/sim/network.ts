/**
 * Which ways between processes, and between a process and the store, are cut. A cut has a
 * direction: what goes the other way arrives. What a cut holds arrives when it is over, as TCP
 * sends it again; what it loses is gone, and with it the connection it was sent on.
 */
import type { VirtualTime } from '../rehearsal/virtual-time.ts';

export const STORE = 'store';

export interface Cut {
  /** Names of processes, or STORE. */
  from: string;
  to: string;
  lost: boolean;
  sinceMs: number;
  untilMs: number;
}

export class Network {
  readonly #time: VirtualTime;
  /** Those that are over, too. */
  readonly #cuts: Cut[] = [];

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  cut(from: string, to: string, { lost, ms }: { lost: boolean; ms: number }): Cut {
    const sinceMs = this.#time.nowMs;
    const cut = { from, to, lost, sinceMs, untilMs: sinceMs + ms };
    this.#cuts.push(cut);
    return cut;
  }

  /** What is on this way now; null: it is open. */
  between(from: string, to: string): Cut | null {
    const now = this.#time.nowMs;
    const found = this.#cuts.filter(
      (cut) => cut.from === from && cut.to === to && cut.untilMs > now,
    );
    return found.toSorted((a, b) => b.untilMs - a.untilMs)[0] ?? null;
  }

  /** Something to or from it was cut then or later. */
  wasCut(name: string, sinceMs: number): boolean {
    return this.#cuts.some(
      ({ from, to, untilMs }) => (from === name || to === name) && untilMs > sinceMs,
    );
  }
}
