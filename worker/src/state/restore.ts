/**
 * Brings a task the key groups of a checkpoint: base, then deltas in order, later rows win. Small
 * enough for memory, only the heads are read; the backend gets all rows while the task runs
 * (hydrating-backend.ts); else a fresh backend is filled first. Also
 * rebuilds what no segment holds: the expiry marks, the number of users, the chain.
 */
import { type ChainParts, chainOf, newestRows, openChain, planChain } from '../checkpoint/chain.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { SegmentCache, WHOLE_BYTES } from '../checkpoint/segment-reader.ts';
import type {
  DeltaRef,
  KeyGroupRange,
  ObjectRef,
  SubtaskSnapshot,
} from '../checkpoint/snapshot.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { StateBackend } from './backend.ts';
import { ChainTracker } from './chain-tracker.ts';
import type { ExpiryIndex } from './expiry-index.ts';
import { GroupImage } from './group-image.ts';
import type { HydratingBackend } from './hydrating-backend.ts';
import { headLastAccess, isHeadKey, parseKey, type UserRow } from './rows.ts';

export interface RestoreRequest {
  store: ObjectStore;
  backend: StateBackend;
  expiry: ExpiryIndex;
  range: KeyGroupRange;
  snapshots: readonly SubtaskSnapshot[];
  checkpointId: number;
  /**
   * The backend, if it may be filled while it is used; the caller then sees to it that it
   * hydrates.
   */
  hydration?: HydratingBackend;
  /** The task is being closed: give up at the next batch. */
  stopped?: () => boolean;
}

export interface RestoreResult {
  chain: ChainTracker;
  users: number;
  /** Of rows that were read. */
  bytes: number;
}

/** Segment bytes held at a time; four slots of one process restore at once. */
const CACHE_BYTES = 128 * 1024 * 1024;
const MAX_SEGMENTS = 1024;
/** Fetched at a time before they are needed; a chain is some 50 objects, most of them small. */
const AHEAD = 8;
/** Rows' bytes and batches between two turns of the event loop: a few ms. */
const TURN_BYTES = 1024 * 1024;
const TURN_BATCHES = 32;
/** Blocks are 128 KiB, but for a larger row. */
const SCRATCH_BYTES = 256 * 1024;

export async function restoreState(request: RestoreRequest): Promise<RestoreResult> {
  const { store, range, snapshots, hydration } = request;
  const chain = new ChainTracker(range);
  const segments = new SegmentCache(store, { maxBytes: CACHE_BYTES, maxSegments: MAX_SEGMENTS });
  const objects = objectsOf(request);
  const chains = chainsOf(request);
  await fetchAhead(request, segments, objects);
  let found: Found;
  if (hydration !== undefined && fits(objects, hydration.maxBytes)) {
    const images = await imagesOf(segments, chains);
    found = await attach(request, hydration, images, bytesOf(objects));
  } else {
    found = await writeAll(request, segments, chains);
  }
  await adoptChain(chain, segments, range, snapshots);
  return { chain, ...found };
}

/** Of each key group of ours; none for a fresh start. */
function chainsOf({ range, snapshots, checkpointId }: RestoreRequest): Map<number, ChainParts> {
  const chains = new Map<number, ChainParts>();
  for (let group = range.first; group <= range.last && snapshots.length > 0; group++) {
    const parts = chainOf(snapshots, group, checkpointId);
    if (parts === null) {
      // I6: a group that nobody owned is damage, never a reason to start it empty.
      throw new TriggerJobError(
        'RESTORE_INCOMPLETE',
        `checkpoint ${checkpointId} holds no state of key group ${group}; restore another one`,
      );
    }
    chains.set(group, parts);
  }
  return chains;
}

/** Whether all of them can be in memory at once, as the cache holds them. */
function fits(objects: ReadonlyMap<string, ObjectRef>, maxBytes: number): boolean {
  const all = [...objects.values()];
  return (
    all.length <= MAX_SEGMENTS &&
    all.every(({ bytes }) => bytes <= WHOLE_BYTES) &&
    bytesOf(objects) <= Math.min(maxBytes, CACHE_BYTES)
  );
}

function bytesOf(objects: ReadonlyMap<string, ObjectRef>): number {
  let sum = 0;
  for (const { bytes } of objects.values()) sum += bytes;
  return sum;
}

interface Found {
  users: number;
  bytes: number;
}

async function imagesOf(
  segments: SegmentCache,
  chains: ReadonlyMap<number, ChainParts>,
): Promise<GroupImage[]> {
  const images: GroupImage[] = [];
  for (const [group, parts] of chains) {
    images.push(new GroupImage(group, await openChain(segments, parts, group)));
  }
  return images;
}

/**
 * Reads the heads; the other rows follow out of memory. Too many of them are written at once, with
 * their marks: that takes longer than reading them.
 */
async function attach(
  request: RestoreRequest,
  hydration: HydratingBackend,
  images: readonly GroupImage[],
  segmentBytes: number,
): Promise<Found> {
  const found = { users: 0, bytes: 0 };
  const turn = new Turn(request);
  const headBytes = images.reduce((sum, image) => sum + image.headBytes, 0);
  const isHeld = headBytes <= hydration.maxHeadBytes;
  const scratch = isHeld ? undefined : Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  for (const image of images) {
    for (const { bytes, heads } of image.heads(scratch)) {
      found.users += heads.length;
      found.bytes += bytes;
      if (isHeld) image.hold(heads);
      else request.backend.write([...heads, ...marksOf(request.expiry, heads)]);
      await turn.spent(bytes);
    }
  }
  const bytes = segmentBytes + (isHeld ? headBytes : 0);
  hydration.attach(images, bytes, (head) => marksOf(request.expiry, [head]));
  return found;
}

async function writeAll(
  request: RestoreRequest,
  segments: SegmentCache,
  chains: ReadonlyMap<number, ChainParts>,
): Promise<Found> {
  const found = { users: 0, bytes: 0 };
  const turn = new Turn(request);
  for (const [group, parts] of chains) {
    for await (const rows of newestRows(segments, parts, group)) {
      let bytes = 0;
      for (const row of rows) bytes += row.key.length + (row.value?.length ?? 0);
      const heads = rows.filter(({ key }) => isHeadKey(key));
      found.users += heads.length;
      found.bytes += bytes;
      request.backend.write([...rows, ...marksOf(request.expiry, heads)]);
      await turn.spent(bytes);
    }
  }
  return found;
}

function marksOf(expiry: ExpiryIndex, heads: readonly UserRow[]): UserRow[] {
  return heads.flatMap(({ key, value }) => {
    const { keyGroup, userId } = parseKey(key);
    return expiry.markRow({ keyGroup, id: userId, lastAccess: headLastAccess(value!) }) ?? [];
  });
}

/** Lets the thread hear of other things, such as its end, while it restores. */
class Turn {
  readonly #request: RestoreRequest;
  #bytes = 0;
  #batches = 0;

  constructor(request: RestoreRequest) {
    this.#request = request;
  }

  /** Throws RESTORE_STOPPED. */
  async spent(bytes: number): Promise<void> {
    const { stopped } = this.#request;
    if (stopped?.()) throw new TriggerJobError('RESTORE_STOPPED', 'the task was closed');
    this.#bytes += bytes;
    this.#batches += 1;
    if (this.#bytes < TURN_BYTES && this.#batches < TURN_BATCHES) return;
    this.#bytes = 0;
    this.#batches = 0;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What the chains name, by name. */
function objectsOf({ range, snapshots }: RestoreRequest): Map<string, ObjectRef> {
  const objects = new Map<string, ObjectRef>();
  for (const snapshot of snapshots) {
    if (snapshot.range.last < range.first || snapshot.range.first > range.last) continue;
    const inRange = (first: number, last: number) => first <= range.last && last >= range.first;
    const named = [
      ...snapshot.bases.filter(({ groups }) => groups.some((one) => inRange(one, one))),
      ...snapshot.deltas.filter((delta) => inRange(delta.range.first, delta.range.last)),
    ];
    for (const { object } of named) if (object !== null) objects.set(object.name, object);
  }
  return objects;
}

/**
 * Opens objects, several at a time, as far as the cache holds them: one after the other each of
 * them would be waited for. What can't be opened is found when it is read.
 */
async function fetchAhead(
  request: RestoreRequest,
  segments: SegmentCache,
  objects: ReadonlyMap<string, ObjectRef>,
): Promise<void> {
  let room = CACHE_BYTES;
  const fitting = [...objects.values()].filter(({ bytes }) => {
    if (bytes > room) return false;
    room -= bytes;
    return true;
  });
  const queue = fitting.values();
  const lane = async () => {
    for (const object of queue) {
      if (request.stopped?.()) return;
      await segments.open(object).catch(() => undefined);
    }
  };
  await Promise.all(Array.from({ length: AHEAD }, lane));
}

/** Continues the restored chain, narrowed to our key groups. */
async function adoptChain(
  chain: ChainTracker,
  segments: SegmentCache,
  range: KeyGroupRange,
  snapshots: readonly SubtaskSnapshot[],
): Promise<void> {
  const sizes = async (object: ObjectRef, first: number, last: number) => {
    const { groups } = await segments.open(object);
    const bytes = new Map<number, number>();
    for (let group = first; group <= last; group++) {
      const blocks = groups.get(group);
      if (blocks === undefined) continue;
      bytes.set(
        group,
        blocks.reduce((sum, block) => sum + block.bytes, 0),
      );
    }
    return bytes;
  };
  const deltas: DeltaRef[] = [];
  for (const snapshot of snapshots) {
    const first = Math.max(range.first, snapshot.range.first);
    const last = Math.min(range.last, snapshot.range.last);
    if (first > last) continue;
    for (const delta of snapshot.deltas) {
      const narrowed = {
        first: Math.max(first, delta.range.first),
        last: Math.min(last, delta.range.last),
      };
      if (narrowed.first <= narrowed.last) deltas.push({ ...delta, range: narrowed });
    }
  }
  // The runs of an interval and range side by side: the tracker merges neighbours.
  deltas.sort((a, b) => a.range.first - b.range.first || a.to - b.to || a.run - b.run);
  for (const delta of deltas) {
    const bytes =
      delta.object === null
        ? new Map<number, number>()
        : await sizes(delta.object, delta.range.first, delta.range.last);
    chain.addDelta(delta, bytes);
  }
  for (let group = range.first; group <= range.last && snapshots.length > 0; group++) {
    const parts = chainOf(snapshots, group);
    const base = parts === null ? null : planChain(parts, group).base;
    if (base === null) continue;
    const bytes = (await sizes(base.object, group, group)).get(group) ?? 0;
    chain.addBase(base.object, base.epoch, new Map([[group, bytes]]));
  }
}
