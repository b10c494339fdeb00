/**
 * The history of one live user: closed chunks by number, and the open tail, as bytes in the arena.
 * An event is copied once, from the buffer it came in; a full tail leaves as a chunk row at once,
 * so that what an interval brought does not wait in memory for its checkpoint (P4 and P11 allow it:
 * the row's value arose in the open interval).
 *
 *   chunk block = the row as it is stored (rows.ts)
 *   tail block  = u16 events | u32 length x CHUNK_EVENTS | the events joined by ","
 */
import { copyWords, NATIVE_COPY_BYTES } from '../runtime/copy-words.ts';
import type { Chunk, Head } from './rows.ts';
import * as rows from './rows.ts';
import { type Block, NO_BLOCK, type SlabArena } from './slab-arena.ts';

/** A tail is closed into a chunk at either bound: an event costs its own bytes, no history's. */
const CHUNK_EVENTS = 16;
const CHUNK_BYTES = 4096;
const TAIL_HEADER_BYTES = 2 + CHUNK_EVENTS * 4;
/** Numbers per chunk in `#chunks`: seq, bytes. */
const STRIDE = 2;
const COMMA = 0x2c;

/** A chunk row that came to be, or, null, has to go. */
export interface ChunkChange {
  seq: number;
  value: Buffer | null;
}

/** Reads closed chunks as rows, in the order asked; throws if one is absent. */
export type ChunkRowReader = (seqs: readonly number[]) => Buffer[];

export class EventHistory {
  readonly #arena: SlabArena;
  #firstSeq: number;
  #nextSeq: number;
  #tailSeq: number;
  /** One flat array of small integers: an object per chunk was a third of the heap's objects. */
  readonly #chunks: number[] = [];
  #chunkBytes = 0;
  /** First number behind the oldest chunk: each event looks at it, and at no array for it. */
  #oldestEnd: number;
  #tail: Block = NO_BLOCK;
  #tailCapacity = 0;
  /** Joined bytes, without the header. */
  #tailJoined = 0;
  /** Of the closed chunks; null: they are not in memory, and a new one does not stay there. */
  #blocks: Block[] | null;
  #blockBytes = 0;

  /** `row`: the head row with the tail from `tailAt` on; null: no open events. */
  constructor(arena: SlabArena, head: Head, row: Buffer | null, tailAt: number) {
    this.#arena = arena;
    this.#firstSeq = head.firstSeq;
    this.#nextSeq = head.nextSeq;
    this.#tailSeq = head.tailSeq;
    for (const { seq, bytes } of head.chunks) {
      this.#chunks.push(seq, bytes);
      this.#chunkBytes += bytes;
    }
    this.#oldestEnd = head.chunks[1]?.seq ?? head.tailSeq;
    this.#blocks = head.chunks.length === 0 ? [] : null;
    if (row !== null && rows.eventCount(row, tailAt) > 0) this.#restoreTail(row, tailAt);
  }

  get length(): number {
    return this.#nextSeq - this.#firstSeq;
  }

  get firstSeq(): number {
    return this.#firstSeq;
  }

  get nextSeq(): number {
    return this.#nextSeq;
  }

  get tailSeq(): number {
    return this.#tailSeq;
  }

  get chunkCount(): number {
    return this.#chunks.length / STRIDE;
  }

  /** Bytes of the events, separators apart. */
  get storedBytes(): number {
    return this.#chunkBytes + this.#tailJoined - Math.max(0, this.#tailCount - 1);
  }

  /** What it holds in the arena. */
  get blockBytes(): number {
    return this.#blockBytes;
  }

  /** Of it, for closed chunks. */
  get closedBytes(): number {
    return this.#blockBytes - this.#tailCapacity;
  }

  get chunks(): Chunk[] {
    const chunks: Chunk[] = [];
    for (let i = 0; i < this.#chunks.length; i += STRIDE) {
      chunks.push({ seq: this.#chunks[i]!, bytes: this.#chunks[i + 1]! });
    }
    return chunks;
  }

  /**
   * Appends the event that lies in `source`, of which `view` is the same; a chunk that is closed by
   * it goes to `changes`.
   */
  push(source: Buffer, view: DataView, start: number, end: number, changes: ChunkChange[]): void {
    const bytes = end - start;
    const count = this.#tailCount;
    const comma = count > 0 ? 1 : 0;
    const joined = this.#tailJoined + comma + bytes;
    if (TAIL_HEADER_BYTES + joined > this.#tailCapacity) this.#growTail(joined, count + 1);
    const slab = this.#arena.view(this.#tail);
    const at = this.#arena.offset(this.#tail);
    const to = at + TAIL_HEADER_BYTES + this.#tailJoined;
    if (comma > 0) slab.setUint8(to, COMMA);
    if (bytes < NATIVE_COPY_BYTES) copyWords(view, start, bytes, slab, to + comma);
    else source.copy(this.#arena.buffer(this.#tail), to + comma, start, end);
    slab.setUint16(at, count + 1, true);
    slab.setUint32(at + 2 + count * 4, bytes, true);
    this.#tailJoined = joined;
    this.#nextSeq++;
    if (count + 1 >= CHUNK_EVENTS || joined - count >= CHUNK_BYTES) this.#closeTail(changes);
  }

  /** Drops what lies before the last `maxEvents`. */
  trimToEvents(maxEvents: number, changes: ChunkChange[]): void {
    const keepFrom = this.#nextSeq - maxEvents;
    if (keepFrom <= this.#firstSeq) return;
    this.#firstSeq = keepFrom;
    while (this.#oldestEnd <= keepFrom && this.#chunks.length > 0) this.#dropOldest(changes);
    const surplus = Math.min(keepFrom - this.#tailSeq, this.#tailCount);
    if (surplus > 0) this.#cutTail(surplus);
  }

  /** Drops the oldest chunk, whole, if there is one; returns how many events were lost. */
  dropChunk(changes: ChunkChange[]): number {
    if (this.#chunks.length === 0) return 0;
    const end = this.#oldestEnd;
    const lost = end - this.#firstSeq;
    this.#firstSeq = end;
    this.#dropOldest(changes);
    return lost;
  }

  /** Brings closed chunks that are not in memory there. */
  load(read: ChunkRowReader): void {
    if (this.#blocks === null) this.give(read(this.absent()));
  }

  /** Numbers of the closed chunks that are not in memory. */
  absent(): number[] {
    const seqs: number[] = [];
    if (this.#blocks !== null) return seqs;
    for (let i = 0; i < this.#chunks.length; i += STRIDE) seqs.push(this.#chunks[i]!);
    return seqs;
  }

  /** The rows of the absent chunks, in their order. */
  give(found: readonly Buffer[]): void {
    this.#blocks ??= found.map((row) => this.#store(row));
  }

  /** Lets go of the closed chunks: every one of them is written. */
  unload(): void {
    if (this.#chunks.length === 0 || this.#blocks === null) return;
    for (const block of this.#blocks) this.#release(block);
    this.#blocks = null;
  }

  /** Bytes of all events joined by commas; only after `load`. */
  get joinedBytes(): number {
    let bytes = 0;
    this.#eachPart((_, start, end) => {
      bytes += (bytes === 0 ? 0 : 1) + end - start;
    });
    return bytes;
  }

  /** Writes the joined events, oldest first; returns where they end. Only after `load`. */
  copyJoined(target: Buffer, from: number): number {
    let at = from;
    this.#eachPart((slab, start, end) => {
      if (at > from) target[at++] = COMMA;
      at += slab.copy(target, at, start, end);
    });
    return at;
  }

  /** The events' texts, oldest first; only after `load`. */
  texts(): string[] {
    const all: string[] = [];
    for (const block of this.#blocks!) {
      all.push(...rows.splitEvents(this.#arena.buffer(block), this.#arena.offset(block)));
    }
    if (this.#tailCount > 0) all.push(...rows.splitEvents(this.#encodeTail()));
    return all.slice(all.length - this.length);
  }

  get tailBytes(): number {
    return rows.eventsHeaderBytes(this.#tailCount) + this.#tailJoined;
  }

  /** The open events in the form of a chunk row. */
  writeTail(target: Buffer, at: number): void {
    const count = this.#tailCount;
    if (count === 0) {
      target.writeUInt16LE(0, at);
      return;
    }
    const slab = this.#arena.buffer(this.#tail);
    const from = this.#arena.offset(this.#tail);
    const header = rows.eventsHeaderBytes(count);
    slab.copy(target, at, from, from + header);
    const text = from + TAIL_HEADER_BYTES;
    slab.copy(target, at + header, text, text + this.#tailJoined);
  }

  #encodeTail(): Buffer {
    const row = Buffer.allocUnsafe(this.tailBytes);
    this.writeTail(row, 0);
    return row;
  }

  /** Gives every block back; the history must not be used after it. */
  release(): void {
    for (const block of this.#blocks ?? []) this.#release(block);
    this.#freeTail();
  }

  /** Calls back with the joined bytes of each chunk's kept events, then of the tail. */
  #eachPart(part: (slab: Buffer, start: number, end: number) => void): void {
    const arena = this.#arena;
    for (let i = 0; i < this.#chunks.length; i += STRIDE) {
      const block = this.#blocks![i / STRIDE]!;
      const slab = arena.buffer(block);
      const at = arena.offset(block);
      // The first kept event may lie inside the first chunk.
      const gone = i === 0 ? Math.max(0, this.#firstSeq - this.#chunks[i]!) : 0;
      const count = rows.eventCount(slab, at);
      const end = rows.joinedOffset(slab, 0, at) + this.#chunks[i + 1]! + count - 1;
      part(slab, at + rows.joinedOffset(slab, gone, at), at + end);
    }
    if (this.#tailCount === 0) return;
    const start = arena.offset(this.#tail) + TAIL_HEADER_BYTES;
    part(arena.buffer(this.#tail), start, start + this.#tailJoined);
  }

  get #tailCount(): number {
    return this.#nextSeq - this.#tailSeq;
  }

  #restoreTail(row: Buffer, tailAt: number): void {
    const count = rows.eventCount(row, tailAt);
    const text = tailAt + rows.eventsHeaderBytes(count);
    this.#tailJoined = row.length - text;
    this.#growTail(this.#tailJoined, count);
    const slab = this.#arena.buffer(this.#tail);
    const at = this.#arena.offset(this.#tail);
    row.copy(slab, at, tailAt, text);
    row.copy(slab, at + TAIL_HEADER_BYTES, text);
  }

  /**
   * Room for `joined` bytes of `count` events and one more. With room for a whole tail half of what
   * live users took was empty: to copy a KB at each second event costs less than the users that
   * found no place for it (bench, setting c).
   */
  #growTail(joined: number, count: number): void {
    const arena = this.#arena;
    const block = arena.allocate(TAIL_HEADER_BYTES + joined + Math.ceil(joined / count) + 1);
    const used = this.#tail === NO_BLOCK ? 0 : TAIL_HEADER_BYTES + this.#tailJoined;
    if (used > 0) {
      const from = arena.offset(this.#tail);
      arena.buffer(this.#tail).copy(arena.buffer(block), arena.offset(block), from, from + used);
    }
    this.#freeTail();
    this.#tail = block;
    this.#tailCapacity = arena.capacity(block);
    this.#blockBytes += this.#tailCapacity;
  }

  #closeTail(changes: ChunkChange[]): void {
    const seq = this.#tailSeq;
    const bytes = this.#tailJoined - (this.#tailCount - 1);
    const value = this.#encodeTail();
    changes.push({ seq, value });
    this.#chunks.push(seq, bytes);
    this.#blocks?.push(this.#store(value));
    this.#chunkBytes += bytes;
    this.#tailSeq = this.#nextSeq;
    this.#tailJoined = 0;
    this.#freeTail();
    // Of two chunks or more the first one's end stays.
    if (this.#chunks.length === STRIDE) this.#oldestEnd = this.#tailSeq;
  }

  /** The first `surplus` events of the tail are too old. */
  #cutTail(surplus: number): void {
    const slab = this.#arena.buffer(this.#tail);
    const at = this.#arena.offset(this.#tail);
    const left = this.#tailCount - surplus;
    let gone = 0;
    for (let i = 0; i < surplus; i++) gone += rows.eventBytes(slab, i, at) + 1;
    this.#tailSeq += surplus;
    slab.writeUInt16LE(left, at);
    slab.copyWithin(at + 2, at + 2 + surplus * 4, at + 2 + (surplus + left) * 4);
    const text = at + TAIL_HEADER_BYTES;
    if (left > 0) slab.copyWithin(text, text + gone, text + this.#tailJoined);
    this.#tailJoined = left > 0 ? this.#tailJoined - gone : 0;
  }

  #dropOldest(changes: ChunkChange[]): void {
    changes.push({ seq: this.#chunks[0]!, value: null });
    this.#chunkBytes -= this.#chunks[1]!;
    const block = this.#blocks?.shift();
    if (block !== undefined) this.#release(block);
    this.#chunks.splice(0, STRIDE);
    this.#oldestEnd = this.#chunks[STRIDE] ?? this.#tailSeq;
    if (this.#chunks.length === 0) this.#blocks = [];
  }

  #store(row: Buffer): Block {
    const block = this.#arena.allocate(row.length);
    row.copy(this.#arena.buffer(block), this.#arena.offset(block));
    this.#blockBytes += this.#arena.capacity(block);
    return block;
  }

  #release(block: Block): void {
    this.#blockBytes -= this.#arena.capacity(block);
    this.#arena.free(block);
  }

  #freeTail(): void {
    if (this.#tail === NO_BLOCK) return;
    this.#blockBytes -= this.#tailCapacity;
    this.#arena.free(this.#tail);
    this.#tail = NO_BLOCK;
    this.#tailCapacity = 0;
  }
}
