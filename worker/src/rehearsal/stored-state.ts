/**
 * What a checkpoint holds, read from its objects: the users, and what was on its way. Of the code
 * under test only the segment reader and the row decoder are used.
 */
import { chainOf, collectGroup } from '../checkpoint/chain.ts';
import { MemoryStore, type StoredObjects } from '../checkpoint/memory-store.ts';
import { SegmentCache } from '../checkpoint/segment-reader.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import { decodeUser } from '../state/decode-user.ts';
import { parseKey } from '../state/rows.ts';
import { GroupLedger } from '../taskmanager/ledger.ts';
import { restoreVolatile } from '../taskmanager/volatile.ts';
import { placeKey } from './honest-repeats.ts';

export type DumpedUser = ReturnType<typeof decodeUser>;

export interface StoredVolatile {
  /** Accepted, not judged: split/offset. */
  parked: Set<string>;
  /** Judged, not delivered. */
  outbox: Set<string>;
  ledger: GroupLedger;
}

export async function readUsers(
  objects: StoredObjects,
  manifest: Manifest,
): Promise<Map<string, DumpedUser>> {
  const segments = new SegmentCache(new MemoryStore({ now: () => 0 }, objects));
  const users = new Map<string, DumpedUser>();
  for (let keyGroup = 0; keyGroup < manifest.maxParallelism; keyGroup++) {
    const chain = chainOf(manifest.subtasks, keyGroup, manifest.checkpointId);
    if (chain === null) throw new Error(`no subtask owns key group ${keyGroup}`);
    const rowsByUser = new Map<string, Map<string, Buffer>>();
    for (const [key, value] of await collectGroup(segments, chain, keyGroup)) {
      const { userId, row, chunk } = parseKey(Buffer.from(key, 'latin1'));
      const rows = rowsByUser.get(userId) ?? new Map<string, Buffer>();
      rowsByUser.set(userId, rows.set(`${row}/${chunk}`, value));
    }
    for (const [userId, rows] of rowsByUser) users.set(userId, decodeUser(rows));
  }
  return users;
}

export async function readVolatile(
  objects: StoredObjects,
  manifest: Manifest,
): Promise<StoredVolatile> {
  const ledger = new GroupLedger(manifest.maxParallelism);
  const range = { first: 0, last: manifest.maxParallelism - 1 };
  const store = new MemoryStore({ now: () => 0 }, objects);
  const { parked, outbox } = await restoreVolatile(store, manifest.subtasks, range, ledger);
  return {
    parked: new Set(parked.map(({ split, offset }) => placeKey(split.partition, offset))),
    outbox: new Set(outbox.map(({ delivery }) => placeKey(delivery.partition, delivery.offset))),
    ledger,
  };
}
