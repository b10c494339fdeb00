/**
 * Every split of the job with its position, those included that nobody may read yet (P26). Pure:
 * the state is a value; the JobManager feeds it discoveries, checkpointed positions and time.
 *
 * A split found after the first start begins at earliest, but only after every older split has
 * passed the end offset it had at the discovery: after an increase of partitions a user's newer
 * events lie in the new partition, and reading them first would reverse that user's order (I4).
 */
import type { Split, SplitPosition } from '../source/source.ts';

interface Hold {
  /** Older split index -> the end offset it must pass. */
  readonly waitsFor: ReadonlyMap<number, number>;
  /** Monotonic ms at which the split is released in any case. */
  readonly expiresAt: number;
}

export interface SplitTrackerState {
  readonly positions: readonly SplitPosition[];
  readonly holds: ReadonlyMap<number, Hold>;
  /** Splits released by discoveryHoldMs before the older ones were done; a metric. */
  readonly expiredHolds: number;
}

/** All splits of a first start, at their resolved starting offsets (P25). */
export function firstSplits(
  found: readonly Omit<Split, 'index'>[],
  offsetOf: (split: Split) => number,
): SplitTrackerState {
  const positions = found.map((split, index): SplitPosition => {
    const numbered = { ...split, index };
    return { split: numbered, offset: offsetOf(numbered), clock: -1 };
  });
  return { positions, holds: new Map(), expiredHolds: 0 };
}

/**
 * From a manifest. What the held splits waited for is not stored: the caller passes the current end
 * offsets, which are later than those at the discovery, so waiting for them is stricter, never
 * wrong.
 */
export function restoredSplits(
  positions: readonly SplitPosition[],
  endOffsets: ReadonlyMap<number, number>,
  now: number,
  holdMs: number,
): SplitTrackerState {
  const released = positions.filter((position) => position.held !== true);
  const holds = new Map<number, Hold>();
  for (const position of positions) {
    if (position.held === true) {
      holds.set(position.split.index, holdFor(released, endOffsets, now, holdMs));
    }
  }
  return { positions: [...positions], holds, expiredHolds: 0 };
}

export function hasHolds(state: SplitTrackerState): boolean {
  return state.holds.size > 0;
}

/** Splits in `found` that are not known yet, numbered on from the known ones. */
export function unknownSplits(
  state: SplitTrackerState,
  found: readonly Omit<Split, 'index'>[],
): Split[] {
  const known = new Set(state.positions.map((position) => position.split.id));
  const next = Math.max(-1, ...state.positions.map((position) => position.split.index)) + 1;
  return found
    .filter((split) => !known.has(split.id))
    .map((split, offset) => ({ ...split, index: next + offset }));
}

/** Adds splits found later, held. `endOffsets` are those of the older splits at this discovery. */
export function addHeld(
  state: SplitTrackerState,
  found: readonly Split[],
  earliest: ReadonlyMap<number, number>,
  endOffsets: ReadonlyMap<number, number>,
  now: number,
  holdMs: number,
): SplitTrackerState {
  const positions = [...state.positions];
  const holds = new Map(state.holds);
  for (const split of found) {
    positions.push({ split, offset: earliest.get(split.index) ?? 0, clock: -1, held: true });
    holds.set(split.index, holdFor(state.positions, endOffsets, now, holdMs));
  }
  return { ...state, positions, holds };
}

/** Positions the tasks acknowledged. Held splits have none; unknown indexes are a caller's bug. */
export function advance(
  state: SplitTrackerState,
  acknowledged: readonly SplitPosition[],
): SplitTrackerState {
  const byIndex = new Map(acknowledged.map((position) => [position.split.index, position]));
  return {
    ...state,
    positions: state.positions.map((position) => {
      const newer = byIndex.get(position.split.index);
      return newer === undefined ? position : withoutHeld(newer);
    }),
  };
}

/** Releases what may be read now. `released` are the positions to give to their subtasks. */
export function release(
  state: SplitTrackerState,
  now: number,
): { state: SplitTrackerState; released: SplitPosition[] } {
  const offsets = new Map(state.positions.map((p) => [p.split.index, p.offset]));
  const holds = new Map(state.holds);
  const free = new Set<number>();
  let expiredHolds = state.expiredHolds;
  for (const [index, hold] of state.holds) {
    const passed = [...hold.waitsFor].every(([older, end]) => (offsets.get(older) ?? 0) >= end);
    if (!passed && now < hold.expiresAt) continue;
    if (!passed) expiredHolds += 1;
    holds.delete(index);
    free.add(index);
  }
  if (free.size === 0) return { state, released: [] };
  const positions = state.positions.map((position) =>
    free.has(position.split.index) ? withoutHeld(position) : position,
  );
  const released = positions.filter((position) => free.has(position.split.index));
  return { state: { positions, holds, expiredHolds }, released };
}

function holdFor(
  older: readonly SplitPosition[],
  endOffsets: ReadonlyMap<number, number>,
  now: number,
  holdMs: number,
): Hold {
  const waitsFor = new Map<number, number>();
  for (const position of older) {
    const end = endOffsets.get(position.split.index);
    if (end !== undefined) waitsFor.set(position.split.index, end);
  }
  return { waitsFor, expiresAt: now + holdMs };
}

function withoutHeld(position: SplitPosition): SplitPosition {
  const { held: _, ...rest } = position;
  return rest;
}
