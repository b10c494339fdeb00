/** One user of a checkpoint, from all its rows: for dumps, made by no other code path. */
import * as rows from './rows.ts';
import { SlabArena } from './slab-arena.ts';
import { UserState } from './user-state.ts';

/** `userRows` by `row kind/chunk`; throws if one is missing. */
export function decodeUser(userRows: ReadonlyMap<string, Buffer>): {
  profileText: string;
  visitText: string;
  history: string[];
  lastAccess: number;
} {
  const row = (kind: number, seq = 0) => {
    const found = userRows.get(`${kind}/${seq}`);
    if (found === undefined) throw new Error(`user row ${kind}/${seq} is missing`);
    return found;
  };
  const [head, profile, tail] = [row(rows.HEAD), row(rows.PROFILE), row(rows.TAIL)];
  const user = UserState.fromRows(new SlabArena(), '', 0, { head, profile, tail });
  return {
    profileText: user.profileText,
    visitText: JSON.stringify(user.visit),
    history: user.historyTexts((_, seqs) => seqs.map((seq) => row(rows.CHUNK, seq))),
    lastAccess: user.lastAccess,
  };
}
