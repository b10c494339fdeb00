/**
 * Live users whose newest head is in a delta, but not in the backend: while a user is in memory
 * nobody reads its head from there but a base's scan. To write it at every barrier made RocksDB
 * take in, flush and compact a third more (bench, setting a), for rows that the next barrier
 * overwrote.
 */
import type { UserState } from './user-state.ts';
import type { WriteBuffer } from './write-buffer.ts';

/** Written at once where a base waits for them: half a millisecond. */
const HEADS_AT_ONCE = 64;

export class UnwrittenHeads {
  readonly #pending: WriteBuffer;
  /** By key group, as bases ask for them. */
  readonly #groups = new Map<number, Set<UserState>>();

  constructor(pending: WriteBuffer) {
    this.#pending = pending;
  }

  add(user: UserState): void {
    const known = this.#groups.get(user.keyGroup);
    if (known === undefined) this.#groups.set(user.keyGroup, new Set([user]));
    else known.add(user);
  }

  delete(user: UserState): boolean {
    return this.#groups.get(user.keyGroup)?.delete(user) ?? false;
  }

  /** The user leaves the memory, unchanged since its head was put into a delta. */
  write(user: UserState): void {
    if (this.delete(user)) this.#pending.put(user.id, user.headRow());
  }

  /**
   * Before a base is scanned (P13): some heads of the key group, as they are now; true when none is
   * left that the backend lacks.
   */
  writeHeads(keyGroup: number): boolean {
    const known = this.#groups.get(keyGroup);
    if (known === undefined) return true;
    let left = HEADS_AT_ONCE;
    for (const user of known) {
      if (left-- === 0) break;
      known.delete(user);
      this.#pending.put(user.id, user.headRow());
    }
    this.#pending.flush();
    if (known.size > 0) return false;
    this.#groups.delete(keyGroup);
    return true;
  }
}
