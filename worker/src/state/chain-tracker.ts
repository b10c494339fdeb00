/**
 * Which segments make up the state of one task, pure: per key group a base and the deltas since, in
 * the shape that `SubtaskSnapshot` carries. The task owns this list, so a delta of an aborted
 * checkpoint stays in it and goes into the next manifest by itself: owed deltas (P16) need no
 * second bookkeeping.
 */
import type { BaseRef, DeltaRef, KeyGroupRange, ObjectRef } from '../checkpoint/snapshot.ts';

/** Deltas a key group may collect before it gets a base whatever their size. */
const MAX_CHAIN = 24;
/** Entries after a delta that a key group may still keep: one quiet group pins a whole object. */
const MAX_AGE = 64;

interface GroupBase {
  object: ObjectRef;
  epoch: number;
  bytes: number;
}

interface TrackedDelta {
  ref: DeltaRef;
  groupBytes: ReadonlyMap<number, number>;
}

export class ChainTracker {
  readonly #range: KeyGroupRange;
  readonly #bases = new Map<number, GroupBase>();
  #deltas: TrackedDelta[] = [];

  constructor(range: KeyGroupRange) {
    this.#range = range;
  }

  /** Stored bytes that the snapshot refers to. */
  get bytes(): number {
    const objects = new Map<string, number>();
    for (const { ref } of this.#deltas) {
      if (ref.object !== null) objects.set(ref.object.name, ref.object.bytes);
    }
    for (const base of this.#bases.values()) objects.set(base.object.name, base.object.bytes);
    let sum = 0;
    for (const bytes of objects.values()) sum += bytes;
    return sum;
  }

  addDelta(ref: DeltaRef, groupBytes: ReadonlyMap<number, number>): void {
    this.#deltas.push({ ref, groupBytes });
  }

  /**
   * `groupBytes` names the key groups the base serves. An older base never replaces a newer one.
   */
  addBase(object: ObjectRef, epoch: number, groupBytes: ReadonlyMap<number, number>): void {
    for (const [group, bytes] of groupBytes) {
      const known = this.#bases.get(group);
      if (known === undefined || known.epoch < epoch) {
        this.#bases.set(group, { object, epoch, bytes });
      }
    }
    this.#prune();
  }

  /** The chain as a checkpoint at `checkpointId` needs it: nothing later than it. */
  snapshot(checkpointId: number): { bases: BaseRef[]; deltas: DeltaRef[] } {
    this.#prune();
    const byObject = new Map<string, BaseRef>();
    for (const [group, base] of this.#bases) {
      const known = byObject.get(base.object.name);
      if (known !== undefined) known.groups.push(group);
      else {
        const ref = { groups: [group], epoch: base.epoch, object: base.object };
        byObject.set(base.object.name, ref);
      }
    }
    const deltas = this.#deltas.map(({ ref }) => ref).filter(({ to }) => to <= checkpointId);
    deltas.sort((a, b) => a.to - b.to || a.run - b.run);
    return { bases: [...byObject.values()], deltas };
  }

  /**
   * Key groups whose base is due (P15), longest chain first, within a byte budget: their deltas
   * outweigh the base, or the chain is at its maximum. `clean` groups never get one.
   */
  due(budgetBytes: number): number[] {
    const candidates: { group: number; length: number; bytes: number }[] = [];
    for (let group = this.#range.first; group <= this.#range.last; group++) {
      const base = this.#bases.get(group);
      const { length, bytes, age } = this.#chainOf(group, base?.epoch ?? 0);
      if (bytes === 0) continue;
      const outweighs = base !== undefined && bytes > base.bytes;
      if (outweighs || length >= MAX_CHAIN || age >= MAX_AGE) {
        candidates.push({ group, length, bytes: bytes + (base?.bytes ?? 0) });
      }
    }
    candidates.sort((a, b) => b.length - a.length || b.bytes - a.bytes);
    const due: number[] = [];
    let left = budgetBytes;
    for (const { group, bytes } of candidates) {
      if (due.length > 0 && bytes > left) break;
      due.push(group);
      left -= bytes;
    }
    return due.sort((a, b) => a - b);
  }

  /**
   * Continuity entries (object null) cost a reader nothing, so only real deltas make a chain long.
   */
  #chainOf(group: number, epoch: number): { length: number; bytes: number; age: number } {
    let length = 0;
    let bytes = 0;
    let age = 0;
    for (const [i, { ref, groupBytes }] of this.#deltas.entries()) {
      if (ref.object === null || ref.to < epoch) continue;
      const own = groupBytes.get(group);
      if (own === undefined) continue;
      if (length === 0) age = this.#deltas.length - i;
      length++;
      bytes += own;
    }
    return { length, bytes, age };
  }

  /**
   * Lets go of objects that no key group of ours needs: it has no row in them, or a newer base.
   * Their place in the chain stays as an entry without object, neighbours merged. Going by the
   * oldest base alone let one key group without a base keep every delta for ever.
   */
  #prune(): void {
    // After a rescale two former tasks' runs of one interval lie between each other.
    this.#deltas.sort(byRange);
    const kept: TrackedDelta[] = [];
    for (const interval of intervalsOf(this.#deltas)) {
      const needed = interval.filter((delta) => this.#isNeeded(delta));
      if (needed.length > 0) {
        kept.push(...needed);
        continue;
      }
      const { ref } = interval[0]!;
      const last = kept.at(-1);
      const joins = last !== undefined && last.ref.object === null && follows(last.ref, ref);
      if (joins) kept.pop();
      const from = joins ? last.ref.from : ref.from;
      kept.push({ ref: { ...ref, from, run: 0, object: null }, groupBytes: new Map() });
    }
    this.#deltas = kept;
  }

  #isNeeded({ ref, groupBytes }: TrackedDelta): boolean {
    if (ref.object === null) return false;
    for (const group of groupBytes.keys()) {
      const { first, last } = this.#range;
      if (group >= first && group <= last && (this.#bases.get(group)?.epoch ?? 0) <= ref.to) {
        return true;
      }
    }
    return false;
  }
}

/** The runs of each interval and range, in order. */
function intervalsOf(deltas: readonly TrackedDelta[]): TrackedDelta[][] {
  const intervals: TrackedDelta[][] = [];
  for (const delta of deltas) {
    const last = intervals.at(-1);
    if (last !== undefined && sameInterval(last[0]!.ref, delta.ref)) last.push(delta);
    else intervals.push([delta]);
  }
  return intervals;
}

function byRange({ ref: a }: TrackedDelta, { ref: b }: TrackedDelta): number {
  const order = a.range.first - b.range.first || a.range.last - b.range.last;
  return order || a.to - b.to || a.run - b.run;
}

function sameRange(a: KeyGroupRange, b: KeyGroupRange): boolean {
  return a.first === b.first && a.last === b.last;
}

function sameInterval(a: DeltaRef, b: DeltaRef): boolean {
  return a.from === b.from && a.to === b.to && sameRange(a.range, b.range);
}

/** b's interval begins where a's ends, for the same key groups. */
function follows(a: DeltaRef, b: DeltaRef): boolean {
  return a.to === b.from && sameRange(a.range, b.range);
}
