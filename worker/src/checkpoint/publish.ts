/**
 * Makes a checkpoint count (README: order of writes). The manifest first, under a name that is its
 * own; then the log record, which is the moment of completion. A crash in between leaves an orphan
 * manifest, which blocks nothing (P40) and is swept (gc.ts).
 */
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JobLog } from './log.ts';
import { checkChains, encodeManifest } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import { manifestPath } from './paths.ts';
import type { LogRecord, Manifest, ObjectRef } from './snapshot.ts';

/**
 * Call after all tasks acked, so that every object of `manifest` is stored (P22). Throws as
 * `JobLog.append` does, MANIFEST_CORRUPT or CHAIN_GAP for a manifest that could not be restored,
 * and what the store throws; after any of them but LOG_UNAVAILABLE the checkpoint does not count.
 */
export async function publishCheckpoint(request: {
  log: JobLog;
  store: ObjectStore;
  env: Pick<Env, 'id'>;
  manifest: Manifest;
}): Promise<{ record: LogRecord; manifest: ObjectRef }> {
  const { log, store, env, manifest } = request;
  if (manifest.leaderEpoch !== log.leaderEpoch) {
    throw new TriggerJobError(
      'LEADERSHIP_LOST',
      `checkpoint ${manifest.checkpointId} was made under leader epoch ${manifest.leaderEpoch}, ` +
        `this is epoch ${log.leaderEpoch}`,
    );
  }
  checkChains(manifest);
  const ref = await storeManifest(store, env, manifest, manifest.leaderEpoch);
  const { checkpointId } = manifest;
  const record = await log.append({ kind: 'checkpoint', checkpointId, manifest: ref });
  return { record, manifest: ref };
}

/** Stores the manifest alone; it counts for nothing until a log record names it. */
export async function storeManifest(
  store: ObjectStore,
  env: Pick<Env, 'id'>,
  manifest: Manifest,
  leaderEpoch: number,
): Promise<ObjectRef> {
  const { content, bytes, sha256 } = encodeManifest(manifest);
  const name = manifestPath(manifest.checkpointId, leaderEpoch, env.id());
  if ((await store.create(name, content)) === 'exists') {
    // Only a retry inside the store can have put it there: the nonce is new.
    const found = await store.get(name);
    if (found === null || !found.equals(content)) {
      throw new TriggerJobError('STORE_NAME_TAKEN', `${name} is in ${store.url} already`);
    }
  }
  return { name, bytes, sha256 };
}
