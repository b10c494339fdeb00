/**
 * Savepoints (P49): a folder that stands alone. It shares no object with any job, so deleting it
 * breaks no job, nor the reverse; `_metadata.json` comes last, so a folder without it is no
 * savepoint.
 */
import { createHash } from 'node:crypto';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import { type CopyRequest, copyObjects } from './copy-objects.ts';
import type { JobLog } from './log.ts';
import { decodeManifest, encodeManifest, objectsOf } from './manifest.ts';
import type { ObjectStore, StoredObject } from './object-store.ts';
import {
  importedPath,
  SAVEPOINT_METADATA,
  SAVEPOINT_OBJECTS,
  savepointObjectPath,
} from './paths.ts';
import { storeManifest } from './publish.ts';
import type { Manifest, ObjectRef, RecordedDeployment } from './snapshot.ts';

/**
 * Who made a savepoint, for the retention of periodic ones: only the job in `store` deletes its
 * own. Not part of what a restore reads.
 */
export interface SavepointOrigin {
  trigger: 'user' | 'periodic';
  /** URL of the job's own folder. */
  store: string;
}

/**
 * Copies `manifest` and all its objects from the job's store `from` into the empty folder `to`;
 * each copy is read back. Keep the objects pinned in `from` meanwhile (gc.ts). Throws
 * SAVEPOINT_EXISTS if the folder holds a savepoint already, SAVEPOINT_DISTURBED if copies vanished
 * meanwhile. Resolves with the savepoint's own manifest.
 */
export async function writeSavepoint(
  request: Pick<CopyRequest, 'from' | 'to' | 'manifest' | 'signal' | 'onProgress'> & {
    env: Pick<Env, 'id'>;
    origin?: SavepointOrigin;
  },
): Promise<Manifest> {
  const { to, env } = request;
  const newName = (n: number) => savepointObjectPath(n, env.id());
  const copied = await copyObjects({ ...request, newName });
  const manifest: Manifest = { ...copied, kind: 'savepoint' };
  const { content, sha256 } = encodeManifest(manifest);
  const origin: SavepointOrigin = request.origin ?? { trigger: 'user', store: request.from.url };
  // The hash lies beside the manifest because no log record vouches for it here.
  const metadata = Buffer.from(
    `{"sha256":"${sha256}",\n"origin":${JSON.stringify(origin)},\n` +
      `"manifest":${content.toString()}}\n`,
  );
  await refuseDisturbed(to, manifest);
  request.signal?.throwIfAborted();
  if ((await to.create(SAVEPOINT_METADATA, metadata)) === 'exists') {
    const found = await to.get(SAVEPOINT_METADATA);
    if (found === null || !found.equals(metadata)) {
      throw new TriggerJobError('SAVEPOINT_EXISTS', `${to.url} holds a savepoint already`);
    }
  }
  return manifest;
}

/** Somebody may have taken the unfinished folder for a ruin and disposed of it. */
async function refuseDisturbed(to: ObjectStore, manifest: Manifest): Promise<void> {
  const fault = missingOf(manifest, await to.list(SAVEPOINT_OBJECTS))[0];
  if (fault === undefined) return;
  throw new TriggerJobError(
    'SAVEPOINT_DISTURBED',
    `${to.url} changed while it was written: ${fault}`,
  );
}

/** A sentence for each object of `manifest` that is not among `found` with its length. */
export function missingOf(manifest: Manifest, found: readonly StoredObject[]): string[] {
  const lengths = new Map(found.map(({ name, bytes }) => [name, bytes]));
  return objectsOf(manifest).flatMap(({ name, bytes }) => {
    const length = lengths.get(name);
    if (length === undefined) return [`object ${name} is missing`];
    return length === bytes ? [] : [`object ${name} has ${length} bytes instead of ${bytes}`];
  });
}

/**
 * As `readSavepoint`, and refuses with SAVEPOINT_CORRUPT one whose objects are not all there with
 * their lengths: before a job is begun that could not be restored.
 */
export async function readWholeSavepoint(store: ObjectStore): Promise<Manifest> {
  const manifest = await readSavepoint(store);
  const fault = missingOf(manifest, await store.list(SAVEPOINT_OBJECTS))[0];
  if (fault === undefined) return manifest;
  throw new TriggerJobError(
    'SAVEPOINT_CORRUPT',
    `the savepoint in ${store.url} is damaged: ${fault}`,
  );
}

/**
 * Throws SAVEPOINT_MISSING if `store` holds none, SAVEPOINT_CORRUPT, MANIFEST_CORRUPT,
 * MANIFEST_VERSION.
 */
export async function readSavepoint(store: ObjectStore): Promise<Manifest> {
  return (await readSavepointMetadata(store)).manifest;
}

/** `origin`: null in savepoints of older releases, and in one whose origin was not understood. */
export async function readSavepointMetadata(
  store: ObjectStore,
): Promise<{ manifest: Manifest; origin: SavepointOrigin | null }> {
  const content = await store.get(SAVEPOINT_METADATA);
  if (content === null) {
    const fault = `${store.url} holds no complete savepoint (${SAVEPOINT_METADATA} is absent)`;
    throw new TriggerJobError('SAVEPOINT_MISSING', fault);
  }
  let parsed: JsonValue;
  try {
    parsed = JSON.parse(content.toString()) as JsonValue;
  } catch (cause) {
    throw corruptSavepoint(store, messageOf(cause));
  }
  if (!isJsonObject(parsed)) throw corruptSavepoint(store, 'it is no object');
  const manifest = Buffer.from(JSON.stringify(parsed['manifest'] ?? null));
  if (createHash('sha256').update(manifest).digest('hex') !== parsed['sha256']) {
    throw corruptSavepoint(store, 'sha256 differs');
  }
  return {
    manifest: decodeManifest(manifest, `${store.url}/${SAVEPOINT_METADATA}`),
    origin: originOf(parsed['origin']),
  };
}

function originOf(value: JsonValue | undefined): SavepointOrigin | null {
  if (!isJsonObject(value)) return null;
  const { trigger, store } = value;
  if ((trigger !== 'user' && trigger !== 'periodic') || typeof store !== 'string') return null;
  return { trigger, store };
}

/**
 * Copies the savepoint in `from` into the job's own store `to`, under new names. It counts only
 * when a `restore` record names the returned manifest: `restoreSavepoint`. No sweep may run
 * meanwhile.
 */
async function importSavepoint(request: {
  from: ObjectStore;
  to: ObjectStore;
  env: Pick<Env, 'id'>;
  leaderEpoch: number;
}): Promise<{ manifest: Manifest; ref: ObjectRef }> {
  const { from, to, env, leaderEpoch } = request;
  const source = await readSavepoint(from);
  const newName = (n: number) => importedPath(n, env.id());
  const manifest = await copyObjects({ from, to, manifest: source, newName });
  return { manifest, ref: await storeManifest(to, env, manifest, leaderEpoch) };
}

/**
 * Imports the savepoint and makes it what the job goes on from. `savepoint`: the token, used once
 * (P43).
 */
export async function restoreSavepoint(request: {
  log: JobLog;
  from: ObjectStore;
  to: ObjectStore;
  env: Pick<Env, 'id'>;
  savepoint: string;
  deployment?: RecordedDeployment;
}): Promise<{ manifest: Manifest; ref: ObjectRef }> {
  const { log, from, to, env, savepoint, deployment } = request;
  const imported = await importSavepoint({ from, to, env, leaderEpoch: log.leaderEpoch });
  await log.append({
    kind: 'restore',
    checkpointId: imported.manifest.checkpointId,
    manifest: imported.ref,
    reason: `savepoint ${from.url}`,
    savepoint,
    deployment: deployment ?? null,
  });
  return imported;
}

function corruptSavepoint(store: ObjectStore, fault: string): TriggerJobError {
  const what = `${SAVEPOINT_METADATA} in ${store.url} is damaged: ${fault}`;
  return new TriggerJobError('SAVEPOINT_CORRUPT', what);
}
