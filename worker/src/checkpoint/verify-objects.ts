/**
 * Whether a checkpoint or savepoint could be restored, found by reading every byte of it: each
 * object's length and sha256, each segment's own checksums, index and rows, and that the chain of
 * every key group is whole. Needs the store alone: no job, no cluster.
 */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { checkSegmentHeader } from './chain.ts';
import { checkChains, objectsOf } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import type { SegmentHeader } from './segment-format.ts';
import {
  fetchObject,
  openSegment,
  openStored,
  PIECE_BYTES,
  type SegmentReader,
  verifyObject,
} from './segment-reader.ts';
import type { Manifest, ObjectRef } from './snapshot.ts';

/** What reading again can not change; all else that a store throws is no word on the object. */
const DAMAGE: ReadonlySet<string> = new Set([
  'SEGMENT_MISSING',
  'SEGMENT_CORRUPT',
  'SEGMENT_VERSION',
]);

export interface Damage {
  /** The object's name; null: the chain of a key group, which no single object is to blame for. */
  object: string | null;
  fault: string;
}

export interface VerifyReport {
  objects: number;
  bytes: number;
  rows: number;
  damaged: Damage[];
}

/**
 * All damage, not only the first. Throws what the store throws when it can't be read (P41: that is
 * no damage).
 */
export async function verifyManifest(
  store: ObjectStore,
  manifest: Manifest,
  onBytes: (bytes: number) => void = () => {},
): Promise<VerifyReport> {
  const objects = objectsOf(manifest);
  const headers = headersOf(manifest);
  const report: VerifyReport = { objects: objects.length, bytes: 0, rows: 0, damaged: [] };
  const check = async (object: string | null, work: () => Promise<void> | void) => {
    try {
      await work();
    } catch (thrown) {
      const damage =
        thrown instanceof TriggerJobError &&
        (DAMAGE.has(thrown.code) || thrown.code === 'CHAIN_GAP');
      if (!damage) throw thrown;
      report.damaged.push({ object, fault: messageOf(thrown) });
    }
  };
  await check(null, () => {
    if (manifest.kind !== 'initial') checkChains(manifest);
  });
  for (const ref of objects) {
    await check(ref.name, async () => {
      const reader = await openVerified(store, ref, onBytes);
      report.rows += await readSegment(reader, headers.get(ref.name));
    });
    report.bytes += ref.bytes;
  }
  return report;
}

/** A small object is read once, a large one once for its sha256 and once more block by block. */
async function openVerified(
  store: ObjectStore,
  ref: ObjectRef,
  onBytes: (bytes: number) => void,
): Promise<SegmentReader> {
  if (ref.bytes > PIECE_BYTES) {
    await verifyObject(store, ref, onBytes);
    return openStored(store, ref, 0);
  }
  const content = await fetchObject(store, ref);
  onBytes(ref.bytes);
  return openSegment(content, ref.name);
}

/** Every block of it, so every crc and every row; the number of rows. */
async function readSegment(
  reader: SegmentReader,
  wanted: Omit<SegmentHeader, 'range'> | undefined,
): Promise<number> {
  if (wanted !== undefined) checkSegmentHeader(reader.name, reader.header, wanted);
  let rows = 0;
  for (const keyGroup of reader.groups.keys()) {
    for await (const block of reader.readGroup(keyGroup)) rows += block.length;
  }
  return rows;
}

/** What the manifest takes each object for. */
function headersOf(manifest: Manifest): Map<string, Omit<SegmentHeader, 'range'>> {
  const headers = new Map<string, Omit<SegmentHeader, 'range'>>();
  const none = { from: 0, to: 0, run: 0, epoch: 0 };
  for (const { bases, deltas, volatile } of manifest.subtasks) {
    for (const { object, epoch } of bases)
      headers.set(object.name, { ...none, kind: 'base', epoch });
    for (const { object, from, to, run } of deltas) {
      if (object !== null) headers.set(object.name, { kind: 'delta', from, to, run, epoch: 0 });
    }
    if (volatile !== null) headers.set(volatile.name, { ...none, kind: 'volatile' });
  }
  return headers;
}
