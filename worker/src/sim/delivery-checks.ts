/**
 * What arrived at the webhook and the dead letter in a whole run, against the fold (I2, I3, I4).
 */
import type { Manifest } from '../checkpoint/snapshot.ts';
import { positionsOf } from './checkpoint-checks.ts';
import { type Fold, type FoldEvent, placeKey } from './fold.ts';
import type { Receipt } from './model-services.ts';

/** What an attempt began with, by the log. */
export interface StartedAttempt {
  manifest: Manifest;
  parked: ReadonlySet<string>;
  outbox: ReadonlySet<string>;
}

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
    arrived.add(`${isRefusal(receipt) ? 'refused' : 'done'} ${keyOf(receipt)}`);
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
  checkRepeats(facts);
  checkOrder(facts);
}

const keyOf = ({ partition, offset }: Receipt): string => placeKey(partition, offset);
const isRefusal = ({ to, stage }: Receipt): boolean => to === 'deadLetter' && stage === 'state';

function matches({ scripts }: DeliveryFacts, event: FoldEvent, how: 'some' | 'every'): boolean {
  return [...scripts][how]((version) => event.verdicts[version]!);
}

function checkContent(facts: DeliveryFacts, receipt: Receipt): void {
  const key = keyOf(receipt);
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

function checkRepeats(facts: DeliveryFacts): void {
  const ids = new Map<string, string>();
  const calls = new Map<string, string>();
  const seen = new Set<string>();
  for (const receipt of facts.receipts) {
    const key = keyOf(receipt);
    const kind = isRefusal(receipt) ? 'refused' : 'done';
    const known = ids.get(`${kind} ${key}`) ?? receipt.id;
    if (known !== receipt.id) throw new Error(`I3: ${key} arrived under two ids`);
    ids.set(`${kind} ${key}`, known);
    const call = calls.get(`${receipt.attempt} ${receipt.to} ${receipt.id}`) ?? receipt.call;
    if (call !== receipt.call) throw new Error(`I3: ${key} was sent twice by one attempt`);
    calls.set(`${receipt.attempt} ${receipt.to} ${receipt.id}`, call);
    const started = facts.attempts.get(receipt.attempt)!;
    const replayed = receipt.offset >= (positionsOf(started.manifest).get(receipt.partition) ?? 0);
    const held = started.outbox.has(key) || started.parked.has(key);
    if (!replayed && !held) {
      throw new Error(`I3: attempt ${receipt.attempt} sent ${key}, which is behind its checkpoint`);
    }
    if (seen.has(receipt.id)) facts.hit(`repeat: ${replayed ? 'replayed' : 'from a checkpoint'}`);
    seen.add(receipt.id);
  }
  if (new Set(ids.values()).size !== ids.size) throw new Error('I3: two records have one id');
}

/**
 * Verdicts that a changed script may turn are left out: replay judges by the stored script (P34).
 */
function checkOrder(facts: DeliveryFacts): void {
  const last = new Map<string, number>();
  const seen = new Set<string>();
  for (const receipt of facts.receipts) {
    const event = facts.fold.events.get(keyOf(receipt));
    if (isRefusal(receipt) || event === undefined || seen.has(receipt.id)) continue;
    if (!matches(facts, event, 'every')) continue;
    seen.add(receipt.id);
    const place = facts.fold.byUser.get(event.user)!.indexOf(event);
    if (place < (last.get(event.user) ?? -1)) {
      throw new Error(`I4: ${keyOf(receipt)} of ${event.user} arrived after a later event`);
    }
    last.set(event.user, place);
  }
}
