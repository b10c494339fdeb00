/**
 * A user as it is, for people who look. Nothing moves by it: no access time, no place in the cache,
 * no counter, nothing parsed or read is kept, no row is written, nobody asks the Profile API. Live
 * users are looked at as the rows that they would be written as; of those on disk the newest chunks
 * alone are read.
 */
import * as rows from './rows.ts';
import { SlabArena } from './slab-arena.ts';
import { UserState } from './user-state.ts';
import type { UserStateManager } from './user-state-manager.ts';

export interface PeekLimits {
  /** Newest events of the history at most. */
  events: number;
  /** Of all texts together. */
  bytes: number;
}

/** Texts are JSON, byte for byte as the state holds them. */
export interface PeekedUser {
  from: 'memory' | 'disk';
  /** Stored bytes of profile, visit and history: what maxBytesPerUser limits. */
  bytes: number;
  /** Split time of the last access (P36), ms; -1 unknown. */
  lastAccess: number;
  /** Events of its history since the user was loaded, dropped ones included. */
  sequence: number;
  /** null: it alone is beyond `limits.bytes`. */
  profileText: string | null;
  visitText: string | null;
  /** The newest events that fit, oldest first. */
  history: string[];
  /** How many events the state holds. */
  historyEvents: number;
}

type Users = Pick<UserStateManager, 'cached' | 'stored'>;

/** null: the user is not in state. */
export function peekUser(
  users: Users,
  id: string,
  keyGroup: number,
  limits: PeekLimits,
): PeekedUser | null {
  const found = headOf(users, id, keyGroup);
  if (found === null) return null;
  const { from, head, row } = found;
  const profileRow = found.profile ?? users.stored.peekProfile({ keyGroup, id });
  const tooLarge = profileRow.length > limits.bytes;
  // A copy of its own to decode, as a dump does: the live one would keep what it parses.
  const copy = UserState.fromHead(new SlabArena(0), id, keyGroup, row);
  const read = { profile: () => profileRow, chunks: () => [] };
  const profileText = tooLarge ? null : copy.texts(read).profileText;
  const visitText = tooLarge ? null : JSON.stringify(copy.visit(read));
  const left = limits.bytes - (tooLarge ? 0 : profileRow.length);
  return {
    from,
    bytes: copy.storedBytes,
    lastAccess: head.lastAccess,
    sequence: head.nextSeq,
    profileText,
    visitText,
    history: newestEvents(users, { id, keyGroup }, found, { events: limits.events, bytes: left }),
    historyEvents: head.nextSeq - head.firstSeq,
  };
}

/** Stored bytes; null: the user is not in state. */
export function peekBytes(users: Users, id: string, keyGroup: number): number | null {
  const live = users.cached(id);
  if (live !== undefined) return live.storedBytes;
  const row = users.stored.peekHead({ keyGroup, id });
  return row === undefined
    ? null
    : UserState.fromHead(new SlabArena(0), id, keyGroup, row).storedBytes;
}

interface FoundHead {
  from: 'memory' | 'disk';
  row: Buffer;
  head: ReturnType<typeof rows.decodeHead>;
  /** null: in the backend. */
  profile: Buffer | null;
}

function headOf(users: Users, id: string, keyGroup: number): FoundHead | null {
  const live = users.cached(id);
  if (live !== undefined) {
    const { head: row, profile } = live.rowsNow();
    return { from: 'memory', row, head: rows.decodeHead(row), profile };
  }
  const row = users.stored.peekHead({ keyGroup, id });
  return row === undefined
    ? null
    : { from: 'disk', row, head: rows.decodeHead(row), profile: null };
}

/** Every closed chunk is written, be its user live or not, so only those that count are read. */
function newestEvents(
  users: Users,
  place: { id: string; keyGroup: number },
  { row, head }: FoundHead,
  limits: PeekLimits,
): string[] {
  const kept = head.nextSeq - head.firstSeq;
  const wanted = Math.min(kept, limits.events);
  const newest: string[] = [];
  let bytes = 0;
  /** Oldest first; false: no more of them is wanted. */
  const take = (texts: readonly string[]): boolean => {
    for (let i = texts.length - 1; i >= 0; i--) {
      bytes += Buffer.byteLength(texts[i]!) + 1;
      if (newest.length >= wanted || bytes > limits.bytes) return false;
      newest.push(texts[i]!);
    }
    return newest.length < wanted;
  };
  let more = take(rows.splitEvents(row, head.tailAt));
  for (let i = head.chunks.length - 1; more && i >= 0; i--) {
    const { seq } = head.chunks[i]!;
    more = take(rows.splitEvents(users.stored.peekChunk(place, seq)));
  }
  return newest.reverse();
}
