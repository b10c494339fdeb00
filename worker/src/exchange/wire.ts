/**
 * The wire format between two TaskManagers, encoding side. A connection belongs to one attempt:
 *
 *   stream  = hello message*
 *   hello   = magic "TJX\x01" | u16 version | u16 length | u32 crc32 of the text | JSON text
 *   message = u32 length | u8 kind | u8 0 | u16 from | u16 to | u16 0 |
 *             u32 sender's attempt | u32 receiver's attempt | f64 seq | u32 count |
 *             u32 crc32 of all the above and the payload | payload of `length` bytes
 *
 * Little endian. `from` and `to` name the channel, source subtask to state subtask; frames travel
 * along it, its credit against it (`sender` is always who sends the message). `count` is the
 * records of a data frame, the frames that a credit gives back. A ping has neither channel nor
 * payload. Payloads: data = the buffer (frame.ts), clock = f64, barrier and splits = JSON.
 *
 * The checksum covers the header too: a flipped bit in `to` is another user's record lost.
 */
import { crc32 } from 'node:zlib';
import type { Frame } from './frame.ts';

export const WIRE_VERSION = 1;
export const MAGIC = 0x01584a54;
export const HELLO_HEADER_BYTES = 12;
/** Ids and a secret; what a stranger may make us hold. */
export const MAX_HELLO_BYTES = 1024;
export const HEADER_BYTES = 36;
/** Where the header's own checksum lies: what is before it is covered. */
export const CRC_AT = 32;
/**
 * The largest single record a source keeps, 4 times the largest source.maxRecordBytes: it travels
 * in a buffer of its own, to be dead-lettered by the task that parses it.
 */
export const MAX_DATA_BYTES = 256 * 1024 * 1024 + 64;
/** A barrier bears a script of at most 64 KiB characters, each up to 6 bytes in JSON. */
export const MAX_CONTROL_BYTES = 1024 * 1024;
/** More than any channel's credit: beyond it a credit message is nonsense. */
export const MAX_CREDITS = 64;

/** Numbers on the wire; new ones are added, old ones never reused. */
export const KIND = { data: 1, barrier: 2, clock: 3, splits: 4, credit: 5, ping: 6 } as const;
export type Kind = keyof typeof KIND;

export interface Hello {
  jobId: string;
  /** TaskManager ids. */
  from: string;
  to: string;
  attempt: number;
  /** Drawn by the JobManager for this attempt; '' in a refusal. */
  secret: string;
  /** Why the connection is refused; null = welcome. */
  refused: string | null;
}

/** The attempts of the tasks at the two ends, as seen by who sends (P38). */
export interface Attempts {
  sender: number;
  receiver: number;
}

export interface Channel {
  from: number;
  to: number;
}

export type WireMessage =
  | { kind: 'frame'; channel: Channel; attempts: Attempts; frame: Frame }
  | { kind: 'credit'; channel: Channel; attempts: Attempts; credits: number }
  | { kind: 'ping' };

export function encodeHello(hello: Hello): Buffer {
  const text = Buffer.from(JSON.stringify(hello));
  const bytes = Buffer.alloc(HELLO_HEADER_BYTES + text.length);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt16LE(WIRE_VERSION, 4);
  bytes.writeUInt16LE(text.length, 6);
  bytes.writeUInt32LE(crc32(text), 8);
  text.copy(bytes, HELLO_HEADER_BYTES);
  return bytes;
}

/** Header and payload; the payload is a view on a data frame's own bytes, not a copy. */
export function encodeFrame(channel: Channel, attempts: Attempts, frame: Frame): [Buffer, Buffer] {
  const payload = payloadOf(frame);
  const count = frame.kind === 'data' ? frame.records : 0;
  return [encodeHeader(frame.kind, channel, attempts, frame.seq, count, payload), payload];
}

export function encodeCredit(channel: Channel, attempts: Attempts, credits: number): Buffer {
  return encodeHeader('credit', channel, attempts, 0, credits, EMPTY);
}

export function encodePing(): Buffer {
  const nobody = { sender: 0, receiver: 0 };
  return encodeHeader('ping', { from: 0, to: 0 }, nobody, 0, 0, EMPTY);
}

const EMPTY = Buffer.alloc(0);

function payloadOf(frame: Frame): Buffer {
  switch (frame.kind) {
    case 'data':
      return Buffer.from(frame.bytes.buffer, frame.bytes.byteOffset, frame.length);
    case 'clock': {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(frame.time, 0);
      return bytes;
    }
    case 'barrier': {
      const { checkpointId, triggeredAt, script } = frame;
      return Buffer.from(JSON.stringify({ checkpointId, triggeredAt, script }));
    }
    case 'splits': {
      const { splits, replayUntil } = frame;
      return Buffer.from(JSON.stringify({ splits, replayUntil }));
    }
  }
}

function encodeHeader(
  kind: Kind,
  channel: Channel,
  attempts: Attempts,
  seq: number,
  count: number,
  payload: Buffer,
): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt32LE(payload.length, 0);
  bytes.writeUInt8(KIND[kind], 4);
  bytes.writeUInt16LE(channel.from, 6);
  bytes.writeUInt16LE(channel.to, 8);
  bytes.writeUInt32LE(attempts.sender, 12);
  bytes.writeUInt32LE(attempts.receiver, 16);
  bytes.writeDoubleLE(seq, 20);
  bytes.writeUInt32LE(count, 28);
  bytes.writeUInt32LE(crc32(payload, crc32(bytes.subarray(0, CRC_AT))), CRC_AT);
  return bytes;
}
