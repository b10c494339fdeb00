/**
 * Memory for the bytes of live users outside of V8's heap: blocks of some size classes cut from
 * slabs of 1 MiB, named by small integers. 100,000 users as strings and arrays were 5 million heap
 * objects that each major collection marked anew: half of the TaskManager's CPU (bench one-slot).
 * A Buffer per block was rejected: the collector walks every ArrayBuffer, too.
 *
 * Owns no policy: whoever allocates frees. A block that is freed twice, or used after, is another
 * user's memory, so `free` checks what it can.
 */
import { viewOf } from '../runtime/copy-words.ts';
import { invariant } from '../runtime/errors.ts';

const UNIT_BITS = 6;
const UNIT_BYTES = 1 << UNIT_BITS;
const SLAB_BYTES = 1024 * 1024;
const SLAB_UNITS_BITS = 20 - UNIT_BITS;
const SLAB_UNITS = 1 << SLAB_UNITS_BITS;
const UNIT_MASK = SLAB_UNITS - 1;
/** A block's number stays a small integer of V8: 128 GiB. */
const MAX_SLABS = 1 << (31 - SLAB_UNITS_BITS);
/** Larger blocks, of a whole slab, get a slab of their own, of their exact size. */
const MAX_CLASS_UNITS = SLAB_UNITS / 4;
const MIN_SLAB_BYTES = 4 * 1024;
/** Slabs that a cache is to be cut into at least, whatever its size. */
const CACHE_SLABS = 64;
/** Steps of at most 1/4: a block wastes less than a fifth of itself on average. */
const CLASS_UNITS = sizeClasses();
/** Units wanted -> index of the class that holds them. */
const CLASS_OF = classTable();

/** A block; 0 is none. Slab number x SLAB_UNITS + first unit, both counted so that 0 is free. */
export type Block = number;

export const NO_BLOCK: Block = 0;

interface Slab {
  readonly buffer: Buffer;
  readonly view: DataView;
  /** Of each block; -1: one block of the slab's own size. */
  readonly sizeClass: number;
  readonly blockUnits: number;
  /** Freed blocks, as first units; blocks from `fresh` on were never used. */
  readonly freed: number[];
  fresh: number;
  live: number;
  /** It stands in its class's list of slabs with room. */
  listed: boolean;
}

export class SlabArena {
  readonly #slabUnits: number;
  /** Index 0 stays empty: no block is 0. */
  readonly #slabs: (Slab | null)[] = [null];
  readonly #unused: number[] = [];
  /** Slab numbers with room, per class. */
  readonly #roomy: number[][] = CLASS_UNITS.map(() => []);
  #bytes = 0;

  /**
   * `cacheBytes`: what its users may take. Slabs of a small cache are smaller, since every size
   * class has one that is not full.
   */
  constructor(cacheBytes = Number.POSITIVE_INFINITY) {
    const share = 2 ** Math.floor(Math.log2(Math.max(1, cacheBytes / CACHE_SLABS)));
    this.#slabUnits = Math.min(SLAB_BYTES, Math.max(MIN_SLAB_BYTES, share)) / UNIT_BYTES;
  }

  /** Bytes of all slabs: what the arena holds of the process. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A block of at least `bytes`; its content is undefined. */
  allocate(bytes: number): Block {
    const units = Math.max(1, Math.ceil(bytes / UNIT_BYTES));
    if (units > this.#slabUnits / 4) return this.#open(-1, units) * SLAB_UNITS;
    const sizeClass = CLASS_OF[units]!;
    const roomy = this.#roomy[sizeClass]!;
    const number = roomy.at(-1) ?? this.#open(sizeClass, CLASS_UNITS[sizeClass]!);
    const slab = this.#slabs[number]!;
    slab.live++;
    let unit = slab.freed.pop();
    if (unit === undefined) {
      unit = slab.fresh;
      slab.fresh += slab.blockUnits;
    }
    if (slab.freed.length === 0 && slab.fresh + slab.blockUnits > this.#slabUnits) {
      roomy.pop();
      slab.listed = false;
    }
    return number * SLAB_UNITS + unit;
  }

  free(block: Block): void {
    const number = block >>> SLAB_UNITS_BITS;
    const slab = this.#slabs[number];
    invariant(slab != null && slab.live > 0, 'a block was freed twice');
    slab.live--;
    if (slab.sizeClass < 0) {
      this.#drop(number, slab);
      return;
    }
    const roomy = this.#roomy[slab.sizeClass]!;
    // One empty slab stays: a class at its edge would else allocate 1 MiB again and again.
    if (slab.live === 0 && roomy.length > (slab.listed ? 1 : 0)) {
      if (slab.listed) roomy.splice(roomy.indexOf(number), 1);
      this.#drop(number, slab);
      return;
    }
    slab.freed.push(block & UNIT_MASK);
    if (slab.listed) return;
    slab.listed = true;
    roomy.push(number);
  }

  /** The slab that holds the block; valid until the block is freed. */
  buffer(block: Block): Buffer {
    return this.#slabs[block >>> SLAB_UNITS_BITS]!.buffer;
  }

  /** The same slab, for those who read and write words. */
  view(block: Block): DataView {
    return this.#slabs[block >>> SLAB_UNITS_BITS]!.view;
  }

  /** Where the block begins in its slab, bytes. */
  offset(block: Block): number {
    return (block & UNIT_MASK) << UNIT_BITS;
  }

  /** Bytes the block can hold; 0 for none. */
  capacity(block: Block): number {
    if (block === NO_BLOCK) return 0;
    return this.#slabs[block >>> SLAB_UNITS_BITS]!.blockUnits * UNIT_BYTES;
  }

  #open(sizeClass: number, blockUnits: number): number {
    const bytes = sizeClass < 0 ? blockUnits * UNIT_BYTES : this.#slabUnits * UNIT_BYTES;
    const buffer = Buffer.allocUnsafeSlow(bytes);
    const slab: Slab = {
      buffer,
      view: viewOf(buffer),
      sizeClass,
      blockUnits,
      freed: [],
      fresh: 0,
      live: sizeClass < 0 ? 1 : 0,
      listed: sizeClass >= 0,
    };
    this.#bytes += bytes;
    const number = this.#unused.pop() ?? this.#slabs.length;
    invariant(number < MAX_SLABS, 'the arena has no number left for a slab');
    this.#slabs[number] = slab;
    if (sizeClass >= 0) this.#roomy[sizeClass]!.push(number);
    return number;
  }

  #drop(number: number, slab: Slab): void {
    this.#bytes -= slab.buffer.length;
    this.#slabs[number] = null;
    this.#unused.push(number);
  }
}

function sizeClasses(): number[] {
  const classes: number[] = [];
  for (
    let units = 1;
    units <= MAX_CLASS_UNITS;
    units += Math.max(1, 2 ** Math.floor(Math.log2(units)) / 4)
  ) {
    classes.push(units);
  }
  return classes;
}

function classTable(): Uint8Array {
  const table = new Uint8Array(MAX_CLASS_UNITS + 1);
  let sizeClass = 0;
  for (let units = 1; units <= MAX_CLASS_UNITS; units++) {
    if (units > CLASS_UNITS[sizeClass]!) sizeClass++;
    table[units] = sizeClass;
  }
  return table;
}
