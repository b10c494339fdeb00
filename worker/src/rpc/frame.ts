/**
 * The wire format of RPCs: u32 big-endian length, then that many bytes of UTF-8 JSON.
 *
 * The decoder takes memory only for bytes that have arrived: a header that promises 64 MiB costs
 * nothing until the bytes come (I7), and a peer that sends one byte at a time costs one growing
 * buffer, not one object per byte.
 */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { tlsAtFirst } from './tls-record.ts';

/** Largest JSON text of one frame. A deployment with its restore lists stays far below it. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const HEADER_BYTES = 4;
const FIRST_CAPACITY_BYTES = 4096;

/** Throws RPC_FRAME_TOO_LARGE when the message would not be accepted by the other side. */
export function encodeFrame(message: object, maxBytes: number = MAX_FRAME_BYTES): Buffer {
  const text = JSON.stringify(message);
  const length = Buffer.byteLength(text);
  if (length > maxBytes) throw tooLarge(length, maxBytes);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  frame.writeUInt32BE(length, 0);
  frame.write(text, HEADER_BYTES);
  return frame;
}

/** Turns a byte stream into messages. After a throw the stream is lost: close the connection. */
export class FrameDecoder {
  readonly #maxBytes: number;
  #limit: number;
  #buffer = Buffer.alloc(0);
  #used = 0;

  /** `firstMaxBytes`: of the first frame, which may come from a stranger. */
  constructor(maxBytes: number = MAX_FRAME_BYTES, firstMaxBytes: number = maxBytes) {
    this.#maxBytes = maxBytes;
    this.#limit = firstMaxBytes;
  }

  /** Bytes held for a frame that is not complete yet. */
  get heldBytes(): number {
    return this.#buffer.length;
  }

  /** Messages completed by `chunk`. Throws RPC_FRAME_TOO_LARGE or RPC_BAD_FRAME. */
  push(chunk: Buffer): unknown[] {
    const messages: unknown[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      const wanted = this.#wanted();
      const part = rest.subarray(0, wanted - this.#used);
      this.#append(part, wanted);
      rest = rest.subarray(part.length);
      if (this.#used < HEADER_BYTES || this.#used < this.#wanted()) continue;
      messages.push(parse(this.#buffer.subarray(HEADER_BYTES, this.#used)));
      this.#buffer = Buffer.alloc(0);
      this.#used = 0;
      this.#limit = this.#maxBytes;
    }
    return messages;
  }

  /** Size of the whole frame when the header is known, else of the header. */
  #wanted(): number {
    if (this.#used < HEADER_BYTES) return HEADER_BYTES;
    const length = this.#buffer.readUInt32BE(0);
    if (length > this.#limit) {
      const tls = tlsAtFirst(this.#buffer);
      if (tls !== null) throw new TriggerJobError('RPC_PEER_TLS', tls);
      throw tooLarge(length, this.#limit);
    }
    if (length === 0) throw new TriggerJobError('RPC_BAD_FRAME', 'an RPC frame is empty');
    return HEADER_BYTES + length;
  }

  #append(part: Buffer, wanted: number): void {
    const needed = this.#used + part.length;
    if (needed > this.#buffer.length) {
      const doubled = Math.max(needed, this.#buffer.length * 2, FIRST_CAPACITY_BYTES);
      const grown = Buffer.allocUnsafe(
        wanted === HEADER_BYTES
          ? FIRST_CAPACITY_BYTES
          : Math.max(needed, Math.min(doubled, wanted)),
      );
      this.#buffer.copy(grown, 0, 0, this.#used);
      this.#buffer = grown;
    }
    part.copy(this.#buffer, this.#used);
    this.#used = needed;
  }
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new TriggerJobError('RPC_BAD_FRAME', `an RPC frame is no JSON: ${messageOf(error)}`);
  }
}

function tooLarge(length: number, maxBytes: number): TriggerJobError {
  return new TriggerJobError(
    'RPC_FRAME_TOO_LARGE',
    `an RPC frame of ${length} bytes is over the limit of ${maxBytes}; ` +
      'the peer is no TriggerJob process, or a command grew beyond its bound',
  );
}
