/**
 * One key group of a checkpoint as it lies in its segments, in memory: read through once, so that
 * what is damaged is found before the task runs, and for the head rows, which every event needs;
 * then the other rows, user by user as they are asked for, or all that are left. Rows come from the
 * newest part of the chain to the oldest: the first image of a key counts, older ones are passed
 * over.
 */
import { NewestRows } from '../checkpoint/chain.ts';
import type { BlockEntry } from '../checkpoint/segment-format.ts';
import type { SegmentReader } from '../checkpoint/segment-reader.ts';
import { isHeadKey, prefixBytes } from './rows.ts';
import type { UserRow } from './user-state.ts';

interface IndexedBlock {
  reader: SegmentReader;
  entry: BlockEntry;
  /** Hashes of its users, each once: which blocks to read for one of them. */
  users: Uint32Array;
  /** Of the chain's oldest part. */
  oldest: boolean;
}

/** Of the user that a row belongs to. */
export function prefixOf(key: Buffer): Buffer {
  return key.subarray(0, prefixBytes(key));
}

export class GroupImage {
  readonly keyGroup: number;
  readonly #readers: readonly SegmentReader[];
  readonly #blocks: IndexedBlock[] = [];
  /** Users that were taken out, by prefix as latin1: their rows are the backend's from then on. */
  readonly #taken = new Set<string>();
  /** Rows of others that were written or deleted since, by key as latin1. */
  readonly #overwritten = new Set<string>();

  /** `readers`: the chain, newest first, all in memory. */
  constructor(keyGroup: number, readers: readonly SegmentReader[]) {
    this.keyGroup = keyGroup;
    this.#readers = readers;
  }

  /**
   * Reads every block once; must be done first. Yields its raw bytes with the head rows among the
   * rows that count, which are valid until the next step.
   */
  *index(scratch: Buffer): Generator<{ bytes: number; heads: UserRow[] }, void, void> {
    const newest = new NewestRows();
    for (const [number, reader] of this.#readers.entries()) {
      const oldest = number === this.#readers.length - 1;
      for (const entry of reader.groups.get(this.keyGroup) ?? []) {
        const rows = reader.blockRows(this.keyGroup, entry, scratch);
        this.#blocks.push({ reader, entry, users: usersOf(rows), oldest });
        const heads = rows.filter(({ key }) => isHeadKey(key));
        const found = oldest ? newest.ofOldest(heads) : newest.of(heads);
        yield { bytes: entry.rawBytes, heads: found };
      }
    }
  }

  has(user: string): boolean {
    return !this.#taken.has(user);
  }

  /** The user's rows but for its head, by its prefix. The caller writes them, then says `take`. */
  rowsOf(prefix: Buffer): UserRow[] {
    const newest = new NewestRows();
    const found: UserRow[] = [];
    for (const { reader, entry } of this.#blocksOf(prefix)) {
      const own = reader
        .blockRows(this.keyGroup, entry)
        .filter(({ key }) => prefixOf(key).equals(prefix) && this.#counts(key));
      found.push(...newest.of(own));
    }
    return found;
  }

  take(user: string): void {
    this.#taken.add(user);
  }

  /** The backend has a later image of this row from now on, or is to have none. */
  overwrite(key: Buffer): void {
    const prefix = prefixOf(key);
    if (isHeadKey(key) || !this.has(prefix.toString('latin1'))) return;
    // Of users in no block no row can come: theirs would only take memory.
    if (this.#blocksOf(prefix).length > 0) this.#overwritten.add(key.toString('latin1'));
  }

  /**
   * The rows, heads apart, of users that are not taken by then, a block at a time; `bytes` were
   * looked at.
   */
  *rest(): Generator<{ bytes: number; rows: UserRow[] }, void, void> {
    const newest = new NewestRows();
    for (const { reader, entry, oldest } of this.#blocks) {
      const left = reader
        .blockRows(this.keyGroup, entry)
        .filter(({ key }) => this.#counts(key) && this.#isLeft(key));
      const rows = oldest ? newest.ofOldest(left) : newest.of(left);
      yield { bytes: entry.rawBytes, rows };
    }
  }

  /** Those that may hold rows of the user, newest first. */
  #blocksOf(prefix: Buffer): IndexedBlock[] {
    const hash = hashOf(prefix, prefix.length);
    return this.#blocks.filter(({ users }) => users.includes(hash));
  }

  #counts(key: Buffer): boolean {
    const overwritten = this.#overwritten;
    return !isHeadKey(key) && !(overwritten.size > 0 && overwritten.has(key.toString('latin1')));
  }

  #isLeft(key: Buffer): boolean {
    return this.#taken.size === 0 || this.has(prefixOf(key).toString('latin1'));
  }
}

function usersOf(rows: readonly UserRow[]): Uint32Array {
  const hashes: number[] = [];
  let last = -1;
  for (const { key } of rows) {
    const hash = hashOf(key, prefixBytes(key));
    // Rows of a user lie side by side.
    if (hash === last) continue;
    hashes.push(hash);
    last = hash;
  }
  return Uint32Array.from(hashes);
}

/** FNV-1a. A collision costs the reading of a block. */
function hashOf(bytes: Buffer, length: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash >>> 0;
}
