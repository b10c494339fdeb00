/**
 * Writes record batches to one broker, as bytes: 16 million events in half a minute, where a client
 * library takes three. Kafka's Produce request, version 3, on one connection; no retries: a
 * benchmark whose input is in doubt has to start again.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const CLIENT_ID = 'bench';
const PRODUCE = { key: 0, version: 3, timeoutMs: 30_000 };
/** Offset of what the length of a batch counts, and of what its checksum covers. */
const LENGTH_COVERS_FROM = 12;
const CRC_COVERS_FROM = 21;
const BATCH_HEADER_BYTES = 61;
/** Length, attributes, deltas, lengths, headers: at most this much beside key and value. */
const RECORD_OVERHEAD_BYTES = 24;

const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0x82f63b78 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

function crc32c(bytes: Buffer): number {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = CRC32C[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Records of one partition, encoded as they are added. ASCII keys and values only. */
export class BatchBuilder {
  readonly #bytes: Buffer;
  #at = BATCH_HEADER_BYTES;
  #count = 0;

  constructor(capacity: number) {
    this.#bytes = Buffer.alloc(capacity);
  }

  get count(): number {
    return this.#count;
  }

  /** false: it does not fit; take() first. */
  add(key: string, value: string): boolean {
    const size = key.length + value.length + RECORD_OVERHEAD_BYTES;
    if (this.#at + size > this.#bytes.length) return false;
    const body = 3 + zigZagBytes(this.#count) + zigZagBytes(key.length) + zigZagBytes(value.length);
    this.#zigZag(body + key.length + value.length);
    this.#bytes[this.#at++] = 0; // attributes
    this.#zigZag(0); // time since the batch's
    this.#zigZag(this.#count++);
    this.#text(key);
    this.#text(value);
    this.#zigZag(0); // headers
    return true;
  }

  /** A copy of the finished batch; the builder is empty after it. */
  take(timestamp: number): Buffer {
    const bytes = this.#bytes;
    bytes.writeBigInt64BE(0n, 0);
    bytes.writeInt32BE(this.#at - LENGTH_COVERS_FROM, 8);
    bytes.writeInt32BE(-1, 12); // leader epoch
    bytes.writeInt8(2, 16); // format
    bytes.writeInt16BE(0, 21); // no compression
    bytes.writeInt32BE(this.#count - 1, 23);
    bytes.writeBigInt64BE(BigInt(timestamp), 27);
    bytes.writeBigInt64BE(BigInt(timestamp), 35);
    bytes.fill(0xff, 43, 57); // no producer id, epoch, sequence
    bytes.writeInt32BE(this.#count, 57);
    bytes.writeUInt32BE(crc32c(bytes.subarray(CRC_COVERS_FROM, this.#at)), 17);
    const batch = Buffer.from(bytes.subarray(0, this.#at));
    this.#at = BATCH_HEADER_BYTES;
    this.#count = 0;
    return batch;
  }

  #text(text: string): void {
    this.#zigZag(text.length);
    this.#at += this.#bytes.write(text, this.#at, 'latin1');
  }

  #zigZag(value: number): void {
    let rest = value * 2;
    for (; rest > 127; rest >>>= 7) this.#bytes[this.#at++] = (rest & 127) | 128;
    this.#bytes[this.#at++] = rest;
  }
}

function zigZagBytes(value: number): number {
  let bytes = 1;
  for (let rest = value * 2; rest > 127; rest >>>= 7) bytes++;
  return bytes;
}

const CLOSED = 'the broker closed the connection';

/** One connection; requests are answered in the order in which they were sent. */
export class TopicWriter {
  readonly #socket: Socket;
  readonly #topic: string;
  readonly #waiting: { resolve: () => void; reject: (fault: Error) => void }[] = [];
  #received = Buffer.alloc(0);
  #correlation = 0;

  private constructor(socket: Socket, topic: string) {
    this.#socket = socket;
    this.#topic = topic;
    socket.on('data', (bytes) => this.#read(bytes));
    socket.on('error', (fault) => this.#failAll(fault));
    socket.on('close', () => this.#failAll(new Error(CLOSED)));
  }

  static async connect(bootstrap: string, topic: string): Promise<TopicWriter> {
    const [host = '', port] = bootstrap.split(':');
    const socket = connect({ host, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return new TopicWriter(socket, topic);
  }

  /** Resolves once the broker has appended the batch. */
  append(partition: number, batch: Buffer): Promise<void> {
    if (this.#socket.destroyed) return Promise.reject(new Error(CLOSED));
    const body = Buffer.concat([
      int16(PRODUCE.key),
      int16(PRODUCE.version),
      int32(this.#correlation++),
      string(CLIENT_ID),
      int16(-1), // no transaction
      int16(1), // acknowledged by the leader
      int32(PRODUCE.timeoutMs),
      int32(1),
      string(this.#topic),
      int32(1),
      int32(partition),
      int32(batch.length),
    ]);
    this.#socket.write(Buffer.concat([int32(body.length + batch.length), body, batch]));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /**
   * At once, if the broker has closed the connection, as it does after ten minutes without a
   * request: no 'close' follows any more, and a run of three rounds waited for it for ever.
   */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    this.#socket.end();
    await once(this.#socket, 'close');
  }

  #read(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= 4) {
      const end = 4 + this.#received.readInt32BE(0);
      if (this.#received.length < end) return;
      // Correlation, one topic with its name, one partition: then the error code.
      const name = this.#received.readInt16BE(12);
      const error = this.#received.readInt16BE(14 + name + 8);
      const { resolve, reject } = this.#waiting.shift()!;
      if (error === 0) resolve();
      else reject(new Error(`the broker refused a batch: Kafka's error code ${error}`));
      this.#received = this.#received.subarray(end);
    }
  }

  #failAll(fault: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(fault);
  }
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function string(text: string): Buffer {
  return Buffer.concat([int16(Buffer.byteLength(text)), Buffer.from(text)]);
}
