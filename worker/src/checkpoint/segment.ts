/**
 * Writes a segment (P11-P14, P18, P23): rows sorted by (key group, key), in blocks that never span
 * two key groups. The bytes are in segment-format.ts; reading is in segment-reader.ts
 * (`SegmentCache`, `openSegment`, `verifyObject`); the chain of a key group is in chain.ts
 * (`chainOf`, `mergeChain`, `collectGroup`).
 *
 * It runs in a slot thread beside event processing, so no synchronous piece touches more than
 * TURN_BYTES: compression runs in libuv's threads, crc and sha256 go along block by block, and even
 * the copy into the final buffer gives way in between. A plain Buffer.concat of 64 MiB stops the
 * slot for 20 ms.
 */
import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { constants, crc32, createZstdCompress, zstdCompress } from 'node:zlib';
import { TriggerJobError } from '../runtime/errors.ts';
import {
  BLOCK_RAW_BYTES,
  type BlockEntry,
  encodeFooter,
  encodeFrameHeader,
  encodeHeader,
  encodeRowHead,
  encodeTrailer,
  FRAME_HEADER_BYTES,
  ROW_HEADER_BYTES,
  type Row,
  rowBytes,
  type SegmentHeader,
  TURN_BYTES,
} from './segment-format.ts';

/** Below this a block is stored as it is: the trip to a libuv thread costs more than it saves. */
const MIN_COMPRESS_BYTES = 512;
/** The finished bytes are gathered in pieces of this size. */
const SLAB_BYTES = TURN_BYTES;

const compress = promisify(zstdCompress);
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

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

/**
 * One segment, written once: `addGroup` in rising key-group order, one call at a time, then
 * `finish`. A throw leaves it unusable.
 */
export class SegmentWriter {
  readonly #header: SegmentHeader;
  readonly #groups = new Map<number, BlockEntry[]>();
  readonly #sha = createHash('sha256');
  readonly #slabs: Buffer[] = [];
  #slabUsed = SLAB_BYTES;
  #bytes = 0;
  #rows = 0;
  #turnBytes = 0;
  #keyGroup = -1;
  #lastKey: Buffer | null = null;
  #pending: Row[] = [];
  #pendingBytes = 0;

  constructor(header: SegmentHeader) {
    this.#header = header;
    this.#append(encodeHeader(header));
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes;
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
    this.#enter(keyGroup);
    if (Symbol.asyncIterator in rows) {
      for await (const batch of rows) await this.#addRows(batch);
    } else {
      await this.#addRows(rows);
    }
    await this.#flush();
  }

  /** Call once, after the last group. */
  async finish(): Promise<FinishedSegment> {
    const footer = encodeFooter(this.#groups);
    const trailer = encodeTrailer(this.#bytes, footer);
    await this.#appendGently(footer);
    await this.#appendGently(trailer);
    const content = Buffer.allocUnsafeSlow(this.#bytes);
    let at = 0;
    for (const slab of this.#slabs) {
      at += slab.copy(content, at, 0, Math.min(slab.length, this.#bytes - at));
      await turn();
    }
    this.#slabs.length = 0;
    const groupBytes = new Map<number, number>();
    for (const [keyGroup, blocks] of this.#groups) {
      groupBytes.set(
        keyGroup,
        blocks.reduce((sum, block) => sum + block.bytes, 0),
      );
    }
    const sha256 = this.#sha.digest('hex');
    return { content, sha256, bytes: content.length, rows: this.#rows, groupBytes };
  }

  #enter(keyGroup: number): void {
    const { kind, range } = this.#header;
    if (keyGroup < this.#keyGroup) {
      throw badRow(`key group ${keyGroup} was added after ${this.#keyGroup}`);
    }
    if (kind !== 'volatile' && (keyGroup < range.first || keyGroup > range.last)) {
      throw badRow(`key group ${keyGroup} is not in ${range.first}..${range.last}`);
    }
    if (keyGroup > this.#keyGroup) this.#lastKey = null;
    this.#keyGroup = keyGroup;
  }

  async #addRows(rows: Iterable<Row>): Promise<void> {
    for (const row of rows) {
      const bytes = this.#check(row);
      if (this.#pendingBytes + bytes > BLOCK_RAW_BYTES) await this.#flush();
      this.#pending.push(row);
      this.#pendingBytes += bytes;
    }
  }

  #check(row: Row): number {
    const bytes = rowBytes(row);
    if (row.key.readUInt16BE(0) !== this.#keyGroup) {
      throw badRow(`key ${row.key.toString('hex')} is not of key group ${this.#keyGroup}`);
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

  /** Closes the block of the pending rows. */
  async #flush(): Promise<void> {
    const rows = this.#pending;
    const rawBytes = this.#pendingBytes;
    if (rows.length === 0) return;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#rows += rows.length;
    const first = rows[0] as Row;
    const pieces =
      rows.length === 1 && rawBytes > TURN_BYTES ? sliceRow(first) : [joinRows(rows, rawBytes)];
    const packed = await pack(pieces, rawBytes);
    const packedBytes = packed.reduce((sum, piece) => sum + piece.length, 0);
    const smaller = packedBytes < rawBytes;
    const stored = smaller ? packed : pieces;
    const storedBytes = smaller ? packedBytes : rawBytes;
    const offset = this.#bytes;
    const head = encodeFrameHeader({
      storedBytes,
      rawBytes,
      rows: rows.length,
      keyGroup: this.#keyGroup,
      codec: smaller ? 'zstd' : 'raw',
    });
    let crc = crc32(head.subarray(0, FRAME_HEADER_BYTES - 4));
    for (const piece of stored) {
      crc = crc32(piece, crc);
      await this.#gently(piece.length);
    }
    head.writeUInt32BE(crc, FRAME_HEADER_BYTES - 4);
    this.#append(head);
    for (const piece of stored) await this.#appendGently(piece);
    const blocks = this.#groups.get(this.#keyGroup) ?? [];
    blocks.push({ offset, bytes: FRAME_HEADER_BYTES + storedBytes, rawBytes, rows: rows.length });
    this.#groups.set(this.#keyGroup, blocks);
  }

  /** Gives the event loop a turn once TURN_BYTES were worked on without one. */
  async #gently(bytes: number): Promise<void> {
    this.#turnBytes += bytes;
    if (this.#turnBytes < TURN_BYTES) return;
    this.#turnBytes = 0;
    await turn();
  }

  async #appendGently(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; at += SLAB_BYTES) {
      const piece = bytes.subarray(at, at + SLAB_BYTES);
      this.#append(piece);
      await this.#gently(piece.length);
    }
  }

  #append(piece: Buffer): void {
    this.#sha.update(piece);
    this.#bytes += piece.length;
    for (let at = 0; at < piece.length; ) {
      if (this.#slabUsed === SLAB_BYTES) {
        this.#slabs.push(Buffer.allocUnsafeSlow(SLAB_BYTES));
        this.#slabUsed = 0;
      }
      const copied = piece.copy(this.#slabs.at(-1) as Buffer, this.#slabUsed, at);
      this.#slabUsed += copied;
      at += copied;
    }
  }
}

function badRow(fault: string): TriggerJobError {
  return new TriggerJobError('SEGMENT_ROW', `segment rows must be sorted and unique: ${fault}`);
}

function joinRows(rows: readonly Row[], bytes: number): Buffer {
  const out = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const row of rows) {
    at = encodeRowHead(row, out, at);
    if (row.value !== null) at += row.value.copy(out, at);
  }
  return out;
}

/** A row too big for one turn, as views: nothing is copied. */
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

async function pack(pieces: readonly Buffer[], rawBytes: number): Promise<readonly Buffer[]> {
  if (rawBytes < MIN_COMPRESS_BYTES) return pieces;
  const only = pieces[0];
  // One round trip per block: the output buffer holds whatever comes out.
  if (pieces.length === 1 && only !== undefined) {
    return [await compress(only, { ...ZSTD, chunkSize: BLOCK_RAW_BYTES + 1024 })];
  }
  // The one-call API would join 16 MB of output in one synchronous piece.
  const packed: Buffer[] = [];
  const stream = createZstdCompress({ ...ZSTD, chunkSize: TURN_BYTES });
  await pipeline(pieces, stream, async (out: AsyncIterable<Buffer>) => {
    for await (const piece of out) packed.push(piece);
  });
  return packed;
}
