/**
 * Copies the objects of a manifest between stores (P49): a few at a time, large ones in pieces, so
 * that memory bounds neither their size nor their number. Each copy is read back and checked. What
 * was copied is deleted again if the whole does not succeed.
 */
import { TriggerJobError } from '../runtime/errors.ts';
import { mapObjects, objectsOf } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import { fetchObject, PIECE_BYTES, verifyObject } from './segment-reader.ts';
import type { Manifest, ObjectRef } from './snapshot.ts';

/**
 * Copies of small objects under way. Each holds the object and what is read back of it, so memory
 * is at most 2 x PIECE_BYTES x this; a large object goes alone, with the pieces that its store has
 * under way.
 */
const PARALLEL_COPIES = 4;

export interface CopyProgress {
  copiedBytes: number;
  totalBytes: number;
}

export interface CopyRequest {
  from: ObjectStore;
  to: ObjectStore;
  manifest: Manifest;
  /** Name of the nth copy, unique (P46). */
  newName(n: number): string;
  /** Aborted: the copy ends between two pieces and rejects with the signal's reason. */
  signal?: AbortSignal;
  onProgress?: (progress: CopyProgress) => void;
}

/** The manifest with the names of the copies. Throws SEGMENT_MISSING, SEGMENT_CORRUPT. */
export async function copyObjects(request: CopyRequest): Promise<Manifest> {
  const objects = objectsOf(request.manifest);
  const copies = new Map<string, ObjectRef>(
    objects.map((ref, n) => [ref.name, { ...ref, name: request.newName(n) }]),
  );
  const totalBytes = objects.reduce((sum, { bytes }) => sum + bytes, 0);
  let copiedBytes = 0;
  const copy = async (ref: ObjectRef) => {
    await copyObject(request, ref, copies.get(ref.name)!);
    copiedBytes += ref.bytes;
    request.onProgress?.({ copiedBytes, totalBytes });
  };
  request.onProgress?.({ copiedBytes, totalBytes });
  const large = objects.filter(({ bytes }) => bytes > PIECE_BYTES);
  const small = objects.filter(({ bytes }) => bytes <= PIECE_BYTES);
  try {
    for (const ref of large) await copy(ref);
    await inParallel(small, copy);
  } catch (fault) {
    // Only tidiness: without metadata or a record that names them they are nobody's.
    await request.to.delete([...copies.values()].map(({ name }) => name)).catch(() => {});
    throw fault;
  }
  return mapObjects(request.manifest, (ref) => copies.get(ref.name) ?? ref);
}

/** Resolves or rejects only when nothing is under way any more; the first fault wins. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async () => {
    while (next < items.length && !failed) {
      try {
        await work(items[next++]!);
      } catch (fault) {
        failed = true;
        throw fault;
      }
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: PARALLEL_COPIES }, worker));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

async function copyObject(request: CopyRequest, ref: ObjectRef, copy: ObjectRef): Promise<void> {
  const { from, to, signal } = request;
  signal?.throwIfAborted();
  if (ref.bytes <= PIECE_BYTES) {
    await to.put(copy.name, await fetchObject(from, ref));
    signal?.throwIfAborted();
    await verifyObject(to, copy);
    return;
  }
  await to.putPieces(copy.name, ref.bytes, async (offset, length) => {
    signal?.throwIfAborted();
    const piece = await from.getRange(ref.name, offset, length);
    if (piece.length === length) return piece;
    throw new TriggerJobError('SEGMENT_CORRUPT', `object ${ref.name} ends before ${ref.bytes}`);
  });
  try {
    await verifyObject(to, copy, () => signal?.throwIfAborted());
  } catch (fault) {
    signal?.throwIfAborted();
    // If the source is what is damaged, this says so, by the source's name.
    await verifyObject(from, ref);
    throw fault;
  }
}
