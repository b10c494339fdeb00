/**
 * One key group of a checkpoint as it lies in its segments, in memory: first the head rows, which
 * every event needs and which may be held here, too, until they are written; then the other rows,
 * those of one user and kind as they are asked for, or all that are left. Rows come from the newest
 * part of the chain to the oldest: the first image of a key counts, older ones are passed over.
 * Damage is found before the task runs: the segments were fetched whole, and their sha256 checked.
 */
import { NewestRows } from '../checkpoint/chain.ts';
import { type BlockEntry, kindOf, ownerHash, ownerOf } from '../checkpoint/segment-format.ts';
import type { SegmentReader } from '../checkpoint/segment-reader.ts';
import { HEAD, isHeadKey, type UserRow } from './rows.ts';

/** Of held heads that are written at once. */
const HEADS_BYTES = 128 * 1024;
/** Beside its bytes: key, map entry and view, measured. */
const HELD_ROW_BYTES = 250;

interface HeldBlock {
  reader: SegmentReader;
  entry: BlockEntry;
  /** Of the chain's oldest part. */
  oldest: boolean;
}

export class GroupImage {
  readonly keyGroup: number;
  readonly #readers: readonly SegmentReader[];
  /** Heads that are not the backend's yet, by key as latin1; views of their blocks. */
  readonly #held = new Map<string, Buffer>();
  /** Without those of head rows, newest first. */
  readonly #blocks: HeldBlock[] = [];
  /** Owners that were taken out, as latin1: their rows are the backend's from then on. */
  readonly #taken = new Set<string>();
  /** Rows of others that were written or deleted since, by key as latin1. */
  readonly #overwritten = new Set<string>();

  /** `readers`: the chain, newest first, all in memory. */
  constructor(keyGroup: number, readers: readonly SegmentReader[]) {
    this.keyGroup = keyGroup;
    this.#readers = readers;
  }

  /** Memory that holding the heads takes, those included that are passed over. */
  get headBytes(): number {
    let bytes = 0;
    for (const { groups } of this.#readers) {
      for (const { kind, rawBytes, rows } of groups.get(this.keyGroup) ?? []) {
        if (kind === HEAD) bytes += rawBytes + rows * HELD_ROW_BYTES;
      }
    }
    return bytes;
  }

  /**
   * Reads the head rows; must be done first. A block at a time: its raw bytes, and those of its
   * rows that count. With `scratch` they are valid until the next step.
   */
  *heads(scratch?: Buffer): Generator<{ bytes: number; heads: UserRow[] }, void, void> {
    const newest = new NewestRows();
    for (const [number, reader] of this.#readers.entries()) {
      const oldest = number === this.#readers.length - 1;
      for (const entry of reader.groups.get(this.keyGroup) ?? []) {
        if (entry.kind !== HEAD) {
          this.#blocks.push({ reader, entry, oldest });
          continue;
        }
        const rows = reader.blockRows(this.keyGroup, entry, scratch);
        yield { bytes: entry.rawBytes, heads: oldest ? newest.ofOldest(rows) : newest.of(rows) };
      }
    }
  }

  hold(heads: readonly UserRow[]): void {
    for (const { key, value } of heads) this.#held.set(key.toString('latin1'), value!);
  }

  /** The value of the head row with this key, if it is held. */
  head(key: Buffer): Buffer | undefined {
    const some = this.#held.size > 0 && isHeadKey(key);
    return some ? this.#held.get(key.toString('latin1')) : undefined;
  }

  /** This head row is the backend's from now on. */
  takeHead(key: Buffer): void {
    this.#held.delete(key.toString('latin1'));
  }

  has(owner: string): boolean {
    return !this.#taken.has(owner);
  }

  /** All rows of this row's owner. The caller writes them, then says `take`. */
  rowsOf(row: Buffer): UserRow[] {
    const newest = new NewestRows();
    const owner = ownerOf(row);
    const found: UserRow[] = [];
    for (const { reader, entry } of this.#blocksOf(row)) {
      const own = reader
        .blockRows(this.keyGroup, entry)
        .filter(({ key }) => ownerOf(key).equals(owner) && this.#counts(key));
      found.push(...newest.of(own));
    }
    return found;
  }

  take(owner: string): void {
    this.#taken.add(owner);
  }

  /** The backend has a later image of this row from now on, or is to have none. */
  overwrite(key: Buffer): void {
    if (isHeadKey(key)) {
      this.takeHead(key);
      return;
    }
    if (!this.has(ownerOf(key).toString('latin1'))) return;
    // Of an owner in no block no row can come: its own would only take memory.
    if (this.#blocksOf(key).length > 0) this.#overwritten.add(key.toString('latin1'));
  }

  /**
   * What is left, for the caller to write at once: heads that are held, some at a time, which the
   * caller then takes; then the rows of owners that are not taken by then, a block at a time.
   * `bytes` were looked at.
   */
  *rest(): Generator<{ bytes: number; rows: UserRow[] }, void, void> {
    yield* this.#restOfHeads();
    const newest = new NewestRows();
    for (const { reader, entry, oldest } of this.#blocks) {
      const left = reader
        .blockRows(this.keyGroup, entry)
        .filter(({ key }) => this.#counts(key) && this.#isLeft(key));
      const rows = oldest ? newest.ofOldest(left) : newest.of(left);
      yield { bytes: entry.rawBytes, rows };
    }
  }

  *#restOfHeads(): Generator<{ bytes: number; rows: UserRow[] }, void, void> {
    let rows: UserRow[] = [];
    let bytes = 0;
    for (const [key, value] of this.#held) {
      rows.push({ key: Buffer.from(key, 'latin1'), value });
      bytes += key.length + value.length;
      if (bytes < HEADS_BYTES) continue;
      yield { bytes, rows };
      rows = [];
      bytes = 0;
    }
    if (rows.length > 0) yield { bytes, rows };
  }

  /** Those that may hold rows of this row's owner, newest first; by its hash, so some may not. */
  #blocksOf(key: Buffer): HeldBlock[] {
    const kind = kindOf(key);
    const hash = ownerHash(key, 0, key.length);
    return this.#blocks.filter(({ entry }) => entry.kind === kind && entry.owners.includes(hash));
  }

  #counts(key: Buffer): boolean {
    const overwritten = this.#overwritten;
    return !(overwritten.size > 0 && overwritten.has(key.toString('latin1')));
  }

  #isLeft(key: Buffer): boolean {
    return this.#taken.size === 0 || this.has(ownerOf(key).toString('latin1'));
  }
}
