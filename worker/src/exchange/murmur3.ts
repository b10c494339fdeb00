/**
 * MurmurHash3 x86_32 of a user id's UTF-8 bytes, seed 0. Frozen: the key group of every stored row
 * comes from it, so another result would be the loss of all state (murmur3.test.ts holds published
 * vectors).
 *
 * Within this file a hash is a signed number: an unsigned one that leaves a function which is not
 * inlined would be boxed.
 */
import { viewOf } from '../runtime/copy-words.ts';

const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;

function finish(hash: number, length: number): number {
  let h = hash ^ length;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function mixBlock(hash: number, block: number): number {
  let k = Math.imul(block, C1);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, C2);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

function mixTail(hash: number, tail: number): number {
  let k = Math.imul(tail, C1);
  k = (k << 15) | (k >>> 17);
  return hash ^ Math.imul(k, C2);
}

function hashRange(view: DataView, start: number, end: number, seed: number): number {
  let h = seed | 0;
  let at = start;
  for (const last = end - 4; at <= last; at += 4) h = mixBlock(h, view.getInt32(at, true));
  if (at < end) {
    let tail = view.getUint8(at);
    if (at + 1 < end) tail |= view.getUint8(at + 1) << 8;
    if (at + 2 < end) tail |= view.getUint8(at + 2) << 16;
    h = mixTail(h, tail);
  }
  return finish(h, end - start);
}

/** Unsigned 32-bit hash of the bytes of `view` from `start` to `end`. */
export function murmur3Range(view: DataView, start: number, end: number): number {
  return hashRange(view, start, end, 0) >>> 0;
}

/** Unsigned 32-bit hash of bytes. */
export function murmur3Bytes(bytes: Uint8Array, seed = 0): number {
  return hashRange(viewOf(bytes), 0, bytes.length, seed) >>> 0;
}

function hashText(text: string): number {
  const length = text.length;
  const end = length & ~3;
  let h = 0;
  let seen = 0;
  for (let i = 0; i < end; i += 4) {
    const a = text.charCodeAt(i);
    const b = text.charCodeAt(i + 1);
    const c = text.charCodeAt(i + 2);
    const d = text.charCodeAt(i + 3);
    seen |= a | b | c | d;
    h = mixBlock(h, a | (b << 8) | (c << 16) | (d << 24));
  }
  let tail = 0;
  for (let i = length - 1; i >= end; i--) {
    const code = text.charCodeAt(i);
    seen |= code;
    tail = (tail << 8) | code;
  }
  if (seen > 0x7f) return murmur3Bytes(Buffer.from(text)) | 0;
  if (end < length) h = mixTail(h, tail);
  return finish(h, length);
}

/**
 * Unsigned 32-bit hash of a string's UTF-8 form. ASCII, the usual user id, is hashed from the
 * string itself: encoding it first cost three times as much per record (bench/key-scan.ts).
 */
export function murmur3(text: string): number {
  return hashText(text) >>> 0;
}
