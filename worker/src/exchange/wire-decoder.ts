/**
 * The wire format (wire.ts), decoding side, pure: chunks in, messages out. It trusts nothing: any
 * byte that is not as the grammar says ends the stream with a typed error, and memory is taken only
 * for bytes that have come, up to the limit of the message's kind. After a throw the decoder is
 * done: the connection is broken, nothing is resumed (P51).
 */
import { crc32 } from 'node:zlib';
import { tlsAtFirst } from '../rpc/tls-record.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import type { BarrierFrame, Frame, SplitsFrame } from './frame.ts';
import {
  type Attempts,
  type Channel,
  CRC_AT,
  HEADER_BYTES,
  HELLO_HEADER_BYTES,
  type Hello,
  KIND,
  type Kind,
  MAGIC,
  MAX_CONTROL_BYTES,
  MAX_CREDITS,
  MAX_DATA_BYTES,
  MAX_HELLO_BYTES,
  WIRE_VERSION,
  type WireMessage,
} from './wire.ts';

/** A payload's buffer begins with at most this and doubles as its bytes come. */
const FIRST_CAPACITY_BYTES = 64 * 1024;
const KINDS = new Map<number, Kind>(
  Object.entries(KIND).map(([kind, code]) => [code, kind as Kind]),
);

function fault(message: string): TriggerJobError {
  return new TriggerJobError('WIRE_FORMAT', message);
}

function checksum(what: string): TriggerJobError {
  return new TriggerJobError('WIRE_CHECKSUM', `the checksum of ${what} is wrong`);
}

/** Collects exactly `wanted` bytes. */
class Collector {
  #bytes: Uint8Array<ArrayBuffer>;
  #wanted: number;
  #used = 0;

  constructor(wanted: number) {
    this.#wanted = wanted;
    this.#bytes = new Uint8Array(Math.min(wanted, FIRST_CAPACITY_BYTES));
  }

  get held(): number {
    return this.#bytes.length;
  }

  /** Takes what it needs from `chunk` at `at`; where the rest begins. */
  take(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#wanted - this.#used);
    const needed = this.#used + end - at;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(
        Math.min(this.#wanted, Math.max(needed, this.#bytes.length * 2)),
      );
      grown.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = grown;
    }
    this.#bytes.set(chunk.subarray(at, end), this.#used);
    this.#used = needed;
    return end;
  }

  /** All of them, in a buffer of its own that may be transferred; null: some are missing. */
  whole(): Uint8Array<ArrayBuffer> | null {
    return this.#used === this.#wanted ? this.#bytes : null;
  }
}

/** The first thing on a connection, from a stranger. */
export class HelloDecoder {
  #header = new Collector(HELLO_HEADER_BYTES);
  #text: Collector | null = null;

  /** The hello and what follows it, or null: more is needed. Throws WIRE_FORMAT, WIRE_CHECKSUM. */
  push(chunk: Buffer): { hello: Hello; rest: Buffer } | null {
    let at = 0;
    if (this.#text === null) {
      at = this.#header.take(chunk, 0);
      const header = this.#header.whole();
      if (header === null) return null;
      this.#text = new Collector(helloLength(viewOf(header)));
    }
    at = this.#text.take(chunk, at);
    const text = this.#text.whole();
    if (text === null) return null;
    if (crc32(text) !== viewOf(this.#header.whole()!).getUint32(8, true)) throw checksum('a hello');
    return { hello: readHello(parse(text)), rest: chunk.subarray(at) };
  }
}

function helloLength(header: DataView): number {
  if (header.getUint32(0, true) !== MAGIC) {
    const bytes = new Uint8Array(header.buffer, header.byteOffset, header.byteLength);
    throw fault(tlsAtFirst(bytes) ?? 'the peer is no TaskManager');
  }
  const version = header.getUint16(4, true);
  if (version !== WIRE_VERSION) {
    throw fault(`the peer speaks version ${version} of the exchange, this is ${WIRE_VERSION}`);
  }
  const length = header.getUint16(6, true);
  if (length > MAX_HELLO_BYTES) throw fault(`a hello of ${length} bytes`);
  return length;
}

function readHello(value: JsonObject): Hello {
  const { jobId, from, to, attempt, secret, refused } = value;
  const texts = [jobId, from, to, secret];
  if (!texts.every((text) => typeof text === 'string') || !isCount(attempt)) {
    throw fault('a hello lacks a field');
  }
  if (refused !== null && typeof refused !== 'string') throw fault('a hello lacks a field');
  return { jobId, from, to, attempt, secret, refused } as Hello;
}

export class WireDecoder {
  readonly #maxDataBytes: number;
  #header = new Collector(HEADER_BYTES);
  #payload: Collector | null = null;

  constructor(maxDataBytes: number = MAX_DATA_BYTES) {
    this.#maxDataBytes = maxDataBytes;
  }

  /** Bytes held for a message that is not complete yet. */
  get heldBytes(): number {
    return this.#header.held + (this.#payload?.held ?? 0);
  }

  /** The messages that `chunk` completes. Throws WIRE_FORMAT, WIRE_CHECKSUM. */
  push(chunk: Buffer): WireMessage[] {
    const messages: WireMessage[] = [];
    let at = 0;
    for (;;) {
      if (this.#payload === null) {
        at = this.#header.take(chunk, at);
        const header = this.#header.whole();
        if (header === null) return messages;
        this.#payload = new Collector(this.#checkHeader(viewOf(header)));
      }
      at = this.#payload.take(chunk, at);
      const payload = this.#payload.whole();
      if (payload === null) return messages;
      messages.push(readMessage(this.#header.whole()!, payload));
      this.#header = new Collector(HEADER_BYTES);
      this.#payload = null;
    }
  }

  /** The payload's length. Before the checksum can be known, so limits are all that is checked. */
  #checkHeader(header: DataView): number {
    const length = header.getUint32(0, true);
    const kind = KINDS.get(header.getUint8(4));
    if (kind === undefined) throw fault(`unknown kind ${header.getUint8(4)}`);
    const limit = this.#limitOf(kind);
    if (length > limit) throw fault(`a ${kind} of ${length} bytes, at most ${limit}`);
    return length;
  }

  #limitOf(kind: Kind): number {
    if (kind === 'data') return this.#maxDataBytes;
    if (kind === 'clock') return 8;
    return kind === 'barrier' || kind === 'splits' ? MAX_CONTROL_BYTES : 0;
  }
}

function readMessage(header: Uint8Array, payload: Uint8Array<ArrayBuffer>): WireMessage {
  const view = viewOf(header);
  const expected = view.getUint32(CRC_AT, true);
  if (crc32(payload, crc32(header.subarray(0, CRC_AT))) !== expected) throw checksum('a message');
  const kind = KINDS.get(view.getUint8(4))!;
  if (kind === 'ping') return { kind };
  const channel: Channel = { from: view.getUint16(6, true), to: view.getUint16(8, true) };
  const attempts: Attempts = {
    sender: view.getUint32(12, true),
    receiver: view.getUint32(16, true),
  };
  const seq = view.getFloat64(20, true);
  const count = view.getUint32(28, true);
  if (kind === 'credit') {
    if (count < 1 || count > MAX_CREDITS) throw fault(`${count} credits in one message`);
    return { kind, channel, attempts, credits: count };
  }
  if (!isCount(seq)) throw fault(`${seq} is no sequence number`);
  return { kind: 'frame', channel, attempts, frame: readFrame(kind, seq, count, payload) };
}

function readFrame(
  kind: Exclude<Kind, 'credit' | 'ping'>,
  seq: number,
  records: number,
  payload: Uint8Array<ArrayBuffer>,
): Frame {
  switch (kind) {
    case 'data':
      return { kind, seq, bytes: payload, length: payload.length, records };
    case 'clock': {
      if (payload.length !== 8) throw fault(`a clock of ${payload.length} bytes`);
      const time = viewOf(payload).getFloat64(0, true);
      if (Number.isNaN(time)) throw fault('a clock that is no number');
      return { kind, seq, time };
    }
    case 'barrier': {
      const { checkpointId, triggeredAt, script } = parse(payload);
      if (!isCount(checkpointId) || typeof triggeredAt !== 'number' || !isScript(script)) {
        throw fault('a barrier lacks a field');
      }
      return { kind, seq, checkpointId, triggeredAt, script };
    }
    case 'splits': {
      const { splits, replayUntil } = parse(payload);
      if (!isSplits(splits) || typeof replayUntil !== 'number') {
        throw fault('a list of splits lacks a field');
      }
      return { kind, seq, splits, replayUntil };
    }
  }
}

type Script = BarrierFrame['script'];

function isScript(value: JsonValue | undefined): value is JsonValue & Script {
  if (value === undefined || !isJsonObject(value)) return false;
  const { version, text, language } = value;
  const known = language === 'aviator' || language === 'filtrex';
  return known && typeof version === 'string' && typeof text === 'string';
}

function isSplits(value: JsonValue | undefined): value is JsonValue & SplitsFrame['splits'] {
  if (!Array.isArray(value)) return false;
  return value.every(
    (split) =>
      isJsonObject(split) &&
      isCount(split['index']) &&
      isCount(split['partition']) &&
      typeof split['id'] === 'string' &&
      typeof split['sourceId'] === 'string',
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function parse(bytes: Uint8Array): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
  } catch (cause) {
    throw fault(`text that is no JSON: ${messageOf(cause)}`);
  }
  if (!isJsonObject(value)) throw fault('text that is no JSON object');
  return value;
}
