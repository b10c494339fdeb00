/**
 * The end of all that a job has stored, when its TriggerJob is deleted and says so: checkpoints,
 * signs of life, and the savepoints it made in its savepoint directory.
 *
 * The log's records stay, a few hundred bytes each, with `disposed` as the last one: they fence. A
 * leader that slept through its own end finds the record it would write taken, as after any claim;
 * where it was deleted, it could write it a second time (P39). Another job of that name begins
 * behind it, and from then on nothing is deleted: a disposer that was slow can't tell its objects
 * from what it was to delete (P48). Each step may be repeated, so a disposal that broke off is
 * simply done again.
 */
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { JobLog } from './log.ts';
import type { ObjectStore } from './object-store.ts';
import { type OpenOptions, removeEmptyStore } from './open-store.ts';
import { LEADERS, MANIFESTS, SEGMENTS, savepointPrefix } from './paths.ts';
import type { RunClaim } from './run-claim.ts';
import { disposeSavepoint, listSavepoints } from './savepoint-folder.ts';

/** Objects deleted by one call. */
const BATCH = 1_000;
/** Of what could not be deleted, this many are named. */
const MAX_LEFT = 5;

export interface DisposalReport {
  /** Objects of checkpoints. */
  deleted: number;
  savepoints: number;
  /** What was not deleted, and why; by far not all, if there are many. */
  left: string[];
}

/** Throws RUN_SUPERSEDED, LOG_UNAVAILABLE and what the store throws: then it is done again. */
export async function disposeJob(request: {
  env: Env;
  /** The job's own folder. */
  store: ObjectStore;
  run: RunClaim;
  writer: string;
  savepointDirectory: string;
  openStore(url: string, options: Pick<OpenOptions, 'readOnly'>): Promise<ObjectStore>;
}): Promise<DisposalReport> {
  const { env, store, run, writer } = request;
  const log = new JobLog({ store, env, writer, retained: 1, run });
  const end = await log.dispose({ run: run.number });
  // All before the first look at the log's end: what is not in it by then is the next job's.
  const listed: string[][] = [];
  // A manifest goes before what it names.
  for (const prefix of [MANIFESTS, SEGMENTS, LEADERS]) {
    listed.push((await store.list(prefix)).map(({ name }) => name));
  }
  const lineage = end?.kind === 'disposed' ? end.lineage : null;
  const savepoints =
    lineage === null ? { disposed: 0, left: [] } : await disposeSavepoints(request, log, lineage);
  let deleted = 0;
  for (const names of listed) {
    for (let at = 0; at < names.length; at += BATCH) {
      await log.confirmDisposed();
      await store.delete(names.slice(at, at + BATCH));
    }
    deleted += names.length;
  }
  return { deleted, savepoints: savepoints.disposed, left: savepoints.left.slice(0, MAX_LEFT) };
}

/** Those that this very folder's job took: another job that began with one has the same lineage. */
async function disposeSavepoints(
  { env, store, savepointDirectory, openStore }: Parameters<typeof disposeJob>[0],
  log: Pick<JobLog, 'confirmDisposed'>,
  lineage: string,
): Promise<{ disposed: number; left: string[] }> {
  const parent = savepointDirectory.replace(/\/+$/, '');
  const open = (folder: string) => openStore(`${parent}/${folder}`, { readOnly: true });
  const directory = await openStore(parent, { readOnly: true });
  const left: string[] = [];
  let disposed = 0;
  const found = await listSavepoints(directory, open, savepointPrefix(lineage));
  for (const { folder, content } of found) {
    if (content.state !== 'complete') left.push(`${parent}/${folder} is ${content.state}`);
    else if (content.origin?.store === store.url && content.manifest.lineage === lineage) {
      // The next job may have begun with one of them, and then takes its own under their lineage.
      await log.confirmDisposed();
      try {
        const savepoint = await open(folder);
        await disposeSavepoint(savepoint, env.now());
        await removeEmptyStore(savepoint.url);
        disposed += 1;
      } catch (fault) {
        if (!(fault instanceof TriggerJobError) || fault.retryable) throw fault;
        left.push(`${parent}/${folder}: ${messageOf(fault)}`);
      }
    }
  }
  return { disposed, left };
}
