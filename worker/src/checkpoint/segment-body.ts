/**
 * Everything of a segment behind its header: block frames, index, trailer, for the writer of
 * segment.ts and for runs that are spooled before their interval has an end (state/delta-run.ts).
 * Where the bytes go is the sink's business.
 *
 * It runs in a slot thread beside event processing, so no synchronous piece touches more than
 * TURN_BYTES: compression runs in libuv's threads, two blocks at a time, and crc and copies go
 * along block by block. Block buffers are used again and again: a fresh one costs more in page
 * faults than the copy into it.
 */
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { crc32, createZstdCompress } from 'node:zlib';
import { TriggerJobError } from '../runtime/errors.ts';
import { BlockCompressor, PARALLEL_BLOCKS, ZSTD } from './block-compressor.ts';
import {
  BLOCK_RAW_BYTES,
  type BlockEntry,
  encodeFooter,
  encodeFrameHeader,
  encodeTrailer,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
  kindOf,
  ownerHash,
  ROW_HEADER_BYTES,
  type SegmentHeader,
  TURN_BYTES,
} from './segment-format.ts';

/** Below this a block is stored as it is: the trip to a libuv thread costs more than it saves. */
const MIN_COMPRESS_BYTES = 512;
/** First size of a block buffer: most segments are small. */
const FIRST_BLOCK_BYTES = 8 * 1024;
/** What a frame costs beyond its bytes, as bytes of work: a thousand tiny ones are a long turn. */
const FRAME_WORK_BYTES = 16 * 1024;

export interface SegmentSink {
  /** Takes a copy; `piece` may be overwritten as soon as this is done. */
  write(piece: Buffer): Promise<void> | void;
}

export interface BodyFacts {
  /** Of the whole segment, with its header. */
  bytes: number;
  rows: number;
  /** Stored bytes per key group: what bases and deltas are weighed by (P15). */
  groupBytes: Map<number, number>;
}

interface Flight {
  keyGroup: number;
  kind: number;
  owners: Uint16Array;
  rows: number;
  rawBytes: number;
  raw: readonly Buffer[];
  packed: Promise<readonly Buffer[]>;
  /** Free again once the frame is written. */
  buffer: Buffer | null;
}

/**
 * Encoded rows in rising order of (key group, key), one call at a time. The caller vouches for the
 * order within a key group. A throw leaves it unusable.
 */
export class SegmentBody {
  readonly #header: Pick<SegmentHeader, 'kind' | 'range'>;
  readonly #sink: SegmentSink;
  readonly #compressor = new BlockCompressor();
  readonly #groups = new Map<number, BlockEntry[]>();
  readonly #flights: Flight[] = [];
  readonly #spare: Buffer[] = [];
  #keyGroup = -1;
  #kind = 0;
  /** Of the open block; those of one owner lie side by side. */
  #owners: number[] = [];
  #block: Buffer = Buffer.allocUnsafeSlow(FIRST_BLOCK_BYTES);
  #used = 0;
  #blockRows = 0;
  #bytes = HEADER_BYTES;
  #rows = 0;
  #work = 0;

  constructor(header: Pick<SegmentHeader, 'kind' | 'range'>, sink: SegmentSink) {
    this.#header = header;
    this.#sink = sink;
  }

  /** The buffer of the open block, valid until the next call. */
  get block(): Buffer {
    return this.#block;
  }

  get keyGroup(): number {
    return this.#keyGroup;
  }

  /** The rows that follow are of `keyGroup`; the last one again, or a higher one. */
  async enter(keyGroup: number): Promise<void> {
    const { kind, range } = this.#header;
    if (keyGroup < this.#keyGroup) {
      throw badRow(`key group ${keyGroup} was added after ${this.#keyGroup}`);
    }
    if (kind !== 'volatile' && (keyGroup < range.first || keyGroup > range.last)) {
      throw badRow(`key group ${keyGroup} is not in ${range.first}..${range.last}`);
    }
    await this.flush();
    this.#keyGroup = keyGroup;
  }

  /**
   * Where to put a row of `bytes`, at most BLOCK_RAW_BYTES, in `block`, whose key lies in `source`;
   * -1: it is full, or of rows of another kind: `flush` it first.
   */
  reserve(bytes: number, source: Buffer, keyAt: number, keyBytes: number): number {
    const at = this.#used;
    const kind = kindOf(source, keyAt);
    if (at + bytes > BLOCK_RAW_BYTES || (at > 0 && kind !== this.#kind)) return -1;
    this.#kind = kind;
    if (at + bytes > this.#block.length) this.#growBlock(at + bytes);
    this.#used += bytes;
    this.#blockRows++;
    const owner = ownerHash(source, keyAt, keyBytes);
    if (owner !== this.#owners.at(-1)) this.#owners.push(owner);
    return at;
  }

  /** A row bigger than a block, as views of at most TURN_BYTES: nothing of it is copied. */
  async addLarge(raw: readonly Buffer[], rawBytes: number): Promise<void> {
    await this.flush();
    const [head] = raw;
    const keyBytes = head!.readUInt16BE(0);
    this.#flights.push({
      keyGroup: this.#keyGroup,
      kind: kindOf(head!, ROW_HEADER_BYTES),
      owners: Uint16Array.of(ownerHash(head!, ROW_HEADER_BYTES, keyBytes)),
      rows: 1,
      rawBytes,
      raw,
      packed: packPieces(raw),
      buffer: null,
    });
    while (this.#flights.length > 0) await this.#land();
  }

  /** Closes the open block. */
  async flush(): Promise<void> {
    if (this.#blockRows === 0) return;
    const raw = this.#block.subarray(0, this.#used);
    const small = raw.length < MIN_COMPRESS_BYTES;
    const packed = small ? Promise.resolve([raw]) : this.#compressor.compress(raw);
    // Reported by `#land`; without this it would count as unhandled while another one is awaited.
    packed.catch(() => {});
    this.#flights.push({
      keyGroup: this.#keyGroup,
      kind: this.#kind,
      owners: Uint16Array.from(this.#owners),
      rows: this.#blockRows,
      rawBytes: raw.length,
      raw: [raw],
      packed,
      buffer: this.#block,
    });
    this.#used = 0;
    this.#blockRows = 0;
    this.#owners = [];
    if (this.#flights.length >= PARALLEL_BLOCKS) await this.#land();
    this.#block = this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.#block.length);
  }

  /** Index and trailer; call once, after the last row. */
  async finish(): Promise<BodyFacts> {
    await this.flush();
    while (this.#flights.length > 0) await this.#land();
    this.#compressor.close();
    const footer = encodeFooter(this.#groups);
    const trailer = encodeTrailer(this.#bytes, footer);
    for (let at = 0; at < footer.length; at += TURN_BYTES) {
      await this.#write(footer.subarray(at, at + TURN_BYTES));
    }
    await this.#write(trailer);
    const groupBytes = new Map<number, number>();
    for (const [keyGroup, blocks] of this.#groups) {
      const bytes = blocks.reduce((sum, block) => sum + block.bytes, 0);
      groupBytes.set(keyGroup, bytes);
    }
    return { bytes: this.#bytes, rows: this.#rows, groupBytes };
  }

  /** Writes the frame of the oldest block under way. */
  async #land(): Promise<void> {
    const { keyGroup, kind, owners, rows, rawBytes, raw, packed, buffer } = this.#flights.shift()!;
    const pieces = await packed;
    const packedBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const smaller = packedBytes < rawBytes;
    const stored = smaller ? pieces : raw;
    const storedBytes = smaller ? packedBytes : rawBytes;
    const head = encodeFrameHeader({
      storedBytes,
      rawBytes,
      rows,
      keyGroup,
      kind,
      codec: smaller ? 'zstd' : 'raw',
    });
    let crc = crc32(head.subarray(0, FRAME_HEADER_BYTES - 4));
    for (const piece of stored) {
      crc = crc32(piece, crc);
      await this.#gently(piece.length);
    }
    head.writeUInt32BE(crc, FRAME_HEADER_BYTES - 4);
    const bytes = FRAME_HEADER_BYTES + storedBytes;
    const entry: BlockEntry = { offset: this.#bytes, bytes, rawBytes, rows, kind, owners };
    await this.#write(head);
    for (const piece of stored) await this.#write(piece);
    const blocks = this.#groups.get(keyGroup);
    if (blocks === undefined) this.#groups.set(keyGroup, [entry]);
    else blocks.push(entry);
    this.#rows += rows;
    if (buffer !== null) this.#spare.push(buffer);
    await this.#gently(FRAME_WORK_BYTES);
  }

  async #write(piece: Buffer): Promise<void> {
    this.#bytes += piece.length;
    await this.#sink.write(piece);
    await this.#gently(piece.length);
  }

  /** Gives the event loop a turn once TURN_BYTES were worked on without one. */
  async #gently(bytes: number): Promise<void> {
    this.#work += bytes;
    if (this.#work < TURN_BYTES) return;
    this.#work = 0;
    await turn();
  }

  #growBlock(bytes: number): void {
    const size = Math.min(BLOCK_RAW_BYTES, Math.max(bytes, this.#block.length * 2));
    const larger = Buffer.allocUnsafeSlow(size);
    this.#block.copy(larger, 0, 0, this.#used);
    this.#block = larger;
  }
}

export function badRow(fault: string): TriggerJobError {
  return new TriggerJobError('SEGMENT_ROW', `segment rows must be sorted and unique: ${fault}`);
}

/** The one-call API would join 16 MB of output in one synchronous piece. */
async function packPieces(pieces: readonly Buffer[]): Promise<readonly Buffer[]> {
  const packed: Buffer[] = [];
  const stream = createZstdCompress({ ...ZSTD, chunkSize: TURN_BYTES });
  await pipeline(pieces, stream, async (out: AsyncIterable<Buffer>) => {
    for await (const piece of out) packed.push(piece);
  });
  return packed;
}
