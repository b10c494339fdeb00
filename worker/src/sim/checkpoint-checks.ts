/** One checkpoint against the fold (I1) and against the records it covers (I9). */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import type { Ledger, Manifest } from '../checkpoint/snapshot.ts';
import { placeKey, positionsOf } from '../rehearsal/honest-repeats.ts';
import { type DumpedUser, readUsers, type StoredVolatile } from '../rehearsal/stored-state.ts';
import type { Fold, FoldUser } from './fold.ts';
import type { ModelSplit } from './model-log.ts';

export function checkBalance(
  manifest: Manifest,
  volatile: StoredVolatile,
  splits: readonly ModelSplit[],
): void {
  const sum: Ledger = {
    accepted: 0,
    noMatch: 0,
    delivered: 0,
    deadLettered: 0,
    parked: 0,
    inOutbox: 0,
  };
  const names = Object.keys(sum) as (keyof Ledger)[];
  for (const { ledger, subtask } of manifest.subtasks) {
    const { accepted, noMatch, delivered, deadLettered, parked, inOutbox } = ledger;
    const rest = accepted - noMatch - delivered - deadLettered - parked - inOutbox;
    if (rest !== 0) throw fault('I9', manifest, `subtask ${subtask} is off by ${rest}`);
    for (const name of names) sum[name] += ledger[name];
  }
  const stored = volatile.ledger.totals(volatile.parked.size, volatile.outbox.size);
  for (const name of names) {
    if (stored[name] === sum[name]) continue;
    const what = `${name} is ${sum[name]}, ${stored[name]} in the volatile parts`;
    throw fault('I9', manifest, what);
  }
  let before = 0;
  for (const [partition, position] of positionsOf(manifest)) {
    before += splits[partition]!.records.filter(({ offset }) => offset < position).length;
  }
  if (before === sum.accepted) return;
  throw fault('I9', manifest, `${sum.accepted} accepted, ${before} records before its positions`);
}

export async function checkState(facts: {
  objects: StoredObjects;
  manifest: Manifest;
  /** When it was complete, by the clock that is right. */
  at: number;
  volatile: StoredVolatile;
  fold: Fold;
  limits: { ttlMs: number; ttlGraceMs: number };
  hit: (what: string) => void;
}): Promise<void> {
  const { objects, manifest, at, volatile, fold, limits, hit } = facts;
  const positions = positionsOf(manifest);
  const isApplied = ({ split, offset }: { split: number; offset: number }) =>
    offset < (positions.get(split) ?? 0) && !volatile.parked.has(placeKey(split, offset));
  const expected = fold.stateAt(isApplied);
  const found = await readUsers(objects, manifest);
  for (const [user, wanted] of expected) {
    const dumped = found.get(user);
    if (dumped !== undefined) {
      const differs = difference(dumped, wanted);
      if (differs !== null) throw fault('I1', manifest, `${user}: ${differs}`);
      continue;
    }
    // Gone by a purge, which follows the clock (P37), or dropped by a parked event that came too
    // late.
    const purged = at - wanted.lastAccess > limits.ttlMs + limits.ttlGraceMs;
    const next = fold.byUser.get(user)!.find((event) => !isApplied(event));
    const dropped = next?.fresh === true && volatile.parked.has(placeKey(next.split, next.offset));
    if (!purged && !dropped) throw fault('I1', manifest, `${user} is missing`);
    hit(dropped ? 'ttl: expired, its event is parked' : 'ttl: purged');
  }
  for (const user of found.keys()) {
    if (!expected.has(user)) throw fault('I1', manifest, `${user} should not be there`);
  }
  const counted = manifest.subtasks.reduce((sum, { figures }) => sum + figures.users, 0);
  if (counted === found.size) return;
  throw fault('I9', manifest, `the tasks count ${counted} users, there are ${found.size}`);
}

function difference(dumped: DumpedUser, wanted: FoldUser): string | null {
  const pairs: [string, string, string][] = [
    ['profile', dumped.profileText, wanted.profile],
    ['visit', dumped.visitText, wanted.visit],
    ['history', dumped.history.join(), wanted.history.join()],
    ['last access', String(dumped.lastAccess), String(wanted.lastAccess)],
  ];
  const [name, is, should] = pairs.find(([, a, b]) => a !== b) ?? [];
  return name === undefined ? null : `${name} is ${is}, should be ${should}`;
}

function fault(invariant: string, { checkpointId }: Manifest, what: string): Error {
  return new Error(`${invariant}, checkpoint ${checkpointId}: ${what}`);
}
