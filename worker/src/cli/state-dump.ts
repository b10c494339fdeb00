/**
 * `triggerjob state dump`: the users of a checkpoint as NDJSON, sorted by the bytes of user_id,
 * read from the checkpoint's objects alone: no RocksDB, no running job, none of the code that wrote
 * them but the segment reader and the row decoder. One key group is in memory at a time; its lines
 * wait in a temporary file until all ids are known and sorted.
 */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chainOf, collectGroup } from '../checkpoint/chain.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { SegmentCache } from '../checkpoint/segment-reader.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { decodeUser } from '../state/decode-user.ts';
import { parseKey } from '../state/rows.ts';

/** A place in the temporary file. */
interface LinePlace {
  id: Buffer;
  offset: number;
  bytes: number;
}

/**
 * `write` gets one line at a time, with its newline. `onGroup`: how many key groups are read.
 * Returns the number of users.
 */
export async function dumpState(
  store: ObjectStore,
  manifest: Manifest,
  write: (line: Buffer) => Promise<void>,
  onGroup: (groups: number) => void = () => undefined,
): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'triggerjob-dump-'));
  const file = await open(join(folder, 'lines'), 'wx+');
  try {
    const places = await spoolLines(store, manifest, file, onGroup);
    places.sort((a, b) => Buffer.compare(a.id, b.id));
    for (const place of places) {
      const line = Buffer.alloc(place.bytes);
      await file.read(line, 0, place.bytes, place.offset);
      await write(line);
    }
    return places.length;
  } finally {
    await file.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** One user's line, without its newline; null: it is not in this checkpoint. */
export async function userIn(
  store: ObjectStore,
  manifest: Manifest,
  userId: string,
): Promise<string | null> {
  const { maxParallelism, subtasks, checkpointId } = manifest;
  const keyGroup = keyGroupOf(userId, maxParallelism);
  const chain = chainOf(subtasks, keyGroup, checkpointId);
  if (chain === null) return null;
  const users = usersOf(await collectGroup(new SegmentCache(store), chain, keyGroup));
  const rows = users.get(userId);
  return rows === undefined ? null : userLine(userId, rows);
}

async function spoolLines(
  store: ObjectStore,
  manifest: Manifest,
  file: FileHandle,
  onGroup: (groups: number) => void,
): Promise<LinePlace[]> {
  const segments = new SegmentCache(store);
  const places: LinePlace[] = [];
  let offset = 0;
  for (let keyGroup = 0; keyGroup < manifest.maxParallelism; keyGroup += 1) {
    onGroup(keyGroup);
    const chain = chainOf(manifest.subtasks, keyGroup, manifest.checkpointId);
    if (chain === null) {
      // An initial manifest has no subtasks: nothing was read yet. Otherwise users would be left
      // out.
      if (manifest.kind === 'initial') continue;
      throw new TriggerJobError(
        'MANIFEST_CORRUPT',
        `checkpoint ${manifest.checkpointId}: no subtask owns key group ${keyGroup}`,
      );
    }
    for (const [userId, rows] of usersOf(await collectGroup(segments, chain, keyGroup))) {
      const line = Buffer.from(`${userLine(userId, rows)}\n`, 'utf8');
      await file.write(line, 0, line.length, offset);
      places.push({ id: Buffer.from(userId, 'utf8'), offset, bytes: line.length });
      offset += line.length;
    }
  }
  return places;
}

/** Rows by user, in the shape of the row decoder: `<row kind>/<chunk>`. */
function usersOf(rows: ReadonlyMap<string, Buffer>): Map<string, Map<string, Buffer>> {
  const users = new Map<string, Map<string, Buffer>>();
  for (const [key, value] of rows) {
    const { userId, row, chunk } = parseKey(Buffer.from(key, 'latin1'));
    const user = users.get(userId) ?? new Map<string, Buffer>();
    users.set(userId, user.set(`${row}/${chunk}`, value));
  }
  return users;
}

/** Raw texts are embedded as they are: a dump shows the bytes that the state holds. */
function userLine(userId: string, rows: ReadonlyMap<string, Buffer>): string {
  const { profileText, visitText, history, lastAccess } = decodeUser(rows);
  return (
    `{"user_id":${JSON.stringify(userId)},"profile":${profileText},"visit":${visitText},` +
    `"history":[${history.join(',')}],"last_access":${lastAccess}}`
  );
}
