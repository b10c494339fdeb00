/** What live users have left in the backend: profiles and closed chunks. */
import { invariant } from '../runtime/errors.ts';
import { CHUNK, HEAD, PROFILE, rowKey, userPrefix } from './rows.ts';
import type { RowReader, UserState } from './user-state.ts';
import type { WriteBuffer } from './write-buffer.ts';

export type UserPlace = Pick<UserState, 'keyGroup' | 'id'>;

export class StoredRows implements RowReader {
  readonly #pending: WriteBuffer;

  constructor(pending: WriteBuffer) {
    this.#pending = pending;
  }

  profile({ keyGroup, id }: UserPlace): Buffer {
    return this.#read([rowKey(userPrefix(keyGroup, id), PROFILE)], [id])[0]!;
  }

  chunks({ keyGroup, id }: UserPlace, seqs: readonly number[]): Buffer[] {
    const prefix = userPrefix(keyGroup, id);
    return this.#read(
      seqs.map((seq) => rowKey(prefix, CHUNK, seq)),
      [id],
    );
  }

  /**
   * Gives the users what they lack of profile and chunks, in one multi-get: one for each user took
   * three times as long.
   */
  readAhead(profiles: ReadonlySet<UserState>, histories: ReadonlySet<UserState>): void {
    const keys: Buffer[] = [];
    const absent = [...histories].map((user) => ({ user, seqs: user.absentChunks() }));
    for (const { keyGroup, id } of profiles) keys.push(rowKey(userPrefix(keyGroup, id), PROFILE));
    for (const { user, seqs } of absent) {
      const prefix = userPrefix(user.keyGroup, user.id);
      for (const seq of seqs) keys.push(rowKey(prefix, CHUNK, seq));
    }
    const users = [...profiles, ...histories];
    const rows = this.#read(
      keys,
      users.map(({ id }) => id),
    );
    let at = 0;
    for (const user of profiles) user.giveTexts(rows[at++]!);
    for (const { user, seqs } of absent) {
      user.giveChunks(rows.slice(at, at + seqs.length));
      at += seqs.length;
    }
  }

  /**
   * As all peeks it writes nothing, but rows that are still to come from a restore. undefined:
   * there is no such user.
   */
  peekHead({ keyGroup, id }: UserPlace): Buffer | undefined {
    return this.#pending.peek(rowKey(userPrefix(keyGroup, id), HEAD));
  }

  peekProfile({ keyGroup, id }: UserPlace): Buffer {
    return this.#peek(rowKey(userPrefix(keyGroup, id), PROFILE));
  }

  peekChunk({ keyGroup, id }: UserPlace, seq: number): Buffer {
    return this.#peek(rowKey(userPrefix(keyGroup, id), CHUNK, seq));
  }

  #peek(key: Buffer): Buffer {
    return found(key, this.#pending.peek(key));
  }

  #read(keys: readonly Buffer[], users: Iterable<string>): Buffer[] {
    return this.#pending.getMany(keys, users).map((row, i) => found(keys[i]!, row));
  }
}

/** It is there or the user is torn, which P2 and P4 exclude. */
function found(key: Buffer, row: Buffer | undefined): Buffer {
  invariant(row !== undefined, `row ${key.toString('hex')} of a live user is missing`);
  return row;
}
