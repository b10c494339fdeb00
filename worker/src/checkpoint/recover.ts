/**
 * Chooses and loads what a start restores (P42, P43). A damaged checkpoint is passed over for the
 * one before it, with a `restore` record first, so that later readers follow and nobody chooses it
 * again. What can't be read is not "absent": the store's own faults are thrown, and nothing ever
 * falls back to empty state (I6).
 */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JobLog } from './log.ts';
import { type Candidate, decideRestore } from './log-record.ts';
import { decodeManifest, objectsOf } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import { SEGMENTS } from './paths.ts';
import { fetchObject, verifyObject } from './segment-reader.ts';
import type { Manifest, ObjectRef } from './snapshot.ts';

/**
 * 'manifest': its sha256, and that all objects are there with their lengths; 'full': their sha256
 * too.
 */
export type Verification = 'manifest' | 'full';

export type Recovery =
  /** The log says that there never was anything to restore. */
  | { kind: 'fresh' }
  /** The job begins with this savepoint: call `restoreSavepoint`. */
  | { kind: 'savepoint'; savepoint: string }
  | {
      kind: 'restore';
      checkpointId: number;
      manifest: Manifest;
      ref: ObjectRef;
      /** Newer checkpoints that were damaged, newest first. */
      passedOver: { checkpointId: number; reason: string }[];
    };

/** The faults that are of the checkpoint itself, not of the way to it. */
const DAMAGE = new Set(['SEGMENT_MISSING', 'SEGMENT_CORRUPT', 'MANIFEST_CORRUPT', 'CHAIN_GAP']);

/**
 * Only after `log.takeover`. Tries the newest `retained` checkpoints of the line. Throws
 * RESTORE_IMPOSSIBLE if all of them are damaged, MANIFEST_VERSION for one of a newer release, and
 * what the store throws.
 */
export async function recoverJob(request: {
  log: JobLog;
  store: ObjectStore;
  retained: number;
  verify: Verification;
}): Promise<Recovery> {
  const { log, store, retained, verify } = request;
  await log.settle();
  const decision = decideRestore(log.records);
  if (decision.kind !== 'restore') return decision;
  const candidates: Candidate[] = [decision, ...decision.older].slice(0, Math.max(1, retained));
  const passedOver: { checkpointId: number; reason: string }[] = [];
  for (const { checkpointId, manifest: ref } of candidates) {
    try {
      const manifest = await loadCheckpoint(store, ref, verify);
      if (passedOver.length > 0) {
        refuseInitial(manifest);
        const reason = passedOver.map((one) => one.reason).join('; ');
        await log.append({ kind: 'restore', checkpointId, manifest: ref, reason, savepoint: null });
      }
      return { kind: 'restore', checkpointId, manifest, ref, passedOver };
    } catch (fault) {
      if (!(fault instanceof TriggerJobError && DAMAGE.has(fault.code))) throw fault;
      passedOver.push({ checkpointId, reason: `checkpoint ${checkpointId}: ${messageOf(fault)}` });
    }
  }
  throw new TriggerJobError(
    'RESTORE_IMPOSSIBLE',
    `no retained checkpoint in ${store.url} can be restored, and the job does not start ` +
      `without its state: ${passedOver.map((one) => one.reason).join('; ')}. Restore a savepoint.`,
  );
}

/** Throws SEGMENT_MISSING, SEGMENT_CORRUPT, MANIFEST_CORRUPT, MANIFEST_VERSION. */
export async function loadCheckpoint(
  store: ObjectStore,
  ref: ObjectRef,
  verify: Verification,
): Promise<Manifest> {
  const manifest = decodeManifest(await fetchObject(store, ref), ref.name);
  const objects = objectsOf(manifest);
  if (verify === 'full') {
    for (const object of objects) await verifyObject(store, object);
    return manifest;
  }
  if (objects.length === 0) return manifest;
  const listed = new Map((await store.list(SEGMENTS)).map((found) => [found.name, found.bytes]));
  for (const { name, bytes } of objects) {
    const found = listed.get(name);
    if (found === undefined) {
      throw new TriggerJobError('SEGMENT_MISSING', `object ${name} is not in ${store.url}`);
    }
    if (found !== bytes) {
      const fault = `object ${name} has ${found} bytes instead of ${bytes}`;
      throw new TriggerJobError('SEGMENT_CORRUPT', fault);
    }
  }
  return manifest;
}

/**
 * The initial manifest is empty state: right as the newest one (P25), never as a substitute (I6).
 */
function refuseInitial(manifest: Manifest): void {
  if (manifest.kind !== 'initial') return;
  throw new TriggerJobError(
    'MANIFEST_CORRUPT',
    'the initial manifest holds no state to fall back to',
  );
}
