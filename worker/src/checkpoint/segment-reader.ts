/**
 * Reads segments: whole objects up to WHOLE_BYTES, ranges beyond, so that one key group of a big
 * segment costs its own bytes. Nothing is believed before its checksum was checked; what can't be
 * believed is refused with SEGMENT_CORRUPT, naming object, part and offset (I6: never wrong rows,
 * never fewer).
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { crc32, zstdDecompress } from 'node:zlib';
import { invariant, TriggerJobError } from '../runtime/errors.ts';
import { decompressBlock } from './block-decompressor.ts';
import type { ObjectStore } from './object-store.ts';
import {
  type BlockEntry,
  corrupt,
  decodeFooter,
  decodeFrame,
  decodeHeader,
  decodeRows,
  decodeTrailer,
  HEADER_BYTES,
  type Row,
  type SegmentHeader,
  TRAILER_BYTES,
} from './segment-format.ts';
import { sha256Of } from './sha256.ts';
import type { ObjectRef } from './snapshot.ts';

/** Objects up to this size are fetched at once and their sha256 checked. */
export const WHOLE_BYTES = 64 * 1024 * 1024;
/** Read at a time of an object that is only checked or copied. */
export const PIECE_BYTES = 8 * 1024 * 1024;
/** Fetched for the header: room for longer headers of later versions. */
const HEADER_READ_BYTES = 256;

/**
 * Up to here a block is decompressed in the calling thread, in a fraction of a millisecond. The
 * chain of a task has thousands of blocks, most of them small: on a busy machine the way to libuv's
 * threads and back took most of a restore, 6 s for 186 MB whose work is 1.2 s.
 */
const SYNC_BYTES = 256 * 1024;

const decompress = promisify(zstdDecompress);

type ReadRange = (offset: number, length: number) => Promise<Buffer>;

/** An opened segment: header and index are checked, blocks are checked as they are read. */
export class SegmentReader {
  readonly name: string;
  readonly header: SegmentHeader;
  readonly groups: ReadonlyMap<number, readonly BlockEntry[]>;
  readonly #read: ReadRange;
  /** null: it is read by ranges. */
  readonly #content: Buffer | null;

  constructor(
    name: string,
    header: SegmentHeader,
    groups: ReadonlyMap<number, readonly BlockEntry[]>,
    read: ReadRange,
    content: Buffer | null,
  ) {
    this.name = name;
    this.header = header;
    this.groups = groups;
    this.#read = read;
    this.#content = content;
  }

  /** Bytes kept in memory by this reader: all, or none. */
  get heldBytes(): number {
    return this.#content?.length ?? 0;
  }

  /**
   * Rows of one key group in key order, a block (about 128 KiB) at a time; nothing if it has none.
   */
  async *readGroup(keyGroup: number): AsyncGenerator<Row[], void, void> {
    for (const entry of this.groups.get(keyGroup) ?? []) yield await this.#block(keyGroup, entry);
  }

  /**
   * One block, at once: the segment must be in memory. With `scratch`, its rows are valid until
   * that is used again.
   */
  blockRows(keyGroup: number, entry: BlockEntry, scratch?: Buffer): Row[] {
    invariant(
      this.#content !== null,
      'a block was read at once of a segment that is not in memory',
    );
    const frame = this.#content.subarray(entry.offset, entry.offset + entry.bytes);
    return this.#rowsNow(keyGroup, entry, frame, scratch);
  }

  async #block(keyGroup: number, entry: BlockEntry): Promise<Row[]> {
    const frame = await this.#read(entry.offset, entry.bytes);
    if (entry.rawBytes <= SYNC_BYTES) return this.#rowsNow(keyGroup, entry, frame);
    const { codec, stored } = decodeFrame(frame, entry, keyGroup, this.name);
    if (codec === 'raw') return this.#rows(keyGroup, entry, stored);
    const options = { maxOutputLength: entry.rawBytes, chunkSize: entry.rawBytes + 64 };
    const raw = await decompress(stored, options).catch((cause: Error) => {
      throw this.#bad(entry, `zstd: ${cause.message}`);
    });
    return this.#rows(keyGroup, entry, raw);
  }

  #rowsNow(keyGroup: number, entry: BlockEntry, frame: Buffer, scratch?: Buffer): Row[] {
    const { codec, stored } = decodeFrame(frame, entry, keyGroup, this.name);
    if (codec === 'raw') return this.#rows(keyGroup, entry, stored);
    let raw: Buffer;
    try {
      raw = decompressBlock(stored, entry.rawBytes, scratch);
    } catch (cause) {
      throw this.#bad(entry, `zstd: ${(cause as Error).message}`);
    }
    return this.#rows(keyGroup, entry, raw);
  }

  #rows(keyGroup: number, entry: BlockEntry, raw: Buffer): Row[] {
    const bad = (fault: string) => this.#bad(entry, fault);
    if (raw.length !== entry.rawBytes) throw bad(`${raw.length} of ${entry.rawBytes} raw bytes`);
    const rows = decodeRows(raw, keyGroup, entry.kind, bad);
    if (rows.length !== entry.rows) throw bad(`${rows.length} of ${entry.rows} rows`);
    return rows;
  }

  #bad(entry: BlockEntry, fault: string): TriggerJobError {
    return corrupt(this.name, 'block', entry.offset, fault);
  }
}

/** Opens a segment whose bytes are at hand. `name` is for messages. */
export function openSegment(content: Buffer, name: string): Promise<SegmentReader> {
  const read = async (offset: number, length: number) => content.subarray(offset, offset + length);
  return open(name, content.length, read, content);
}

/**
 * Opens the segment of `ref`: its length must be the reference's, and its sha256 too when it is
 * fetched whole. Throws SEGMENT_MISSING if the store says that the object is absent.
 */
export async function openStored(
  store: ObjectStore,
  ref: ObjectRef,
  wholeBytes = WHOLE_BYTES,
): Promise<SegmentReader> {
  if (ref.bytes <= wholeBytes) return openSegment(await fetchObject(store, ref), ref.name);
  const read = (offset: number, length: number) => store.getRange(ref.name, offset, length);
  return open(ref.name, ref.bytes, read, null);
}

async function open(
  name: string,
  bytes: number,
  read: ReadRange,
  content: Buffer | null,
): Promise<SegmentReader> {
  if (bytes < HEADER_BYTES + TRAILER_BYTES) {
    throw corrupt(name, 'header', 0, `${bytes} bytes are no segment`);
  }
  const header = decodeHeader(await read(0, Math.min(bytes, HEADER_READ_BYTES)), name);
  const tail = await read(bytes - TRAILER_BYTES, TRAILER_BYTES);
  if (tail.length !== TRAILER_BYTES)
    throw corrupt(name, 'trailer', bytes - TRAILER_BYTES, 'cut off');
  const { footerOffset, footerBytes, footerCrc } = decodeTrailer(tail, bytes, name);
  const footer = await read(footerOffset, footerBytes);
  if (footer.length !== footerBytes || crc32(footer) !== footerCrc) {
    throw corrupt(name, 'footer', footerOffset, 'crc32 differs');
  }
  const groups = decodeFooter(footer, footerOffset, name, content !== null);
  return new SegmentReader(name, header, groups, read, content);
}

/**
 * The object's bytes, its length and sha256 checked (P22). Throws SEGMENT_MISSING,
 * SEGMENT_CORRUPT.
 */
export async function fetchObject(store: ObjectStore, ref: ObjectRef): Promise<Buffer> {
  const content = await store.get(ref.name);
  if (content === null) throw missing(store, ref.name);
  await checkContent(content, ref);
  return content;
}

/**
 * Reads the whole object of `ref` and checks length and sha256; a large one piece by piece, so that
 * memory does not bound what can be verified. `onBytes` hears of each piece, and may throw to end
 * it.
 */
export async function verifyObject(
  store: ObjectStore,
  ref: ObjectRef,
  onBytes: (bytes: number) => void = () => {},
): Promise<void> {
  if (ref.bytes <= PIECE_BYTES) {
    await fetchObject(store, ref);
    onBytes(ref.bytes);
    return;
  }
  // A read of a range does not tell an absent object from an unreadable one (P41), a list does.
  const found = (await store.list(ref.name)).find(({ name }) => name === ref.name);
  if (found === undefined) throw missing(store, ref.name);
  checkLength(ref, found.bytes);
  const sha = createHash('sha256');
  for (let at = 0; at < ref.bytes; at += PIECE_BYTES) {
    const wanted = Math.min(PIECE_BYTES, ref.bytes - at);
    const piece = await store.getRange(ref.name, at, wanted);
    if (piece.length !== wanted) checkLength(ref, at + piece.length);
    sha.update(piece);
    onBytes(piece.length);
  }
  checkHash(ref, sha.digest('hex'));
}

async function checkContent(content: Buffer, ref: ObjectRef): Promise<void> {
  checkLength(ref, content.length);
  checkHash(ref, await sha256Of(content));
}

function checkLength(ref: ObjectRef, bytes: number): void {
  if (bytes === ref.bytes) return;
  throw corrupt(ref.name, 'object', 0, `${bytes} bytes instead of ${ref.bytes}`);
}

function checkHash(ref: ObjectRef, sha256: string): void {
  if (sha256 === ref.sha256) return;
  throw corrupt(ref.name, 'object', 0, 'sha256 is not the one its reference gives');
}

function missing(store: ObjectStore, name: string): TriggerJobError {
  return new TriggerJobError('SEGMENT_MISSING', `object ${name} is not in ${store.url}`);
}

/**
 * Opened segments, least recently used out first, so that the many key groups of one segment open
 * it once. Holds at most `maxBytes` of whole objects and `maxSegments` readers.
 */
export class SegmentCache {
  readonly #store: ObjectStore;
  readonly #maxBytes: number;
  readonly #maxSegments: number;
  readonly #open = new Map<string, { reader: Promise<SegmentReader>; bytes: number }>();
  /**
   * Dropped once, so the segments in use are more than fit: from now on by ranges. Key groups are
   * read in turn, and without this each of them would fetch every segment anew.
   */
  readonly #byRange = new Set<string>();
  #bytes = 0;

  constructor(store: ObjectStore, options: { maxBytes?: number; maxSegments?: number } = {}) {
    this.#store = store;
    this.#maxBytes = options.maxBytes ?? 256 * 1024 * 1024;
    this.#maxSegments = options.maxSegments ?? 1024;
  }

  /** Throws as `openStored` does; a failed open is not remembered. */
  async open(ref: ObjectRef): Promise<SegmentReader> {
    const known = this.#open.get(ref.name);
    const wholeBytes = this.#byRange.has(ref.name) ? 0 : WHOLE_BYTES;
    const entry = known ?? {
      reader: openStored(this.#store, ref, wholeBytes),
      bytes: ref.bytes <= wholeBytes ? ref.bytes : 0,
    };
    if (known === undefined) this.#bytes += entry.bytes;
    this.#open.delete(ref.name);
    this.#open.set(ref.name, entry);
    this.#shrink();
    try {
      return await entry.reader;
    } catch (fault) {
      if (this.#open.get(ref.name) === entry) this.#drop(ref.name, entry.bytes);
      throw fault;
    }
  }

  #shrink(): void {
    for (const [name, { bytes }] of this.#open) {
      const fits = this.#bytes <= this.#maxBytes && this.#open.size <= this.#maxSegments;
      if (fits || this.#open.size === 1) return;
      if (bytes === 0 && this.#open.size <= this.#maxSegments) continue;
      this.#byRange.add(name);
      this.#drop(name, bytes);
    }
  }

  #drop(name: string, bytes: number): void {
    this.#open.delete(name);
    this.#bytes -= bytes;
  }
}
