/**
 * Writes a segment (P11-P14, P18, P23): rows sorted by (key group, key), in blocks that never span
 * two key groups or kinds of rows. The bytes are in segment-format.ts, blocks and index are made by
 * segment-body.ts; reading is in segment-reader.ts (`SegmentCache`, `openSegment`, `verifyObject`);
 * the chain of a key group is in chain.ts (`chainOf`, `mergeChain`, `collectGroup`).
 *
 * It runs in a slot thread beside event processing, so even sha256 and the copy into the final
 * buffer give way in between. A plain Buffer.concat of 64 MiB stops the slot for 20 ms.
 */
import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { type BodyFacts, badRow, SegmentBody } from './segment-body.ts';
import {
  BLOCK_RAW_BYTES,
  encodeHeader,
  encodeRowHead,
  HEADER_BYTES,
  ROW_HEADER_BYTES,
  type Row,
  rowBytes,
  type SegmentHeader,
  TURN_BYTES,
} from './segment-format.ts';

/** A body in memory is gathered in pieces of this size. */
const PIECE_BYTES = 64 * 1024;

export interface FinishedSegment {
  /** The object's bytes, for `ObjectStore.put`. */
  content: Buffer;
  /** Of `content`, hex: for the ObjectRef. */
  sha256: string;
  bytes: number;
  rows: number;
  /** Stored bytes per key group: what bases and deltas are weighed by (P15). */
  groupBytes: Map<number, number>;
}

/** A body that was written before; header and body make the segment. */
export interface StoredBody {
  /** Fills `target` with the body's bytes from `position` on. */
  read(target: Buffer, position: number): Promise<void> | void;
}

/** Joins header and body in pieces that give way to the event loop. */
export async function finishSegment(
  header: SegmentHeader,
  { bytes, rows, groupBytes }: BodyFacts,
  body: StoredBody,
): Promise<FinishedSegment> {
  const content = Buffer.allocUnsafeSlow(bytes);
  const sha = createHash('sha256');
  encodeHeader(header).copy(content);
  sha.update(content.subarray(0, HEADER_BYTES));
  for (let at = HEADER_BYTES; at < bytes; at += TURN_BYTES) {
    const piece = content.subarray(at, at + TURN_BYTES);
    await body.read(piece, at - HEADER_BYTES);
    sha.update(piece);
    await turn();
  }
  return { content, sha256: sha.digest('hex'), bytes, rows, groupBytes };
}

/** A body that is kept in memory. */
export class MemoryBody implements StoredBody {
  readonly #pieces: Buffer[] = [];
  #bytes = 0;

  /** Nothing more is written: gives back the rest of the last piece; what is held from here on. */
  trim(): number {
    const last = this.#pieces.pop();
    const used = this.#bytes % PIECE_BYTES || PIECE_BYTES;
    if (last !== undefined) this.#pieces.push(Buffer.from(last.subarray(0, used)));
    return this.#bytes;
  }

  write(piece: Buffer): void {
    for (let at = 0; at < piece.length; ) {
      const used = this.#bytes % PIECE_BYTES;
      if (used === 0) this.#pieces.push(Buffer.allocUnsafeSlow(PIECE_BYTES));
      const copied = piece.copy(this.#pieces.at(-1)!, used, at);
      this.#bytes += copied;
      at += copied;
    }
  }

  read(target: Buffer, position: number): void {
    for (let at = 0; at < target.length; ) {
      const from = position + at;
      const piece = this.#pieces[Math.floor(from / PIECE_BYTES)]!;
      at += piece.copy(target, at, from % PIECE_BYTES);
    }
  }
}

/**
 * One segment, written once: `addGroup` in rising key-group order, one call at a time, then
 * `finish`. A throw leaves it unusable.
 */
export class SegmentWriter {
  readonly #header: SegmentHeader;
  readonly #stored = new MemoryBody();
  readonly #body: SegmentBody;
  #lastKey: Buffer | null = null;

  constructor(header: SegmentHeader) {
    this.#header = header;
    this.#body = new SegmentBody(header, this.#stored);
  }

  /**
   * Adds rows of one key group, sorted by key, unique; a later call may go on with the same group.
   * An async iterable gives batches (an iterator's pages). The rows' buffers must stay unchanged
   * until this resolves. Throws SEGMENT_ROW for rows out of order or of another group, and for a
   * tombstone in a base.
   */
  async addGroup(
    keyGroup: number,
    rows: Iterable<Row> | AsyncIterable<readonly Row[]>,
  ): Promise<void> {
    if (keyGroup !== this.#body.keyGroup) this.#lastKey = null;
    await this.#body.enter(keyGroup);
    if (Symbol.asyncIterator in rows) {
      for await (const batch of rows) await this.#addRows(batch);
    } else {
      await this.#addRows(rows);
    }
    await this.#body.flush();
  }

  /** Call once, after the last group. */
  async finish(): Promise<FinishedSegment> {
    const facts = await this.#body.finish();
    return finishSegment(this.#header, facts, this.#stored);
  }

  async #addRows(rows: Iterable<Row>): Promise<void> {
    const body = this.#body;
    for (const row of rows) {
      const bytes = this.#check(row);
      if (bytes > BLOCK_RAW_BYTES) {
        await body.addLarge(sliceRow(row), bytes);
        continue;
      }
      let at = body.reserve(bytes, row.key, 0, row.key.length);
      if (at < 0) {
        await body.flush();
        at = body.reserve(bytes, row.key, 0, row.key.length);
      }
      const valueAt = encodeRowHead(row, body.block, at);
      row.value?.copy(body.block, valueAt);
    }
  }

  #check(row: Row): number {
    const bytes = rowBytes(row);
    if (row.key.readUInt16BE(0) !== this.#body.keyGroup) {
      throw badRow(`key ${row.key.toString('hex')} is not of key group ${this.#body.keyGroup}`);
    }
    if (this.#lastKey !== null && this.#lastKey.compare(row.key) >= 0) {
      throw badRow(`key ${row.key.toString('hex')} comes after ${this.#lastKey.toString('hex')}`);
    }
    if (row.value === null && this.#header.kind === 'base') {
      throw badRow('a base has no tombstones (P13)');
    }
    this.#lastKey = row.key;
    return bytes;
  }
}

/** A row too big for a block, as views: nothing is copied. */
function sliceRow(row: Row): Buffer[] {
  const head = Buffer.allocUnsafe(ROW_HEADER_BYTES + row.key.length);
  encodeRowHead(row, head, 0);
  const pieces: Buffer[] = [head];
  const value = row.value ?? Buffer.alloc(0);
  for (let at = 0; at < value.length; at += TURN_BYTES) {
    pieces.push(value.subarray(at, at + TURN_BYTES));
  }
  return pieces;
}
