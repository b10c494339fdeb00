/**
 * What arrived at the webhook and the dead letter in a whole run, against the fold (I2, I3, I4).
 */
import {
  checkRepeats,
  isRefusal,
  type Receipt,
  receiptKey,
  type StartedAttempt,
} from '../rehearsal/honest-repeats.ts';
import type { Fold, FoldEvent } from './fold.ts';

export interface DeliveryFacts {
  fold: Fold;
  receipts: readonly Receipt[];
  attempts: ReadonlyMap<number, StartedAttempt>;
  /** Script versions that may have ruled. */
  scripts: ReadonlySet<string>;
  hit: (what: string) => void;
}

export function checkDeliveries(facts: DeliveryFacts): void {
  const arrived = new Set<string>();
  for (const receipt of facts.receipts) {
    checkContent(facts, receipt);
    arrived.add(`${isRefusal(receipt) ? 'refused' : 'done'} ${receiptKey(receipt)}`);
  }
  for (const [key, event] of facts.fold.events) {
    if (matches(facts, event, 'every') && !arrived.has(`done ${key}`)) {
      throw new Error(`I2: event ${key} of ${event.user} matches and never arrived`);
    }
  }
  for (const key of facts.fold.refused) {
    if (!arrived.has(`refused ${key}`)) throw new Error(`I2: record ${key} is no dead letter`);
  }
  for (const events of facts.fold.byUser.values()) {
    if (events.slice(1).some(({ fresh }) => fresh)) facts.hit('ttl: expired and came back');
  }
  checkRepeats(facts.receipts, facts.attempts, (kind) => facts.hit(`repeat: ${kind}`));
  checkOrder(facts);
}

function matches({ scripts }: DeliveryFacts, event: FoldEvent, how: 'some' | 'every'): boolean {
  return [...scripts][how]((version) => event.verdicts[version]!);
}

function checkContent(facts: DeliveryFacts, receipt: Receipt): void {
  const key = receiptKey(receipt);
  if (isRefusal(receipt)) {
    if (!facts.fold.refused.has(key)) throw new Error(`I8: record ${key} was refused, it is good`);
    return;
  }
  const event = facts.fold.events.get(key);
  if (event === undefined) throw new Error(`I2: ${key} arrived at the ${receipt.to}`);
  if (!matches(facts, event, 'some')) throw new Error(`I2: ${key} arrived and does not match`);
  if (receipt.userId !== event.user) throw new Error(`I2: ${key} arrived for ${receipt.userId}`);
  if (receipt.body !== event.body) {
    throw new Error(`P33: ${key} arrived as ${receipt.body}, should be ${event.body}`);
  }
}

/**
 * Verdicts that a changed script may turn are left out: replay judges by the stored script (P34).
 */
function checkOrder(facts: DeliveryFacts): void {
  const last = new Map<string, number>();
  const seen = new Set<string>();
  for (const receipt of facts.receipts) {
    const event = facts.fold.events.get(receiptKey(receipt));
    if (isRefusal(receipt) || event === undefined || seen.has(receipt.id)) continue;
    if (!matches(facts, event, 'every')) continue;
    seen.add(receipt.id);
    const place = facts.fold.byUser.get(event.user)!.indexOf(event);
    if (place < (last.get(event.user) ?? -1)) {
      throw new Error(`I4: ${receiptKey(receipt)} of ${event.user} arrived after a later event`);
    }
    last.set(event.user, place);
  }
}
