/** Conservation (I9, P35): every accepted record is in exactly one place. Pure. */
import type { Ledger } from './snapshot.ts';

/** 0, unless records were lost or counted twice. */
export function imbalance(ledger: Ledger): number {
  const { accepted, noMatch, delivered, deadLettered, parked, inOutbox } = ledger;
  return accepted - noMatch - delivered - deadLettered - parked - inOutbox;
}

/** Of the job, from its subtasks'. */
export function sumOfLedgers(subtasks: readonly { ledger: Ledger }[]): Ledger {
  const sum = (of: keyof Ledger) => subtasks.reduce((total, { ledger }) => total + ledger[of], 0);
  return {
    accepted: sum('accepted'),
    noMatch: sum('noMatch'),
    delivered: sum('delivered'),
    deadLettered: sum('deadLettered'),
    parked: sum('parked'),
    inOutbox: sum('inOutbox'),
  };
}
