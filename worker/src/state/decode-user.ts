/** One user of a checkpoint, from all its rows: for dumps, made by no other code path. */
import * as rows from './rows.ts';
import { SlabArena } from './slab-arena.ts';
import { type RowReader, UserState } from './user-state.ts';

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
  const read: RowReader = {
    profile: () => row(rows.PROFILE),
    chunks: (_, seqs) => seqs.map((seq) => row(rows.CHUNK, seq)),
  };
  const user = UserState.fromHead(new SlabArena(0), '', 0, row(rows.HEAD));
  return {
    profileText: user.texts(read).profileText,
    visitText: JSON.stringify(user.visit(read)),
    history: user.historyTexts(read),
    lastAccess: user.lastAccess,
  };
}
