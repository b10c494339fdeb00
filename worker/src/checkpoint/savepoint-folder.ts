/**
 * Savepoints as they lie in a directory: which there are, and how one is disposed of. A folder with
 * `_metadata.json` and all objects at their lengths is complete; whatever happens here, one that is
 * not whole never looks so.
 */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { ObjectStore, StoredObject } from './object-store.ts';
import { parseSavepointPath, SAVEPOINT_METADATA } from './paths.ts';
import { missingOf, readSavepointMetadata, type SavepointOrigin } from './savepoint.ts';
import type { Manifest } from './snapshot.ts';

/**
 * A folder without metadata may be one that is being written. So long after its last object its
 * writer is taken for dead.
 */
const UNFINISHED_MIN_AGE_MS = 10 * 60_000;
/** Objects deleted by one call. */
const BATCH = 1_000;

export interface SavepointEntry {
  /** Below the directory that was listed; '' = the directory itself. */
  folder: string;
  /** Bytes that lie there, whatever they are worth. */
  bytes: number;
  /** Of the youngest object, by the store's clock, ms since the epoch. */
  modifiedAt: number;
  content:
    | { state: 'complete'; manifest: Manifest; origin: SavepointOrigin | null }
    /** No metadata: being written, or its writer died, or being disposed of. */
    | { state: 'unfinished' }
    | { state: 'damaged'; fault: string };
}

/** What is no damage of the savepoint itself is thrown on (P41). */
const DAMAGE: ReadonlySet<string> = new Set([
  'SAVEPOINT_MISSING',
  'SAVEPOINT_CORRUPT',
  'MANIFEST_CORRUPT',
  'MANIFEST_VERSION',
]);

/**
 * Every savepoint in `directory`, newest first. `open` opens one of its folders. `prefix`: only
 * those whose folder begins so.
 */
export async function listSavepoints(
  directory: ObjectStore,
  open: (folder: string) => Promise<ObjectStore>,
  prefix = '',
): Promise<SavepointEntry[]> {
  const folders = new Map<string, StoredObject[]>();
  for (const stored of await directory.list(prefix)) {
    const parsed = parseSavepointPath(stored.name);
    if (parsed === null) continue;
    const objects = folders.get(parsed.folder) ?? [];
    objects.push({ ...stored, name: parsed.object });
    folders.set(parsed.folder, objects);
  }
  const entries: SavepointEntry[] = [];
  for (const [folder, objects] of folders) {
    const bytes = objects.reduce((sum, object) => sum + object.bytes, 0);
    const modifiedAt = Math.max(...objects.map((object) => object.modifiedAt));
    const content = await contentOf(objects, () => open(folder));
    entries.push({ folder, bytes, modifiedAt, content });
  }
  const at = ({ content, modifiedAt }: SavepointEntry) =>
    content.state === 'complete' ? content.manifest.completedAt : modifiedAt;
  return entries.toSorted((a, b) => at(b) - at(a));
}

async function contentOf(
  objects: readonly StoredObject[],
  open: () => Promise<ObjectStore>,
): Promise<SavepointEntry['content']> {
  if (!objects.some(({ name }) => name === SAVEPOINT_METADATA)) return { state: 'unfinished' };
  try {
    const { manifest, origin } = await readSavepointMetadata(await open());
    const missing = missingOf(manifest, objects);
    if (missing.length === 0) return { state: 'complete', manifest, origin };
    const more = missing.length === 1 ? '' : `, and ${missing.length - 1} more`;
    return { state: 'damaged', fault: `${missing[0]}${more}` };
  } catch (thrown) {
    if (!(thrown instanceof TriggerJobError && DAMAGE.has(thrown.code))) throw thrown;
    return { state: 'damaged', fault: messageOf(thrown) };
  }
}

export interface DisposeReport {
  deleted: number;
  bytes: number;
  /** What lies in the folder and is not of a savepoint: it was left alone. */
  foreign: string[];
}

/**
 * Deletes the savepoint in `store`, metadata first: from then on it is no savepoint, so that a
 * crash in between leaves nothing that could be restored by halves. Called again, it goes on; where
 * nothing is, there is nothing to do. Deletes no name but a savepoint's. Throws NOT_A_SAVEPOINT,
 * and SAVEPOINT_UNFINISHED for one that may be being written.
 */
export async function disposeSavepoint(store: ObjectStore, now: number): Promise<DisposeReport> {
  const found = await store.list('');
  const own = found.filter(({ name }) => parseSavepointPath(name)?.folder === '');
  const foreign = found.filter((object) => !own.includes(object)).map(({ name }) => name);
  if (own.length === 0 && foreign.length > 0) {
    const fault = `${store.url} is no savepoint (it holds ${foreign[0]} and the like)`;
    throw new TriggerJobError('NOT_A_SAVEPOINT', `${fault}; nothing was deleted`);
  }
  const objects = own.filter(({ name }) => name !== SAVEPOINT_METADATA);
  if (objects.length < own.length) await refuseOthers(store, objects.length > 0);
  else refuseYoung(store, objects, now);
  await store.delete([SAVEPOINT_METADATA]);
  for (let at = 0; at < objects.length; at += BATCH) {
    await store.delete(objects.slice(at, at + BATCH).map(({ name }) => name));
  }
  const bytes = own.reduce((sum, object) => sum + object.bytes, 0);
  return { deleted: own.length, bytes, foreign };
}

/** A file of that name alone is no proof. A damaged one counts with objects beside it. */
async function refuseOthers(store: ObjectStore, hasObjects: boolean): Promise<void> {
  try {
    await readSavepointMetadata(store);
  } catch (thrown) {
    if (!(thrown instanceof TriggerJobError && DAMAGE.has(thrown.code))) throw thrown;
    if (hasObjects || thrown.code === 'MANIFEST_VERSION') return;
    const fault = `${store.url} is no savepoint: ${messageOf(thrown)}`;
    throw new TriggerJobError('NOT_A_SAVEPOINT', `${fault}; nothing was deleted`);
  }
}

function refuseYoung(store: ObjectStore, objects: readonly StoredObject[], now: number): void {
  const youngest = Math.max(0, ...objects.map(({ modifiedAt }) => modifiedAt));
  const waitMs = youngest + UNFINISHED_MIN_AGE_MS - now;
  if (objects.length === 0 || waitMs <= 0) return;
  const minutes = Math.ceil(waitMs / 60_000);
  throw new TriggerJobError(
    'SAVEPOINT_UNFINISHED',
    `${store.url} has no ${SAVEPOINT_METADATA} and was written to just now: a savepoint may be ` +
      `on its way; nothing was deleted, try again in ${minutes} min`,
  );
}
