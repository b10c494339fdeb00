/**
 * The chain of one key group: its base, if any, and every delta from there on (P12, P13). Restore
 * applies the rows in the order given, later ones win, tombstones delete. A chain with a hole or an
 * overlap is refused with CHAIN_GAP: rows would be missing, or older ones would win.
 */
import { TriggerJobError } from '../runtime/errors.ts';
import { corrupt, type Row, type SegmentHeader } from './segment-format.ts';
import type { SegmentCache, SegmentReader } from './segment-reader.ts';
import type { BaseRef, DeltaRef, KeyGroupRange, ObjectRef, SubtaskSnapshot } from './snapshot.ts';

/** Bases and deltas of one subtask's snapshot; those of other key groups are left out by range. */
export interface ChainParts {
  bases: readonly BaseRef[];
  deltas: readonly DeltaRef[];
  /** The checkpoint that is restored. When given, the chain must end exactly there. */
  checkpointId?: number;
}

/** What to read, in order. */
export interface Chain {
  base: BaseRef | null;
  deltas: readonly DeltaRef[];
}

/**
 * The chain of `keyGroup` in a checkpoint: from the snapshot whose subtask owned the group. After a
 * rescale two snapshots may name the same old delta; only the owner's counts. null: no snapshot
 * owns it.
 */
export function chainOf(
  snapshots: readonly SubtaskSnapshot[],
  keyGroup: number,
  checkpointId?: number,
): ChainParts | null {
  const owner = snapshots.find(({ range }) => range.first <= keyGroup && keyGroup <= range.last);
  if (owner === undefined) return null;
  const parts = { bases: owner.bases, deltas: owner.deltas };
  return checkpointId === undefined ? parts : { ...parts, checkpointId };
}

/**
 * Which parts make up the chain of `keyGroup`. Pure. Throws CHAIN_GAP, naming both ends of a hole
 * or overlap.
 */
export function planChain(parts: ChainParts, keyGroup: number): Chain {
  const base = newestBase(parts, keyGroup);
  const deltas = parts.deltas
    .filter(({ range, to }) => covers(range, keyGroup) && to >= (base?.epoch ?? 0))
    .sort((a, b) => a.to - b.to || a.run - b.run);
  let previous: DeltaRef | null = null;
  for (const delta of deltas) {
    if (previous === null) checkFirst(delta, base, keyGroup);
    else checkNext(previous, delta, keyGroup);
    previous = delta;
  }
  const { checkpointId } = parts;
  if (base !== null && previous === null) {
    throw gap(keyGroup, `base ${base.object.name} of ${base.epoch}`, 'no delta of that interval');
  }
  // A missing last delta looks like a shorter chain; so does a missing only one.
  if (checkpointId !== undefined && (previous?.to ?? 0) !== checkpointId) {
    const end = previous === null ? 'the start (no delta)' : describe(previous);
    throw gap(keyGroup, end, `checkpoint ${checkpointId}, where it must end`);
  }
  return { base, deltas };
}

function newestBase(parts: ChainParts, keyGroup: number): BaseRef | null {
  let newest: BaseRef | null = null;
  for (const base of parts.bases) {
    if (!base.groups.includes(keyGroup)) continue;
    if (newest === null || base.epoch > newest.epoch) newest = base;
  }
  return newest;
}

function checkFirst(delta: DeltaRef, base: BaseRef | null, keyGroup: number): void {
  if (base === null && delta.from !== 0) {
    throw gap(keyGroup, 'the start (no base, so the first delta must be from 0)', describe(delta));
  }
  if (base !== null && delta.from >= base.epoch) {
    throw gap(keyGroup, `base ${base.object.name} of ${base.epoch}`, describe(delta));
  }
}

function checkNext(previous: DeltaRef, delta: DeltaRef, keyGroup: number): void {
  const sameInterval = delta.to === previous.to;
  const follows = sameInterval
    ? delta.from === previous.from && delta.run > previous.run
    : delta.from === previous.to;
  if (!follows) throw gap(keyGroup, describe(previous), describe(delta));
}

function describe({ from, to, run, object }: DeltaRef): string {
  return `delta (${from}, ${to}] run ${run} (${object?.name ?? 'no changes'})`;
}

function gap(keyGroup: number, left: string, right: string): TriggerJobError {
  return new TriggerJobError(
    'CHAIN_GAP',
    `key group ${keyGroup}: the chain has a gap or overlap between ${left} and ${right}; ` +
      'restoring it would lose or undo changes. Restore an older checkpoint or a savepoint.',
  );
}

function covers(range: KeyGroupRange, keyGroup: number): boolean {
  return range.first <= keyGroup && keyGroup <= range.last;
}

/**
 * All rows of one key group, in batches of about 128 KiB: the base's as puts, then each delta's as
 * puts and tombstones. Apply them in this order; a later row of the same key wins. Throws
 * CHAIN_GAP, SEGMENT_CORRUPT, SEGMENT_MISSING.
 */
export async function* mergeChain(
  segments: SegmentCache,
  parts: ChainParts,
  keyGroup: number,
): AsyncGenerator<Row[], void, void> {
  for (const part of objectsOf(planChain(parts, keyGroup))) {
    const reader = await openPart(segments, part, keyGroup);
    yield* reader.readGroup(keyGroup);
  }
}

/**
 * The rows of one key group as the chain leaves them, each once, in no order: what was deleted is
 * left out. Holds the keys of all parts but the oldest. Throws as `mergeChain`.
 */
export async function* newestRows(
  segments: SegmentCache,
  parts: ChainParts,
  keyGroup: number,
): AsyncGenerator<Row[], void, void> {
  const newest = new NewestRows();
  const [oldest, ...later] = objectsOf(planChain(parts, keyGroup));
  for (const part of later.reverse()) {
    const reader = await openPart(segments, part, keyGroup);
    for await (const rows of reader.readGroup(keyGroup)) yield newest.of(rows);
  }
  if (oldest === undefined) return;
  const reader = await openPart(segments, oldest, keyGroup);
  for await (const rows of reader.readGroup(keyGroup)) yield newest.ofOldest(rows);
}

/** The segments of a key group's chain, newest first. Throws as `mergeChain`. */
export async function openChain(
  segments: SegmentCache,
  parts: ChainParts,
  keyGroup: number,
): Promise<SegmentReader[]> {
  const readers: SegmentReader[] = [];
  for (const part of objectsOf(planChain(parts, keyGroup))) {
    readers.push(await openPart(segments, part, keyGroup));
  }
  return readers.reverse();
}

/** Given a chain's rows from the newest part to the oldest, tells which of them count. */
export class NewestRows {
  readonly #seen = new Set<string>();

  of(rows: readonly Row[]): Row[] {
    const found: Row[] = [];
    for (const row of rows) {
      const key = row.key.toString('latin1');
      if (this.#seen.has(key)) continue;
      this.#seen.add(key);
      if (row.value !== null) found.push(row);
    }
    return found;
  }

  /** As `of`, and remembers none of them: nothing older follows. */
  ofOldest(rows: readonly Row[]): Row[] {
    const seen = this.#seen;
    return rows.filter(
      ({ key, value }) => value !== null && (seen.size === 0 || !seen.has(key.toString('latin1'))),
    );
  }
}

interface ChainObject {
  object: ObjectRef;
  /** What the object must say of itself. */
  wanted: Omit<SegmentHeader, 'range'>;
}

/** Oldest first. */
function objectsOf({ base, deltas }: Chain): ChainObject[] {
  const found: ChainObject[] = [];
  if (base !== null) {
    const wanted = { kind: 'base', from: 0, to: 0, run: 0, epoch: base.epoch } as const;
    found.push({ object: base.object, wanted });
  }
  for (const { object, from, to, run } of deltas) {
    if (object === null) continue;
    found.push({ object, wanted: { kind: 'delta', from, to, run, epoch: 0 } });
  }
  return found;
}

/** Throws SEGMENT_CORRUPT if the object says of itself that it is something else. */
export function checkSegmentHeader(
  name: string,
  header: Omit<SegmentHeader, 'range'>,
  wanted: Omit<SegmentHeader, 'range'>,
): void {
  const says = title(header);
  const named = title(wanted);
  if (says !== named) throw corrupt(name, 'header', 0, `is ${says}, not ${named}`);
}

function title({ kind, from, to, run, epoch }: Omit<SegmentHeader, 'range'>): string {
  return `${kind} (${from}, ${to}] run ${run} epoch ${epoch}`;
}

/** The object says itself what it is: a manifest that names the wrong one is refused (P12). */
async function openPart(
  segments: SegmentCache,
  { object, wanted }: ChainObject,
  keyGroup: number,
): Promise<SegmentReader> {
  const reader = await segments.open(object);
  const { range } = reader.header;
  checkSegmentHeader(object.name, reader.header, wanted);
  if (!covers(range, keyGroup)) {
    const fault = `serves key groups ${range.first}..${range.last}, not ${keyGroup}`;
    throw corrupt(object.name, 'header', 0, fault);
  }
  return reader;
}

/**
 * The final rows of one key group, in key order: for `state dump` and tests. Keys are the key bytes
 * as latin1 (`Buffer.from(key, 'latin1')`), whose string order is the byte order. Holds the whole
 * group in memory.
 */
export async function collectGroup(
  segments: SegmentCache,
  parts: ChainParts,
  keyGroup: number,
): Promise<Map<string, Buffer>> {
  const rows = new Map<string, Buffer>();
  for await (const batch of mergeChain(segments, parts, keyGroup)) {
    for (const { key, value } of batch) {
      if (value === null) rows.delete(key.toString('latin1'));
      else rows.set(key.toString('latin1'), value);
    }
  }
  return new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1)));
}
