/**
 * Savepoints (P49): a folder that stands alone. It shares no object with any job, so deleting it
 * breaks no job, nor the reverse; `_metadata.json` comes last, so a folder without it is no
 * savepoint.
 */
import { createHash } from 'node:crypto';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import type { JobLog } from './log.ts';
import { decodeManifest, encodeManifest, mapObjects, objectsOf } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import { importedPath, SAVEPOINT_METADATA, savepointObjectPath } from './paths.ts';
import { storeManifest } from './publish.ts';
import { fetchObject, verifyObject } from './segment-reader.ts';
import type { Deployment, Manifest, ObjectRef } from './snapshot.ts';

/**
 * Copies `manifest` and all its objects from the job's store `from` into the empty folder `to`;
 * each copy is read back. Keep the objects pinned in `from` meanwhile (gc.ts). Throws
 * SAVEPOINT_EXISTS if the folder holds a savepoint already. Resolves with the savepoint's own
 * manifest.
 */
export async function writeSavepoint(request: {
  from: ObjectStore;
  manifest: Manifest;
  to: ObjectStore;
  env: Pick<Env, 'id'>;
}): Promise<Manifest> {
  const { from, to, env } = request;
  const copied = await copyObjects(from, to, request.manifest, (n) =>
    savepointObjectPath(n, env.id()),
  );
  const manifest: Manifest = { ...copied, kind: 'savepoint' };
  const { content, sha256 } = encodeManifest(manifest);
  // The hash lies beside the manifest because no log record vouches for it here.
  const metadata = Buffer.from(`{"sha256":"${sha256}",\n"manifest":${content.toString()}}\n`);
  if ((await to.create(SAVEPOINT_METADATA, metadata)) === 'exists') {
    const found = await to.get(SAVEPOINT_METADATA);
    if (found === null || !found.equals(metadata)) {
      throw new TriggerJobError('SAVEPOINT_EXISTS', `${to.url} holds a savepoint already`);
    }
  }
  return manifest;
}

/**
 * Throws SAVEPOINT_MISSING if `store` holds none, SAVEPOINT_CORRUPT, MANIFEST_CORRUPT,
 * MANIFEST_VERSION.
 */
export async function readSavepoint(store: ObjectStore): Promise<Manifest> {
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
  return decodeManifest(manifest, `${store.url}/${SAVEPOINT_METADATA}`);
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
  const manifest = await copyObjects(from, to, source, (n) => importedPath(n, env.id()));
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
  deployment?: Deployment;
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

async function copyObjects(
  from: ObjectStore,
  to: ObjectStore,
  manifest: Manifest,
  newName: (n: number) => string,
): Promise<Manifest> {
  const copies = new Map<string, ObjectRef>();
  for (const ref of objectsOf(manifest)) {
    const copy = { ...ref, name: newName(copies.size) };
    await to.put(copy.name, await fetchObject(from, ref));
    await verifyObject(to, copy);
    copies.set(ref.name, copy);
  }
  return mapObjects(manifest, (ref) => copies.get(ref.name) ?? ref);
}

function corruptSavepoint(store: ObjectStore, fault: string): TriggerJobError {
  const what = `${SAVEPOINT_METADATA} in ${store.url} is damaged: ${fault}`;
  return new TriggerJobError('SAVEPOINT_CORRUPT', what);
}
