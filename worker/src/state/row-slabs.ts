/**
 * Rows as bytes outside of V8's heap: appended as they arrive, read out sorted by key with the
 * newest image of each. Rows kept as objects made the collector mark millions of them again and
 * again, which took half of the thread.
 *
 *   slab = { u32 position of the key group's last row | row as in a segment (segment-format.ts) }*
 *
 * A position is slab number and offset in one u32, so the index costs 4 bytes per row and one head
 * per key group, and never has to be copied to grow.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { badRow } from '../checkpoint/segment-body.ts';
import { encodeRowHead, ROW_HEADER_BYTES, rowBytes } from '../checkpoint/segment-format.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import type { UserRow } from './rows.ts';

const OFFSET_BITS = 20;
const SLAB_BYTES = 1 << OFFSET_BITS;
const OFFSET_MASK = SLAB_BYTES - 1;
const MAX_SLABS = 2 ** (32 - OFFSET_BITS);
/** A row from here on gets a slab of its own size: at most an eighth of a slab stays unused. */
const OWN_SLAB_BYTES = SLAB_BYTES / 8;
/** The first slabs are small: most intervals of most tasks are. */
const FIRST_SLAB_BYTES = 4 * 1024;
const LINK_BYTES = 4;
const NONE = 0xffffffff;
const TOMBSTONE = 0xffffffff;
/** Rows compared or listed between two turns of the event loop: about 0.2 ms. */
const TURN_ROWS = 4096;

/**
 * Slabs that the runs of one task hand on to each other. Fresh memory costs its page faults, and
 * V8 starts a full collection for every few dozen MB of it.
 */
export class SlabPool {
  readonly #keepBytes: number;
  #free: Buffer[] = [];

  constructor(keepBytes: number) {
    this.#keepBytes = keepBytes;
  }

  /** Unused, but held. */
  get bytes(): number {
    return this.#free.length * SLAB_BYTES;
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);
  }

  give(slab: Buffer): void {
    if (slab.length === SLAB_BYTES && this.bytes + SLAB_BYTES <= this.#keepBytes) {
      this.#free.push(slab);
    }
  }
}

export class RowSlabs {
  readonly #range: KeyGroupRange;
  readonly #pool: SlabPool;
  readonly #slabs: Buffer[] = [];
  /** Newest row per key group of the range. */
  #heads: Uint32Array | null = null;
  /** The slab that is being filled, its number, and how far. */
  #open: Buffer | null = null;
  #openNumber = 0;
  #openUsed = 0;
  #usedBytes = 0;
  #heldBytes = 0;
  #sorting: [Uint32Array, Uint32Array] = [new Uint32Array(0), new Uint32Array(0)];

  constructor(range: KeyGroupRange, pool: SlabPool) {
    this.#range = range;
    this.#pool = pool;
  }

  /** Bytes of the rows added, with their links. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Memory held: slabs and index. */
  get heldBytes(): number {
    return this.#heldBytes + this.#sorting[0].byteLength + this.#sorting[1].byteLength;
  }

  /** No position is left for a slab: what comes next needs other RowSlabs. */
  get full(): boolean {
    return this.#slabs.length >= MAX_SLABS - 1;
  }

  /** Copies the row. Throws SEGMENT_ROW for one that no segment of this range may hold. */
  add(keyGroup: number, row: UserRow): void {
    const { first, last } = this.#range;
    const bytes = LINK_BYTES + rowBytes(row);
    if (row.key.readUInt16BE(0) !== keyGroup || keyGroup < first || keyGroup > last) {
      const key = row.key.toString('hex');
      throw badRow(`key ${key} is not of key group ${keyGroup}, or that not in ${first}..${last}`);
    }
    this.#heads ??= this.#newHeads();
    const heads = this.#heads;
    const position = this.#reserve(bytes);
    const slab = this.slabOf(position);
    const at = position & OFFSET_MASK;
    slab.writeUInt32LE(heads[keyGroup - first]!, at);
    const valueAt = encodeRowHead(row, slab, at + LINK_BYTES);
    row.value?.copy(slab, valueAt);
    heads[keyGroup - first] = position;
    this.#usedBytes += bytes;
  }

  /** Key groups with rows, rising. */
  *groups(): Generator<number, void, void> {
    const heads = this.#heads ?? [];
    for (let i = 0; i < heads.length; i++) if (heads[i] !== NONE) yield this.#range.first + i;
  }

  /**
   * Positions of a key group's rows by key, only the newest of each; valid until the next call.
   * Gives the event loop its turns. No row may be added meanwhile.
   */
  async sorted(keyGroup: number): Promise<Uint32Array> {
    const count = await this.#list(keyGroup);
    await this.#sort(count);
    const rows = this.#sorting[0];
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (i % TURN_ROWS === TURN_ROWS - 1) await turn();
      // The sort is stable and the list went back in time: of equal keys the first one is newest.
      if (kept > 0 && this.#compare(rows[kept - 1]!, rows[i]!) === 0) continue;
      rows[kept++] = rows[i]!;
    }
    return rows.subarray(0, kept);
  }

  slabOf(position: number): Buffer {
    return this.#slabs[position >>> OFFSET_BITS]!;
  }

  /** Where the encoded row begins in its slab. */
  startOf(position: number): number {
    return (position & OFFSET_MASK) + LINK_BYTES;
  }

  endOf(position: number): number {
    const slab = this.slabOf(position);
    const at = this.startOf(position);
    const value = slab.readUInt32BE(at + 2);
    return at + ROW_HEADER_BYTES + slab.readUInt16BE(at) + (value === TOMBSTONE ? 0 : value);
  }

  /** Its slabs are free for others; of no use from here on. */
  release(): void {
    for (const slab of this.#slabs) this.#pool.give(slab);
    this.#slabs.length = 0;
    this.#heads = null;
    this.#open = null;
    this.#sorting = [new Uint32Array(0), new Uint32Array(0)];
    this.#heldBytes = 0;
  }

  #newHeads(): Uint32Array {
    const heads = new Uint32Array(this.#range.last - this.#range.first + 1).fill(NONE);
    this.#heldBytes += heads.byteLength;
    return heads;
  }

  #reserve(bytes: number): number {
    if (bytes >= OWN_SLAB_BYTES) {
      return this.#addSlab(Buffer.allocUnsafeSlow(bytes)) * SLAB_BYTES;
    }
    if (this.#open === null || this.#openUsed + bytes > this.#open.length) {
      const size = Math.max(FIRST_SLAB_BYTES, this.#heldBytes, bytes);
      this.#open = size < SLAB_BYTES ? Buffer.allocUnsafeSlow(size) : this.#pool.take();
      this.#openNumber = this.#addSlab(this.#open);
      this.#openUsed = 0;
    }
    const position = this.#openNumber * SLAB_BYTES + this.#openUsed;
    this.#openUsed += bytes;
    return position;
  }

  #addSlab(slab: Buffer): number {
    if (this.full) throw badRow('a run has no room for another slab');
    this.#slabs.push(slab);
    this.#heldBytes += slab.length;
    return this.#slabs.length - 1;
  }

  /** Lists a group's rows in `#sorting[0]`, newest first. */
  async #list(keyGroup: number): Promise<number> {
    let rows = this.#sorting[0];
    let count = 0;
    let position = this.#heads?.[keyGroup - this.#range.first] ?? NONE;
    while (position !== NONE) {
      if (count === rows.length) {
        const larger = new Uint32Array(Math.max(1024, count * 2));
        larger.set(rows);
        rows = larger;
        this.#sorting = [rows, new Uint32Array(rows.length)];
      }
      rows[count++] = position;
      position = this.slabOf(position).readUInt32LE(position & OFFSET_MASK);
      if (count % TURN_ROWS === 0) await turn();
    }
    return count;
  }

  /** Merge sort of the first `count` of `#sorting[0]`: stable, and it can stop anywhere. */
  async #sort(count: number): Promise<void> {
    let [from, to] = this.#sorting;
    let steps = 0;
    for (let width = 1; width < count; width *= 2) {
      for (let low = 0; low < count; low += 2 * width) {
        const middle = Math.min(low + width, count);
        const high = Math.min(low + 2 * width, count);
        let left = low;
        let right = middle;
        for (let at = low; at < high; at++) {
          const takeLeft =
            right >= high || (left < middle && this.#compare(from[left]!, from[right]!) <= 0);
          to[at] = takeLeft ? from[left++]! : from[right++]!;
          if (++steps % TURN_ROWS === 0) await turn();
        }
      }
      [from, to] = [to, from];
    }
    this.#sorting = [from, to];
  }

  /** By key. Both are of one key group, so the first two bytes are equal. */
  #compare(a: number, b: number): number {
    const [left, right] = [this.slabOf(a), this.slabOf(b)];
    const [leftAt, rightAt] = [this.startOf(a), this.startOf(b)];
    const leftBytes = left.readUInt16BE(leftAt);
    const rightBytes = right.readUInt16BE(rightAt);
    const leftKey = leftAt + ROW_HEADER_BYTES;
    const rightKey = rightAt + ROW_HEADER_BYTES;
    const common = Math.min(leftBytes, rightBytes);
    // Byte by byte: for keys of this length a native compare costs more than it saves.
    for (let i = 2; i < common; i++) {
      const order = left[leftKey + i]! - right[rightKey + i]!;
      if (order !== 0) return order;
    }
    return leftBytes - rightBytes;
  }
}
