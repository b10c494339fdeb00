/**
 * I3, the judge: what a receiver may get twice. A repeat has the id it had before, comes once from
 * each attempt, and its event was replayed or held (parked, outbox) by the checkpoint with which
 * the attempt began. Used by the simulation and by `triggerjob test`.
 */

import type { DeadLetter } from '../action/action.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';

/** Something that arrived at the webhook or in the dead letter. */
export interface Receipt {
  to: 'webhook' | 'deadLetter';
  id: string;
  userId: string;
  partition: number;
  offset: number;
  body: string;
  attempt: number;
  /** Counts the calls of the outbox within a process: a retry of one call has its number. */
  call: string;
  stage: DeadLetter['stage'] | null;
}

/** What an attempt began with; places are `placeKey`s. */
export interface StartedAttempt {
  manifest: Manifest;
  /** Accepted, not judged. */
  parked: ReadonlySet<string>;
  /** Judged, not delivered. */
  outbox: ReadonlySet<string>;
}

export function placeKey(partition: number, offset: number): string {
  return `${partition}/${offset}`;
}

/** Next offset per partition. */
export function positionsOf(manifest: Manifest): Map<number, number> {
  return new Map(manifest.splits.map(({ split, offset }) => [split.partition, offset]));
}

export const receiptKey = ({ partition, offset }: Receipt): string => placeKey(partition, offset);

/** The record itself was refused; anything else is about a match. */
export const isRefusal = ({ to, stage }: Receipt): boolean =>
  to === 'deadLetter' && stage === 'state';

/** Throws what is wrong with a repeat; tells `onRepeat` of each honest one. */
export function checkRepeats(
  receipts: readonly Receipt[],
  attempts: ReadonlyMap<number, StartedAttempt>,
  onRepeat: (kind: 'replayed' | 'from a checkpoint') => void,
): void {
  const ids = new Map<string, string>();
  const calls = new Map<string, string>();
  const seen = new Set<string>();
  for (const receipt of receipts) {
    const key = receiptKey(receipt);
    const kind = isRefusal(receipt) ? 'refused' : 'done';
    const known = ids.get(`${kind} ${key}`) ?? receipt.id;
    if (known !== receipt.id) throw new Error(`I3: ${key} arrived under two ids`);
    ids.set(`${kind} ${key}`, known);
    const call = calls.get(`${receipt.attempt} ${receipt.to} ${receipt.id}`) ?? receipt.call;
    if (call !== receipt.call) throw new Error(`I3: ${key} was sent twice by one attempt`);
    calls.set(`${receipt.attempt} ${receipt.to} ${receipt.id}`, call);
    const started = attempts.get(receipt.attempt)!;
    const replayed = receipt.offset >= (positionsOf(started.manifest).get(receipt.partition) ?? 0);
    const held = started.outbox.has(key) || started.parked.has(key);
    if (!replayed && !held) {
      throw new Error(`I3: attempt ${receipt.attempt} sent ${key}, which is behind its checkpoint`);
    }
    if (seen.has(receipt.id)) onRepeat(replayed ? 'replayed' : 'from a checkpoint');
    seen.add(receipt.id);
  }
  if (new Set(ids.values()).size !== ids.size) throw new Error('I3: two records have one id');
}
