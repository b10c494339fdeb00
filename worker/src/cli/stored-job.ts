/**
 * A job's checkpoints as they lie in the store, read without being its leader: nothing is written.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { JobLog } from '../checkpoint/log.ts';
import { type Candidate, readState } from '../checkpoint/log-record.ts';
import { decodeManifest } from '../checkpoint/manifest.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { openStore } from '../checkpoint/open-store.ts';
import { jobFolder, logPath } from '../checkpoint/paths.ts';
import { loadCheckpoint } from '../checkpoint/recover.ts';
import { fetchObject } from '../checkpoint/segment-reader.ts';
import type { Manifest, ObjectRef } from '../checkpoint/snapshot.ts';
import type { S3Plan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { invariant, TriggerJobError } from '../runtime/errors.ts';

/** Ids that a message names. */
const SHOWN_IDS = 20;

export interface CheckpointFacts {
  checkpointId: number;
  kind: Manifest['kind'];
  completedAt: number;
  /** Written for this checkpoint, and all bytes it refers to. */
  uploadedBytes: number;
  stateBytes: number;
}

interface JobName {
  namespace: string;
  name: string;
}

/** The job's own folder in a checkpoint directory. */
function openJob(
  directory: string,
  job: JobName,
  env: Env,
  s3: S3Plan | undefined,
): Promise<ObjectStore> {
  return openToRead(jobFolder(directory, job), env, s3);
}

function openToRead(url: string, env: Env, s3: S3Plan | undefined): Promise<ObjectStore> {
  return openStore(url, env, { creates: false, ...(s3 === undefined ? {} : { s3 }) });
}

/** null: the job has no checkpoint yet. */
export async function newestCheckpoint(
  directory: string,
  job: JobName,
  env: Env,
  s3: S3Plan,
): Promise<CheckpointFacts | null> {
  const store = await openJob(directory, job, env, s3);
  const newest = (await checkpointLine(store, env, false)).at(-1);
  if (newest === undefined) return null;
  const content = await fetchObject(store, newest.manifest);
  const manifest = decodeManifest(content, newest.manifest.name);
  const { checkpointId, kind, completedAt, subtasks } = manifest;
  let uploadedBytes = 0;
  let stateBytes = 0;
  for (const { figures } of subtasks) {
    uploadedBytes += figures.uploadedBytes;
    stateBytes += figures.stateBytes;
  }
  return { checkpointId, kind, completedAt, uploadedBytes, stateBytes };
}

/** The only job of a checkpoint directory, or the one that is named `<namespace>/<name>`. */
export async function findJob(
  directory: string,
  wanted: string | null,
  env: Env,
  s3?: S3Plan,
): Promise<ObjectStore> {
  const jobs = isAbsent(directory)
    ? []
    : await jobsIn(await openToRead(directory, env, s3), wanted);
  const chosen = wanted ?? (jobs.length === 1 ? jobs[0] : undefined);
  if (chosen !== undefined && jobs.includes(chosen)) {
    const [namespace, name] = chosen.split('/');
    invariant(namespace !== undefined && name !== undefined, `${chosen} is namespace/name`);
    return openJob(directory, { namespace, name }, env, s3);
  }
  const known = jobs.length === 0 ? 'no job' : jobs.join(', ');
  const fix = wanted === null && jobs.length > 1 ? ': choose one with --job' : '';
  throw new TriggerJobError('NO_JOB', `${directory} holds ${known}${fix}`);
}

/** Every job with a log; only `wanted` where it is there: a bucket may hold millions of objects. */
async function jobsIn(store: ObjectStore, wanted: string | null): Promise<string[]> {
  if (wanted !== null && /^[^/]+\/[^/]+$/.test(wanted)) {
    if ((await store.list(`${wanted}/${logPath(0)}`)).length > 0) return [wanted];
  }
  const jobs = new Set<string>();
  for (const { name } of await store.list('')) {
    const match = /^([^/]+\/[^/]+)\/log\//.exec(name);
    if (match?.[1] !== undefined) jobs.add(match[1]);
  }
  return [...jobs].toSorted();
}

/** Opening a store makes its directory, which a look at a mistyped path must not do. */
function isAbsent(directory: string): boolean {
  if (directory.startsWith('file:')) return !existsSync(fileURLToPath(directory));
  return !directory.includes('://') && !existsSync(directory);
}

/**
 * Of the given checkpoint, or of the last completed one. Throws NO_CHECKPOINT, naming what is
 * there.
 */
export async function manifestOf(
  store: ObjectStore,
  env: Env,
  id: number | null,
): Promise<Manifest> {
  const line = await checkpointLine(store, env, id !== null);
  const found = id === null ? line.at(-1) : line.findLast((entry) => entry.checkpointId === id);
  if (found !== undefined) return loadCheckpoint(store, found.manifest, 'manifest');
  const ids = line
    .map((entry) => entry.checkpointId)
    .slice(-SHOWN_IDS)
    .join(', ');
  throw new TriggerJobError(
    'NO_CHECKPOINT',
    `${store.url} has no ${id === null ? 'completed checkpoint' : `checkpoint ${id}`}` +
      (ids === '' ? '' : `; recent ones: ${ids}`),
  );
}

/** The newest `retained` checkpoints, newest first; `load` reads the manifest alone. */
export async function retainedOf(
  store: ObjectStore,
  env: Env,
  retained: number,
): Promise<{ checkpointId: number; ref: ObjectRef; load: () => Promise<Manifest> }[]> {
  const line = await checkpointLine(store, env, true);
  return line
    .slice(-retained)
    .toReversed()
    .map(({ checkpointId, manifest: ref }) => ({
      checkpointId,
      ref,
      load: async () => decodeManifest(await fetchObject(store, ref), ref.name),
    }));
}

/** The checkpoints that count, oldest first; `whole`: the log from its start, not just its end. */
async function checkpointLine(
  store: ObjectStore,
  env: Env,
  whole: boolean,
): Promise<readonly Candidate[]> {
  const log = new JobLog({ store, env, writer: 'cli', retained: 0 });
  return readState(whole ? await log.readAll() : await log.readTail()).line;
}
