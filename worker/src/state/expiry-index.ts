/**
 * Which users may have expired, without a scan of the state: with each head, a row keyed by the
 * minute of its last access is written to the local database only. It is a hint: whoever reads it
 * checks the live entry or the head again (P37), and a stale mark is simply removed. Marks never
 * enter a segment; restore writes them anew from the heads. A scan of all heads was rejected: it
 * would read each of them to find a few.
 */
import { type UserRow, userPrefix } from './rows.ts';
import type { UserState } from './user-state.ts';

/** Above every key group (at most 32767), so marks never fall into a scan of one. */
const MARK_PREFIX = 0xffff;
const EMPTY = Buffer.alloc(0);

export interface ExpiryMark {
  key: Buffer;
  keyGroup: number;
  userId: string;
}

export class ExpiryIndex {
  readonly #ttlMs: number;
  /** Grain of the marks: a tenth of the TTL, at most a minute, at least a second. */
  readonly #grainMs: number;

  constructor(ttlMs: number) {
    this.#ttlMs = ttlMs;
    this.#grainMs = Math.min(60_000, Math.max(1000, Math.floor(ttlMs / 10)));
  }

  /** Users with one grain share nothing but need one mark: a new one only when it changes. */
  grainOf(lastAccess: number): number {
    return lastAccess < 0 ? -1 : Math.floor(lastAccess / this.#grainMs);
  }

  markRow(user: Pick<UserState, 'id' | 'keyGroup' | 'lastAccess'>): UserRow | null {
    if (user.lastAccess < 0) return null;
    return { key: this.#key(user.lastAccess, userPrefix(user.keyGroup, user.id)), value: EMPTY };
  }

  /** Range of the marks of users that had expired at `time` (ms): gte and lt for a scan. */
  expiredRange(time: number): { gte: Buffer; lt: Buffer } {
    const cutoff = Math.max(0, time - this.#ttlMs);
    return { gte: this.#key(0, EMPTY), lt: this.#key(cutoff, EMPTY) };
  }

  parse(key: Buffer): ExpiryMark {
    return {
      key,
      keyGroup: key.readUInt16BE(6),
      userId: key.toString('utf8', 10, 10 + key.readUInt16BE(8)),
    };
  }

  #key(time: number, prefix: Buffer): Buffer {
    const key = Buffer.allocUnsafe(6 + prefix.length);
    key.writeUInt16BE(MARK_PREFIX, 0);
    key.writeUInt32BE(this.grainOf(time) >>> 0, 2);
    prefix.copy(key, 6);
    return key;
  }
}
