/**
 * What the Profile API said of one live user: profile and visit JSON, as bytes in the arena, one
 * after the other. They never change while the user lives, so they are read from the backend only
 * when a script or a body asks for them.
 */
import type { JsonValue } from '../runtime/json.ts';
import * as rows from './rows.ts';
import type { Block, SlabArena } from './slab-arena.ts';

/** Heap bytes of parsed JSON per byte of its text. */
export const PARSED_FACTOR = 4;
/**
 * Smaller profiles are parsed again when a script asks: 2.4 us for 1.8 KB. Kept parsed, the 60
 * objects of each made the collector's marking cost more than that per event.
 */
const KEEP_PARSED_BYTES = 16 * 1024;

export class ProfileTexts {
  readonly #arena: SlabArena;
  readonly #block: Block;
  readonly #profileBytes: number;
  readonly #visitBytes: number;
  #profile: JsonValue | undefined;

  /** From `profileBytes` and then `visitBytes` bytes of `source` from `start` on. */
  constructor(
    arena: SlabArena,
    source: Buffer,
    start: number,
    profileBytes: number,
    visitBytes: number,
  ) {
    const bytes = profileBytes + visitBytes;
    this.#arena = arena;
    this.#profileBytes = profileBytes;
    this.#visitBytes = visitBytes;
    this.#block = arena.allocate(bytes);
    const at = arena.offset(this.#block);
    source.copy(arena.buffer(this.#block), at, start, start + bytes);
  }

  static fromRow(arena: SlabArena, row: Buffer): ProfileTexts {
    const profileBytes = rows.profileBytesOf(row);
    return new ProfileTexts(arena, row, 4, profileBytes, row.length - 4 - profileBytes);
  }

  static fromAnswer(
    arena: SlabArena,
    { profile, visit }: { profile: string; visit: string },
  ): ProfileTexts {
    const source = Buffer.from(profile + visit);
    const profileBytes = Buffer.byteLength(profile);
    return new ProfileTexts(arena, source, 0, profileBytes, source.length - profileBytes);
  }

  /** Of the profile's text. */
  get profileBytes(): number {
    return this.#profileBytes;
  }

  /** Of both texts. */
  get bytes(): number {
    return this.#profileBytes + this.#visitBytes;
  }

  /** What it takes in the arena and, parsed, in the heap. */
  get memoryBytes(): number {
    const parsed = this.#profile === undefined ? 0 : this.#profileBytes * PARSED_FACTOR;
    return this.#arena.capacity(this.#block) + parsed;
  }

  get profile(): JsonValue {
    if (this.#profile !== undefined) return this.#profile;
    const parsed = JSON.parse(this.profileText) as JsonValue;
    if (this.#profileBytes > KEEP_PARSED_BYTES) this.#profile = parsed;
    return parsed;
  }

  get profileText(): string {
    const start = this.#arena.offset(this.#block);
    return this.#arena.buffer(this.#block).toString('utf8', start, start + this.#profileBytes);
  }

  get visitText(): string {
    const start = this.#arena.offset(this.#block) + this.#profileBytes;
    return this.#arena.buffer(this.#block).toString('utf8', start, start + this.#visitBytes);
  }

  /** Writes the profile JSON; returns where it ends. */
  copyProfile(target: Buffer, at: number): number {
    const start = this.#arena.offset(this.#block);
    const slab = this.#arena.buffer(this.#block);
    return at + slab.copy(target, at, start, start + this.#profileBytes);
  }

  encode(): Buffer {
    const slab = this.#arena.buffer(this.#block);
    const start = this.#arena.offset(this.#block);
    return rows.encodeProfile(slab, start, this.#profileBytes, this.#visitBytes);
  }

  release(): void {
    this.#arena.free(this.#block);
  }
}
