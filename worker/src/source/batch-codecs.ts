/**
 * CRC-32C and the compressions of record batches that Node does not have: snappy and LZ4. What is
 * not needed is not loaded: mostly the checksum is native, and nothing is compressed by these.
 */
import { createRequire } from 'node:module';

type Wasm = typeof import('@platformatic/wasm-utils');

/** "\x82SNAPPY\0", of the Java client's snappy: blocks with their lengths. */
const XERIAL = Buffer.from('82534e4150505900', 'hex');
/** The mark, a version and the oldest version that reads it. */
const XERIAL_HEADER_BYTES = 16;

const load = createRequire(import.meta.url);
let loaded: Wasm | null = null;

/** Native where there is a binary for this machine. */
export const crc32c: (bytes: Buffer) => number = nativeCrc32c() ?? wasm().crc32c;

export function unlz4(bytes: Buffer): Buffer {
  return wasm().lz4Decompress(bytes);
}

export function unsnappy(bytes: Buffer): Buffer {
  const { snappyDecompress } = wasm();
  if (!bytes.subarray(0, XERIAL.length).equals(XERIAL)) return snappyDecompress(bytes);
  const blocks: Buffer[] = [];
  for (let at = XERIAL_HEADER_BYTES; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    at += 4;
    if (at + length > bytes.length) throw new Error('a snappy block ends behind its batch');
    blocks.push(snappyDecompress(bytes.subarray(at, at + length)));
    at += length;
  }
  return Buffer.concat(blocks);
}

function wasm(): Wasm {
  loaded ??= load('@platformatic/wasm-utils') as Wasm;
  return loaded;
}

function nativeCrc32c(): ((bytes: Buffer) => number) | null {
  try {
    const { crc32c: native } = load('@node-rs/crc32') as { crc32c: (bytes: Buffer) => number };
    return native;
  } catch {
    return null;
  }
}
