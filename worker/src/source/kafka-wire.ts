/**
 * The primitives of Kafka's protocol, written and read. "Compact" ones bear their length plus one
 * as an unsigned varint; a request or an answer of a "flexible" version ends each structure with
 * tagged fields, of which none is sent and all are skipped. Offsets and times are numbers: exact up
 * to 2^53, which no real log or clock reaches.
 */
const FIRST_BYTES = 256;
const NO_UUID = '00000000-0000-0000-0000-000000000000';
const CUT = 'the answer ends too early';

export class WireWriter {
  #buffer = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  /** All that was written, behind its length. */
  framed(): Buffer {
    const frame = Buffer.allocUnsafe(4 + this.#length);
    frame.writeInt32BE(this.#length, 0);
    this.#buffer.copy(frame, 4, 0, this.#length);
    return frame;
  }

  int8(value: number): this {
    this.#buffer.writeInt8(value, this.#room(1));
    return this;
  }

  int16(value: number): this {
    this.#buffer.writeInt16BE(value, this.#room(2));
    return this;
  }

  int32(value: number): this {
    this.#buffer.writeInt32BE(value, this.#room(4));
    return this;
  }

  int64(value: number): this {
    this.#buffer.writeBigInt64BE(BigInt(value), this.#room(8));
    return this;
  }

  boolean(value: boolean): this {
    return this.int8(value ? 1 : 0);
  }

  uuid(id: string | null): this {
    return this.#bytes(Buffer.from((id ?? NO_UUID).replaceAll('-', ''), 'hex'));
  }

  /** Of versions that are not flexible. */
  string(text: string): this {
    const bytes = Buffer.from(text);
    return this.int16(bytes.length).#bytes(bytes);
  }

  bytes(bytes: Buffer): this {
    return this.int32(bytes.length).#bytes(bytes);
  }

  compactString(text: string | null): this {
    if (text === null) return this.#unsigned(0);
    const bytes = Buffer.from(text);
    return this.#unsigned(bytes.length + 1).#bytes(bytes);
  }

  compactArray<T>(items: readonly T[], write: (item: T) => void): this {
    this.#unsigned(items.length + 1);
    for (const item of items) write(item);
    return this;
  }

  noTags(): this {
    return this.int8(0);
  }

  #unsigned(value: number): this {
    let rest = value;
    for (; rest > 0x7f; rest >>>= 7) this.#buffer[this.#room(1)] = (rest & 0x7f) | 0x80;
    this.#buffer[this.#room(1)] = rest;
    return this;
  }

  #bytes(bytes: Buffer): this {
    const at = this.#room(bytes.length);
    bytes.copy(this.#buffer, at);
    return this;
  }

  #room(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#length, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    return at;
  }
}

/** Throws RangeError where the answer ends before what is read. */
export class WireReader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  int8(): number {
    return this.#buffer.readInt8(this.#step(1));
  }

  int16(): number {
    return this.#buffer.readInt16BE(this.#step(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#step(4));
  }

  int64(): number {
    const at = this.#step(8);
    return this.#buffer.readInt32BE(at) * 0x1_0000_0000 + this.#buffer.readUInt32BE(at + 4);
  }

  bigint(): bigint {
    return this.#buffer.readBigInt64BE(this.#step(8));
  }

  uuid(): string {
    const hex = this.#take(16).toString('hex');
    const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
    return [...parts, hex.slice(20)].join('-');
  }

  string(): string | null {
    const length = this.int16();
    return length < 0 ? null : this.#take(length).toString();
  }

  bytes(): Buffer {
    return this.#take(Math.max(0, this.int32()));
  }

  /** Of versions that are not flexible. */
  array<T>(read: () => T): T[] {
    return this.#items(this.int32(), read);
  }

  compactString(): string | null {
    const length = this.#unsigned() - 1;
    return length < 0 ? null : this.#take(length).toString();
  }

  /** A view of the answer, no copy. */
  compactBytes(): Buffer {
    return this.#take(Math.max(0, this.#unsigned() - 1));
  }

  /** Absent = empty. */
  compactArray<T>(read: () => T): T[] {
    return this.#items(this.#unsigned() - 1, read);
  }

  skip(bytes: number): void {
    this.#step(bytes);
  }

  skipTags(): void {
    for (let left = this.#unsigned(); left > 0; left--) {
      this.#unsigned();
      this.skip(this.#unsigned());
    }
  }

  #items<T>(count: number, read: () => T): T[] {
    const items: T[] = [];
    for (let left = count; left > 0; left--) items.push(read());
    return items;
  }

  #unsigned(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#buffer[this.#step(1)]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      if (factor > 0xfff_ffff) throw new RangeError('the answer has a varint without an end');
    }
  }

  #take(length: number): Buffer {
    const at = this.#step(length);
    return this.#buffer.subarray(at, at + length);
  }

  #step(bytes: number): number {
    const at = this.#at;
    if (bytes < 0 || at + bytes > this.#buffer.length) throw new RangeError(CUT);
    this.#at += bytes;
    return at;
  }
}
