/**
 * Fills a fresh backend with the key groups of one task from a checkpoint: base, then deltas in
 * order, later rows win. Also rebuilds what no segment holds: the expiry marks, the number of
 * users, the chain.
 */
import { chainOf, mergeChain, planChain } from '../checkpoint/chain.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { SegmentCache } from '../checkpoint/segment-reader.ts';
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
import { headLastAccess, isHeadKey, parseKey } from './rows.ts';
import type { UserRow } from './user-state.ts';

export interface RestoreRequest {
  store: ObjectStore;
  backend: StateBackend;
  expiry: ExpiryIndex;
  range: KeyGroupRange;
  snapshots: readonly SubtaskSnapshot[];
  checkpointId: number;
  /** The task is being closed: give up at the next batch. */
  stopped?: () => boolean;
}

export interface RestoreResult {
  chain: ChainTracker;
  users: number;
  bytes: number;
}

/** Segment bytes held at a time; four slots of one process restore at once. */
const CACHE_BYTES = 128 * 1024 * 1024;
/** Fetched at a time before they are needed; a chain is some 50 objects, most of them small. */
const AHEAD = 8;
/** Rows' bytes and batches between two turns of the event loop: a few ms. */
const TURN_BYTES = 1024 * 1024;
const TURN_BATCHES = 32;

export async function restoreState(request: RestoreRequest): Promise<RestoreResult> {
  const { store, range, snapshots, checkpointId } = request;
  const chain = new ChainTracker(range);
  const segments = new SegmentCache(store, { maxBytes: CACHE_BYTES });
  let users = 0;
  let bytes = 0;
  const turn = new Turn();
  await fetchAhead(request, segments);
  for (let group = range.first; group <= range.last && snapshots.length > 0; group++) {
    const parts = chainOf(snapshots, group, checkpointId);
    if (parts === null) {
      // I6: a group that nobody owned is damage, never a reason to start it empty.
      throw new TriggerJobError(
        'RESTORE_INCOMPLETE',
        `checkpoint ${checkpointId} holds no state of key group ${group}; restore another one`,
      );
    }
    for await (const batch of mergeChain(segments, parts, group)) {
      let size = 0;
      for (const row of batch) size += row.key.length + (row.value?.length ?? 0);
      bytes += size;
      if (request.stopped?.()) throw new TriggerJobError('RESTORE_STOPPED', 'the task was closed');
      users += apply(request, batch);
      await turn.spent(size);
    }
  }
  await adoptChain(chain, segments, range, snapshots);
  return { chain, users, bytes };
}

/** Lets the thread hear of other things, such as its end, while it restores. */
class Turn {
  #bytes = 0;
  #batches = 0;

  async spent(bytes: number): Promise<void> {
    this.#bytes += bytes;
    this.#batches += 1;
    if (this.#bytes < TURN_BYTES && this.#batches < TURN_BATCHES) return;
    this.#bytes = 0;
    this.#batches = 0;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/**
 * Opens what the chains name, several at a time, as far as the cache holds it: one after the other
 * each of them would be waited for. What can't be opened is found when it is read.
 */
async function fetchAhead(request: RestoreRequest, segments: SegmentCache): Promise<void> {
  const { range, snapshots } = request;
  const objects = new Map<string, ObjectRef>();
  let room = CACHE_BYTES;
  for (const snapshot of snapshots) {
    if (snapshot.range.last < range.first || snapshot.range.first > range.last) continue;
    const inRange = (first: number, last: number) => first <= range.last && last >= range.first;
    const named = [
      ...snapshot.bases.filter(({ groups }) => groups.some((one) => inRange(one, one))),
      ...snapshot.deltas.filter((delta) => inRange(delta.range.first, delta.range.last)),
    ];
    for (const { object } of named) {
      if (object === null || objects.has(object.name) || object.bytes > room) continue;
      room -= object.bytes;
      objects.set(object.name, object);
    }
  }
  const queue = objects.values();
  const lane = async () => {
    for (const object of queue) {
      if (request.stopped?.()) return;
      await segments.open(object).catch(() => undefined);
    }
  };
  await Promise.all(Array.from({ length: AHEAD }, lane));
}

/** Writes one batch with its expiry marks; returns by how much the number of users changed. */
function apply({ backend, expiry }: RestoreRequest, batch: readonly UserRow[]): number {
  const ops: UserRow[] = [...batch];
  const heads = batch.filter((row) => isHeadKey(row.key));
  const known = backend.getMany(heads.map((row) => row.key));
  let change = 0;
  heads.forEach((row, i) => {
    const was = known[i] === undefined ? 0 : 1;
    change += (row.value === null ? 0 : 1) - was;
    if (row.value === null) return;
    const { keyGroup, userId } = parseKey(row.key);
    const mark = expiry.markRow({ keyGroup, id: userId, lastAccess: headLastAccess(row.value) });
    if (mark !== null) ops.push(mark);
  });
  backend.write(ops);
  return change;
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
    for (const [group, blocks] of groups) {
      if (group < first || group > last) continue;
      let sum = 0;
      for (const block of blocks) sum += block.bytes;
      bytes.set(group, sum);
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
