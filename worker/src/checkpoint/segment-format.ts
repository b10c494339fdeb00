/**
 * The bytes of a segment: header, block frames, rows, footer index, trailer. Pure codecs; all
 * integers big-endian.
 *
 *   segment = header frame* footer trailer
 *   header  = "TJSG" version:u16 headerBytes:u16 kind:u8 0:u8 first:u16 last:u16 run:u32
 *             from:u64 to:u64 epoch:u64 crc:u32
 *   frame   = storedBytes:u32 rawBytes:u32 rows:u32 keyGroup:u16 codec:u8 kind:u8 crc:u32 stored
 *   raw     = { keyBytes:u16 valueBytes:u32 key value }*         valueBytes 0xffffffff = tombstone
 *   key     = keyGroup:u16 kind:u8 owner number:u32
 *   footer  = groups:u32 { keyGroup:u16 blocks:u32 block* }*
 *   block   = offset:u64 frameBytes:u32 rawBytes:u32 rows:u32 kind:u8 owners:u16 { hash:u16 }*
 *   trailer = footerOffset:u64 footerBytes:u32 footerCrc:u32 crc:u32 "TJSGEND."
 *
 * Rows of a block are of one key group and kind, and the footer has a hash of each one's owner: who
 * looks for the rows of one user, or for all of one kind, decompresses no others.
 *
 * Every byte is under a crc32 or a literal, so a flipped bit in what is read is always refused. The
 * first 8 bytes and the place of the header's crc hold for every version, so that a newer file is
 * told from a damaged one.
 */
import { crc32 } from 'node:zlib';
import { TriggerJobError } from '../runtime/errors.ts';
import type { KeyGroupRange } from './snapshot.ts';

/** 2: the kind of row stands before its owner, in blocks of its own. */
const SEGMENT_VERSION = 2;

/**
 * Raw bytes of a block, unless one row alone is bigger. Half as much takes 1 % more bytes, and a
 * checkpoint under load twice as long: the slot's thread has a turn for each pair of blocks. With
 * four at a time it was as quick, but a TaskManager of 2 GiB then took 100 MiB more.
 */
export const BLOCK_RAW_BYTES = 128 * 1024;
/** No synchronous piece of work touches more than this: the pause of a slot thread (P5, P8). */
export const TURN_BYTES = 256 * 1024;
/** Largest value of one row. Above `maxBytesPerUser` by far; bounds what a reader may allocate. */
const MAX_VALUE_BYTES = 512 * 1024 * 1024;
const MAX_KEY_BYTES = 0xffff;
/** Key group, kind and number. */
const MIN_KEY_BYTES = 7;
const KIND_AT = 2;
const NUMBER_BYTES = 4;

export const HEADER_BYTES = 46;
export const FRAME_HEADER_BYTES = 20;
export const ROW_HEADER_BYTES = 6;
export const TRAILER_BYTES = 28;
const TOMBSTONE = 0xffffffff;
const MAGIC = 'TJSG';
const END_MAGIC = 'TJSGEND.';
const BLOCK_ENTRY_BYTES = 23;
const OWNER_BYTES = 2;
const GROUP_ENTRY_BYTES = 6;

/** One row; a null value is a tombstone. */
export interface Row {
  key: Buffer;
  value: Buffer | null;
}

export type SegmentKind = 'delta' | 'base' | 'volatile';

/**
 * `from`/`to`/`run` belong to a delta (P12), `epoch` to a base (P13); 0 where a kind has no use
 * for one.
 */
export interface SegmentHeader {
  kind: SegmentKind;
  from: number;
  to: number;
  run: number;
  epoch: number;
  range: KeyGroupRange;
}

/** Where a block lies: `bytes` counts the frame header too. */
export interface BlockEntry {
  offset: number;
  bytes: number;
  rawBytes: number;
  rows: number;
  /** Of its rows. */
  kind: number;
  /** `ownerHash` of its rows, an owner's once; none, if the segment is read by ranges. */
  owners: Uint16Array;
}

export type Codec = 'raw' | 'zstd';

export interface FrameHeader {
  storedBytes: number;
  rawBytes: number;
  rows: number;
  keyGroup: number;
  kind: number;
  codec: Codec;
}

const KINDS: readonly SegmentKind[] = ['delta', 'base', 'volatile'];
const CODECS: readonly Codec[] = ['raw', 'zstd'];

export function corrupt(
  object: string,
  part: 'header' | 'block' | 'footer' | 'trailer' | 'object',
  offset: number,
  fault: string,
): TriggerJobError {
  return new TriggerJobError(
    'SEGMENT_CORRUPT',
    `segment ${object} is damaged: ${part} at offset ${offset}: ${fault}`,
  );
}

export function encodeHeader(header: SegmentHeader): Buffer {
  const out = Buffer.alloc(HEADER_BYTES);
  out.write(MAGIC, 0, 'latin1');
  out.writeUInt16BE(SEGMENT_VERSION, 4);
  out.writeUInt16BE(HEADER_BYTES, 6);
  out.writeUInt8(KINDS.indexOf(header.kind) + 1, 8);
  out.writeUInt16BE(header.range.first, 10);
  out.writeUInt16BE(header.range.last, 12);
  out.writeUInt32BE(header.run, 14);
  out.writeBigUInt64BE(BigInt(header.from), 18);
  out.writeBigUInt64BE(BigInt(header.to), 26);
  out.writeBigUInt64BE(BigInt(header.epoch), 34);
  out.writeUInt32BE(crc32(out.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4);
  return out;
}

export function decodeHeader(bytes: Buffer, object: string): SegmentHeader {
  if (bytes.length < 8 || bytes.toString('latin1', 0, 4) !== MAGIC) {
    throw corrupt(object, 'header', 0, 'not a segment (magic)');
  }
  const version = bytes.readUInt16BE(4);
  const length = bytes.readUInt16BE(6);
  if (length < 12 || length > bytes.length) {
    throw corrupt(object, 'header', 6, `header of ${length} bytes`);
  }
  if (crc32(bytes.subarray(0, length - 4)) !== bytes.readUInt32BE(length - 4)) {
    throw corrupt(object, 'header', 0, 'crc32 differs');
  }
  if (version !== SEGMENT_VERSION) {
    const newer = version > SEGMENT_VERSION ? ', or a newer one' : '';
    throw new TriggerJobError(
      'SEGMENT_VERSION',
      `segment ${object} has format version ${version}; this build reads version ` +
        `${SEGMENT_VERSION}. Restore it with the release that wrote it${newer}.`,
    );
  }
  const kind = KINDS[bytes.readUInt8(8) - 1];
  if (length !== HEADER_BYTES || kind === undefined) {
    throw corrupt(object, 'header', 8, `kind ${bytes.readUInt8(8)}, ${length} bytes`);
  }
  return {
    kind,
    range: { first: bytes.readUInt16BE(10), last: bytes.readUInt16BE(12) },
    run: bytes.readUInt32BE(14),
    from: Number(bytes.readBigUInt64BE(18)),
    to: Number(bytes.readBigUInt64BE(26)),
    epoch: Number(bytes.readBigUInt64BE(34)),
  };
}

/** The frame header without its crc, which also covers the stored bytes that follow. */
export function encodeFrameHeader(frame: FrameHeader): Buffer {
  const out = Buffer.alloc(FRAME_HEADER_BYTES);
  out.writeUInt32BE(frame.storedBytes, 0);
  out.writeUInt32BE(frame.rawBytes, 4);
  out.writeUInt32BE(frame.rows, 8);
  out.writeUInt16BE(frame.keyGroup, 12);
  out.writeUInt8(CODECS.indexOf(frame.codec), 14);
  out.writeUInt8(frame.kind, 15);
  return out;
}

/** Checks the crc of the whole frame, then its fields against the index entry that led here. */
export function decodeFrame(
  frame: Buffer,
  entry: BlockEntry,
  keyGroup: number,
  object: string,
): { codec: Codec; stored: Buffer } {
  const bad = (fault: string) => corrupt(object, 'block', entry.offset, fault);
  if (frame.length !== entry.bytes) throw bad(`${frame.length} of ${entry.bytes} bytes`);
  const stored = frame.subarray(FRAME_HEADER_BYTES);
  const crc = crc32(stored, crc32(frame.subarray(0, FRAME_HEADER_BYTES - 4)));
  if (crc !== frame.readUInt32BE(FRAME_HEADER_BYTES - 4)) throw bad('crc32 differs');
  const codec = CODECS[frame.readUInt8(14)];
  if (codec === undefined) throw bad(`codec ${frame.readUInt8(14)}`);
  const agrees =
    frame.readUInt32BE(0) === stored.length &&
    frame.readUInt32BE(4) === entry.rawBytes &&
    frame.readUInt32BE(8) === entry.rows &&
    frame.readUInt16BE(12) === keyGroup &&
    frame.readUInt8(15) === entry.kind;
  if (!agrees) throw bad('differs from its index entry');
  return { codec, stored };
}

/**
 * Bytes of one row in a raw block. Throws SEGMENT_ROW for a key or value that the format can't
 * hold.
 */
export function rowBytes(row: Row): number {
  const value = row.value?.length ?? 0;
  if (row.key.length < MIN_KEY_BYTES || row.key.length > MAX_KEY_BYTES || value > MAX_VALUE_BYTES) {
    throw new TriggerJobError(
      'SEGMENT_ROW',
      `a row with a key of ${row.key.length} bytes and a value of ${value} bytes: a key has ` +
        `${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} bytes, a value at most ${MAX_VALUE_BYTES}`,
    );
  }
  return ROW_HEADER_BYTES + row.key.length + value;
}

/** Writes a row's header and key at `at`; returns where its value goes. */
export function encodeRowHead(row: Row, out: Buffer, at: number): number {
  out.writeUInt16BE(row.key.length, at);
  out.writeUInt32BE(row.value === null ? TOMBSTONE : row.value.length, at + 2);
  row.key.copy(out, at + ROW_HEADER_BYTES);
  return at + ROW_HEADER_BYTES + row.key.length;
}

/** Kind of the row whose key begins at `keyAt`. */
export function kindOf(bytes: Buffer, keyAt = 0): number {
  return bytes[keyAt + KIND_AT]!;
}

/** What rows of one key group, kind and owner have in common: all of the key but the number. */
export function ownerOf(key: Buffer): Buffer {
  return key.subarray(0, key.length - NUMBER_BYTES);
}

/** FNV-1a of `ownerOf` the key that begins at `keyAt`, folded: one of 65,536 is another's, too. */
export function ownerHash(bytes: Buffer, keyAt: number, keyBytes: number): number {
  const end = keyAt + keyBytes - NUMBER_BYTES;
  let hash = 0x811c9dc5;
  for (let at = keyAt; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  return (hash ^ (hash >>> 16)) & 0xffff;
}

/** Rows are views on `raw`. `fault` is called for bytes that no writer of ours makes. */
export function decodeRows(
  raw: Buffer,
  keyGroup: number,
  kind: number,
  fault: (message: string) => TriggerJobError,
): Row[] {
  const rows: Row[] = [];
  let previous: Buffer | null = null;
  for (let at = 0; at < raw.length; ) {
    if (at + ROW_HEADER_BYTES > raw.length) throw fault('a row header is cut off');
    const keyBytes = raw.readUInt16BE(at);
    const valueBytes = raw.readUInt32BE(at + 2);
    const keyEnd = at + ROW_HEADER_BYTES + keyBytes;
    const end = valueBytes === TOMBSTONE ? keyEnd : keyEnd + valueBytes;
    if (keyBytes < MIN_KEY_BYTES || end > raw.length) throw fault('a row is cut off');
    const key = raw.subarray(at + ROW_HEADER_BYTES, keyEnd);
    if (key.readUInt16BE(0) !== keyGroup) throw fault('a row of another key group');
    if (kindOf(key) !== kind) throw fault('a row of another kind');
    if (previous !== null && previous.compare(key) >= 0) throw fault('rows are not sorted');
    rows.push({ key, value: valueBytes === TOMBSTONE ? null : raw.subarray(keyEnd, end) });
    previous = key;
    at = end;
  }
  return rows;
}

export function encodeFooter(groups: ReadonlyMap<number, readonly BlockEntry[]>): Buffer {
  let bytes = 4;
  for (const blocks of groups.values()) {
    bytes += GROUP_ENTRY_BYTES;
    for (const { owners } of blocks) bytes += BLOCK_ENTRY_BYTES + owners.length * OWNER_BYTES;
  }
  const out = Buffer.alloc(bytes);
  let at = out.writeUInt32BE(groups.size, 0);
  for (const [keyGroup, blocks] of groups) {
    at = out.writeUInt16BE(keyGroup, at);
    at = out.writeUInt32BE(blocks.length, at);
    for (const block of blocks) {
      at = out.writeBigUInt64BE(BigInt(block.offset), at);
      at = out.writeUInt32BE(block.bytes, at);
      at = out.writeUInt32BE(block.rawBytes, at);
      at = out.writeUInt32BE(block.rows, at);
      at = out.writeUInt8(block.kind, at);
      at = out.writeUInt16BE(block.owners.length, at);
      for (const owner of block.owners) at = out.writeUInt16BE(owner, at);
    }
  }
  return out;
}

/**
 * The index; its blocks must tile the bytes between header and footer, so no byte lies unread.
 * `owners`: whether they are kept.
 */
export function decodeFooter(
  footer: Buffer,
  footerOffset: number,
  object: string,
  owners: boolean,
): Map<number, BlockEntry[]> {
  const bad = (at: number, fault: string) => corrupt(object, 'footer', footerOffset + at, fault);
  const groups = new Map<number, BlockEntry[]>();
  // One array for the hashes of all blocks: there are thousands.
  const all = new Uint16Array(owners ? footer.length / OWNER_BYTES : 0);
  let used = 0;
  let at = 4;
  let next = HEADER_BYTES;
  let previous = -1;
  const count = footer.length < 4 ? 0 : footer.readUInt32BE(0);
  for (let i = 0; i < count; i++) {
    if (at + GROUP_ENTRY_BYTES > footer.length) throw bad(at, 'the index is cut off');
    const keyGroup = footer.readUInt16BE(at);
    const blocks = footer.readUInt32BE(at + 2);
    at += GROUP_ENTRY_BYTES;
    if (keyGroup <= previous || blocks * BLOCK_ENTRY_BYTES > footer.length - at) {
      throw bad(at, `key group ${keyGroup} with ${blocks} blocks`);
    }
    previous = keyGroup;
    const entries: BlockEntry[] = [];
    for (let b = 0; b < blocks; b++) {
      if (at + BLOCK_ENTRY_BYTES > footer.length) throw bad(at, 'the index is cut off');
      const offset = Number(footer.readBigUInt64BE(at));
      const bytes = footer.readUInt32BE(at + 8);
      if (offset !== next || bytes < FRAME_HEADER_BYTES) throw bad(at, 'blocks leave a gap');
      next = offset + bytes;
      const rawBytes = footer.readUInt32BE(at + 12);
      const rows = footer.readUInt32BE(at + 16);
      const kind = footer.readUInt8(at + 20);
      const hashes = footer.readUInt16BE(at + 21);
      at += BLOCK_ENTRY_BYTES;
      if (at + hashes * OWNER_BYTES > footer.length) throw bad(at, 'the index is cut off');
      const own = owners ? readOwners(footer, at, all.subarray(used, used + hashes)) : NO_OWNERS;
      used += own.length;
      at += hashes * OWNER_BYTES;
      entries.push({ offset, bytes, rawBytes, rows, kind, owners: own });
    }
    groups.set(keyGroup, entries);
  }
  if (at !== footer.length || next !== footerOffset) throw bad(at, 'blocks leave a gap');
  return groups;
}

const NO_OWNERS = new Uint16Array(0);

function readOwners(footer: Buffer, from: number, owners: Uint16Array): Uint16Array {
  for (let i = 0; i < owners.length; i++) owners[i] = footer.readUInt16BE(from + i * OWNER_BYTES);
  return owners;
}

export function encodeTrailer(footerOffset: number, footer: Buffer): Buffer {
  const out = Buffer.alloc(TRAILER_BYTES);
  out.writeBigUInt64BE(BigInt(footerOffset), 0);
  out.writeUInt32BE(footer.length, 8);
  out.writeUInt32BE(crc32(footer), 12);
  out.writeUInt32BE(crc32(out.subarray(0, 16)), 16);
  out.write(END_MAGIC, 20, 'latin1');
  return out;
}

/** `bytes`: length of the whole object. */
export function decodeTrailer(
  trailer: Buffer,
  bytes: number,
  object: string,
): { footerOffset: number; footerBytes: number; footerCrc: number } {
  const bad = (fault: string) => corrupt(object, 'trailer', bytes - TRAILER_BYTES, fault);
  if (trailer.toString('latin1', 20) !== END_MAGIC) throw bad('cut off (end mark is missing)');
  if (crc32(trailer.subarray(0, 16)) !== trailer.readUInt32BE(16)) throw bad('crc32 differs');
  const footerOffset = Number(trailer.readBigUInt64BE(0));
  const footerBytes = trailer.readUInt32BE(8);
  if (footerOffset + footerBytes + TRAILER_BYTES !== bytes) throw bad('lengths do not add up');
  return { footerOffset, footerBytes, footerCrc: trailer.readUInt32BE(12) };
}
