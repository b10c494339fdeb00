/**
 * Finds `"field"` in the bytes of a text by one look at every few bytes: an occurrence of n bytes
 * holds one of any four-byte words that lie n - 3 apart. No look waits for the result of another,
 * so it takes a third of the time of a search that moves along the bytes; a call into native code
 * costs more than a whole short event (bench/source-path.ts).
 */
import type { ValueBytes } from '../exchange/frame.ts';

/** What `only` answers in place of a position. */
export const NONE = -1;
export const SEVERAL = -2;

const WORD_BYTES = 4;
const SLOT_BITS = 10;
const HASH_SHIFT = 32 - SLOT_BITS;
const MULTIPLIERS = 64;

export class NameSearch {
  readonly #name: Buffer;
  readonly #multiplier: number;
  /** By the hash of a word: its place in the name + 1, or 0 if the name has no such word. */
  readonly #slots: Uint8Array;

  private constructor(name: Buffer, multiplier: number, slots: Uint8Array) {
    this.#name = name;
    this.#multiplier = multiplier;
    this.#slots = slots;
  }

  /**
   * For an ASCII name of at least two characters. null: two words of the name, which is very long
   * or repeats itself, share a slot whatever the hash.
   */
  static of(field: string): NameSearch | null {
    const name = Buffer.from(`"${field}"`, 'latin1');
    for (let n = 0; n < MULTIPLIERS; n++) {
      const multiplier = Math.imul(0x9e3779b1, 2 * n + 1);
      const slots = slotsOf(name, multiplier);
      if (slots !== null) return new NameSearch(name, multiplier, slots);
    }
    return null;
  }

  /** Where the only occurrence between `start` and `end` begins, or NONE, or SEVERAL. */
  only({ view }: ValueBytes, start: number, end: number): number {
    const name = this.#name;
    const stride = name.length - WORD_BYTES + 1;
    let found = NONE;
    for (let at = this.#look(view, start, end); at >= 0; at = this.#look(view, at + stride, end)) {
      const word = view.getInt32(at, true);
      const begin = at + 1 - this.#slots[Math.imul(word, this.#multiplier) >>> HASH_SHIFT]!;
      if (begin < start || begin + name.length > end || !isAt(view, begin, name)) continue;
      if (found >= 0) return SEVERAL;
      found = begin;
    }
    return found;
  }

  /** The next place with a word that hashes like one of the name; -1: none. */
  #look(view: DataView, from: number, end: number): number {
    const slots = this.#slots;
    const multiplier = this.#multiplier;
    const stride = this.#name.length - WORD_BYTES + 1;
    // A call in this loop would double its time: nothing of `view` could be kept in registers.
    for (let at = from, last = end - WORD_BYTES; at <= last; at += stride) {
      if (slots[Math.imul(view.getInt32(at, true), multiplier) >>> HASH_SHIFT] !== 0) return at;
    }
    return -1;
  }
}

function isAt(view: DataView, begin: number, name: Buffer): boolean {
  for (let i = 0; i < name.length; i++) if (view.getUint8(begin + i) !== name[i]) return false;
  return true;
}

/** null: two words of the name have the same hash. */
function slotsOf(name: Buffer, multiplier: number): Uint8Array | null {
  const slots = new Uint8Array(1 << SLOT_BITS);
  for (let at = 0; at + WORD_BYTES <= name.length; at++) {
    const hash = Math.imul(name.readInt32LE(at), multiplier) >>> HASH_SHIFT;
    if (slots[hash] !== 0) return null;
    slots[hash] = at + 1;
  }
  return slots;
}
