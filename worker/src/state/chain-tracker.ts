/**
 * Which segments make up the state of one task, pure: per key group a base and the deltas since, in
 * the shape that `SubtaskSnapshot` carries. The task owns this list, so a delta of an aborted
 * checkpoint stays in it and goes into the next manifest by itself: owed deltas (P16) need no
 * second bookkeeping.
 */
import type { BaseRef, DeltaRef, KeyGroupRange, ObjectRef } from '../checkpoint/snapshot.ts';

/** Deltas a key group may collect before it gets a base whatever their size. */
const MAX_CHAIN = 24;

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
      const { length, bytes } = this.#chainOf(group, base?.epoch ?? 0);
      if (bytes === 0) continue;
      const outweighs = base !== undefined && bytes > base.bytes;
      if (outweighs || length >= MAX_CHAIN) {
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
  #chainOf(group: number, epoch: number): { length: number; bytes: number } {
    let length = 0;
    let bytes = 0;
    for (const { ref, groupBytes } of this.#deltas) {
      if (ref.object === null || ref.to < epoch) continue;
      const own = groupBytes.get(group);
      if (own === undefined) continue;
      length++;
      bytes += own;
    }
    return { length, bytes };
  }

  /** Drops deltas that no group of ours needs: each has a newer base. */
  #prune(): void {
    let oldestNeeded = Number.POSITIVE_INFINITY;
    for (let group = this.#range.first; group <= this.#range.last; group++) {
      oldestNeeded = Math.min(oldestNeeded, this.#bases.get(group)?.epoch ?? 0);
    }
    this.#deltas = this.#deltas.filter(({ ref }) => ref.to >= oldestNeeded);
  }
}
