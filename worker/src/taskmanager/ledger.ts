/**
 * Conservation (I9, P35): every accepted record is in exactly one place. Counted per key group, so
 * that a rescale moves the counts with the group; parked and outbox counts are taken from the
 * things themselves.
 */
import type { Ledger } from '../checkpoint/snapshot.ts';

const COUNTERS = ['accepted', 'noMatch', 'delivered', 'deadLettered'] as const;
export type LedgerCounter = (typeof COUNTERS)[number];

export class GroupLedger {
  readonly #counts: Record<LedgerCounter, Float64Array>;

  constructor(maxParallelism: number) {
    const make = () => new Float64Array(maxParallelism);
    this.#counts = { accepted: make(), noMatch: make(), delivered: make(), deadLettered: make() };
  }

  add(counter: LedgerCounter, keyGroup: number, count = 1): void {
    this.#counts[counter][keyGroup]! += count;
  }

  /**
   * Counts of one key group in the order accepted, noMatch, delivered, deadLettered; null if all 0.
   */
  group(keyGroup: number): number[] | null {
    const counts = COUNTERS.map((name) => this.#counts[name][keyGroup]!);
    return counts.some((count) => count !== 0) ? counts : null;
  }

  restore(keyGroup: number, counts: readonly number[]): void {
    COUNTERS.forEach((name, i) => {
      this.#counts[name][keyGroup] = counts[i]!;
    });
  }

  totals(parked: number, inOutbox: number): Ledger {
    const sum = (name: LedgerCounter) => this.#counts[name].reduce((a, b) => a + b, 0);
    return {
      accepted: sum('accepted'),
      noMatch: sum('noMatch'),
      delivered: sum('delivered'),
      deadLettered: sum('deadLettered'),
      parked,
      inOutbox,
    };
  }
}
