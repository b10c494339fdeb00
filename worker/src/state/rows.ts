/**
 * The rows of one user in RocksDB, segments and dumps, and their byte layouts.
 *
 *   key     = u16 keyGroup | u8 row | u16 length of id | id | u32 chunk           (big endian)
 *   head    = u8 version | f64 lastAccess | f64 eventCount | u32 firstSeq | u32 nextSeq
 *             | u32 tailSeq | u32 truncated | u32 fetchedBy | text lastEventName | text lastEventAt
 *             | u32 profileBytes | fields | u16 chunks | (u32 seq | u32 bytes)* | tail
 *                                                                               (little endian)
 *   profile = u32 length | profile JSON | visit JSON
 *   tail, chunk = u16 events | u32 length* | the event JSONs joined by "," (length in bytes)
 *   text    = u32 length | UTF-8; length 0xffffffff = null
 *   fields  = u8 length | 8 bytes that stand for their names | JSON; length 0 = none, and no more
 *
 * The kind of row before the id: all heads of a key group lie side by side, in RocksDB's blocks and
 * in those of segments. So a restore reads them without the fifteen times larger rest, and a block
 * in RocksDB's cache holds three heads where it held one and what else its user has. The length
 * before the id makes keys prefix-free: with a separator, an id that contains it could fall among
 * another user's rows. What is written per event is the head (about 100 bytes) with the
 * tail (at most 15 events); profile and visit JSON are written once, at the load. DESIGN has the
 * visit JSON in the head; 1 KB more per written event cost a third of the throughput when users do
 * not fit the cache. The tail as a row of its own was one lookup and one put more per such event.
 */
import { DIGEST_BYTES, type StoredFields, storedFields } from './profile-fields.ts';

export const HEAD = 0;
export const PROFILE = 1;
export const CHUNK = 3;

/** 2: fields. */
const HEAD_VERSION = 2;
const NONE = 0xffffffff;

/** null: the row is deleted. */
export interface UserRow {
  key: Buffer;
  value: Buffer | null;
}

/** A closed run of history events: `seq` numbers its first event and is its row's chunk number. */
export interface Chunk {
  seq: number;
  bytes: number;
}

export interface Head {
  /** Split time of the last access (P36), ms; -1 unknown. */
  lastAccess: number;
  /** visit.event_count, last_event_name, and last_event_at as JSON text. */
  eventCount: number;
  lastEventName: string | null;
  lastEventAt: string | null;
  /** History holds the events firstSeq..nextSeq-1; those from tailSeq on are in the tail. */
  firstSeq: number;
  nextSeq: number;
  tailSeq: number;
  /** Events dropped because the user reached maxBytesPerUser. */
  truncated: number;
  profileBytes: number;
  /** What scripts ask of the profile (profile-fields.ts). */
  fields: StoredFields | null;
  /** Attempt that fetched the user from the Profile API (P33). */
  fetchedBy: number;
  chunks: Chunk[];
}

/** Names a user, as marks have it and for `rowKey`: u16 keyGroup | u16 length of id | id. */
export function userPrefix(keyGroup: number, userId: string): Buffer {
  const idBytes = Buffer.byteLength(userId);
  const prefix = Buffer.allocUnsafe(4 + idBytes);
  prefix.writeUInt16BE(keyGroup, 0);
  prefix.writeUInt16BE(idBytes, 2);
  prefix.write(userId, 4, 'utf8');
  return prefix;
}

export function rowKey(prefix: Buffer, row: number, chunk = 0): Buffer {
  const key = Buffer.allocUnsafe(prefix.length + 5);
  key[0] = prefix[0]!;
  key[1] = prefix[1]!;
  key[2] = row;
  prefix.copy(key, 3, 2);
  key.writeUInt32BE(chunk, prefix.length + 1);
  return key;
}

export interface ParsedKey {
  keyGroup: number;
  userId: string;
  row: number;
  chunk: number;
}

export function parseKey(key: Buffer): ParsedKey {
  const idEnd = 5 + key.readUInt16BE(3);
  return {
    keyGroup: key.readUInt16BE(0),
    row: key[2]!,
    userId: key.toString('utf8', 5, idEnd),
    chunk: key.readUInt32BE(idEnd),
  };
}

/** Is this key a user's head row? Counts users without decoding the id. */
export function isHeadKey(key: Buffer): boolean {
  return key[2] === HEAD;
}

function textBytes(text: string | null): number {
  return 4 + (text === null ? 0 : Buffer.byteLength(text));
}

function writeText(target: Buffer, at: number, text: string | null): number {
  if (text === null) {
    target.writeUInt32LE(NONE, at);
    return at + 4;
  }
  const length = target.write(text, at + 4, 'utf8');
  target.writeUInt32LE(length, at);
  return at + 4 + length;
}

function readText(source: Buffer, at: number): { text: string | null; end: number } {
  const length = source.readUInt32LE(at);
  if (length === NONE) return { text: null, end: at + 4 };
  const end = at + 4 + length;
  return { text: source.toString('utf8', at + 4, end), end };
}

function writeFields(target: Buffer, at: number, fields: StoredFields | null): number {
  const textAt = at + 1 + DIGEST_BYTES;
  if (fields === null) {
    target[at] = 0;
    return at + 1;
  }
  target.write(fields.digest, at + 1, 'latin1');
  const length = target.write(fields.text, textAt, 'utf8');
  target[at] = length;
  return textAt + length;
}

/** Of a user without events. */
export function newHead(lastAccess: number, profileBytes: number, fetchedBy: number): Head {
  return {
    lastAccess,
    eventCount: 0,
    lastEventName: null,
    lastEventAt: null,
    firstSeq: 0,
    nextSeq: 0,
    tailSeq: 0,
    truncated: 0,
    profileBytes,
    fields: null,
    fetchedBy,
    chunks: [],
  };
}

/** Events that are in no chunk yet, as the end of the head row. */
export interface TailWriter {
  readonly tailBytes: number;
  writeTail(target: Buffer, at: number): void;
}

/** Without `tail`: a user without open events. */
export function encodeHead(head: Head, tail: TailWriter | null = null): Buffer {
  // As JSON: a lone surrogate, legal in an event, would not survive as UTF-8.
  const { lastEventName: name } = head;
  const lastEventName = name === null ? null : JSON.stringify(name);
  const out = Buffer.allocUnsafe(
    44 +
      (head.fields === null ? 0 : DIGEST_BYTES + Buffer.byteLength(head.fields.text)) +
      textBytes(lastEventName) +
      textBytes(head.lastEventAt) +
      head.chunks.length * 8 +
      (tail?.tailBytes ?? eventsHeaderBytes(0)),
  );
  out[0] = HEAD_VERSION;
  out.writeDoubleLE(head.lastAccess, 1);
  out.writeDoubleLE(head.eventCount, 9);
  out.writeUInt32LE(head.firstSeq, 17);
  out.writeUInt32LE(head.nextSeq, 21);
  out.writeUInt32LE(head.tailSeq, 25);
  out.writeUInt32LE(head.truncated, 29);
  out.writeUInt32LE(head.fetchedBy, 33);
  let at = writeText(out, 37, lastEventName);
  at = writeText(out, at, head.lastEventAt);
  out.writeUInt32LE(head.profileBytes, at);
  at = writeFields(out, at + 4, head.fields);
  out.writeUInt16LE(head.chunks.length, at);
  at += 2;
  for (const chunk of head.chunks) {
    out.writeUInt32LE(chunk.seq, at);
    out.writeUInt32LE(chunk.bytes, at + 4);
    at += 8;
  }
  if (tail === null) out.writeUInt16LE(0, at);
  else tail.writeTail(out, at);
  return out;
}

/** `tailAt`: where the tail begins in the row, in the form of a chunk row. */
export function decodeHead(row: Buffer): Head & { tailAt: number } {
  if (row[0] !== HEAD_VERSION)
    throw new Error(`head row has version ${row[0]}, known: ${HEAD_VERSION}`);
  const name = readText(row, 37);
  const eventAt = readText(row, name.end);
  const fieldsAt = eventAt.end + 4;
  const fieldsBytes = row[fieldsAt]!;
  const textEnd = fieldsAt + 1 + (fieldsBytes === 0 ? 0 : DIGEST_BYTES + fieldsBytes);
  const count = row.readUInt16LE(textEnd);
  const chunks: Chunk[] = [];
  let at = textEnd + 2;
  for (let i = 0; i < count; i++, at += 8) {
    chunks.push({ seq: row.readUInt32LE(at), bytes: row.readUInt32LE(at + 4) });
  }
  return {
    lastAccess: row.readDoubleLE(1),
    eventCount: row.readDoubleLE(9),
    firstSeq: row.readUInt32LE(17),
    nextSeq: row.readUInt32LE(21),
    tailSeq: row.readUInt32LE(25),
    truncated: row.readUInt32LE(29),
    fetchedBy: row.readUInt32LE(33),
    lastEventName: name.text === null ? null : (JSON.parse(name.text) as string),
    lastEventAt: eventAt.text,
    profileBytes: row.readUInt32LE(eventAt.end),
    fields: fieldsBytes === 0 ? null : storedFields(row.toString('latin1', fieldsAt + 1, textEnd)),
    chunks,
    tailAt: at,
  };
}

/** lastAccess of a head row, without decoding the rest. */
export function headLastAccess(row: Buffer): number {
  return row.readDoubleLE(1);
}

/** From profile and visit JSON as they lie one after the other in `source`. */
export function encodeProfile(
  source: Buffer,
  start: number,
  profileBytes: number,
  visitBytes: number,
): Buffer {
  const out = Buffer.allocUnsafe(4 + profileBytes + visitBytes);
  out.writeUInt32LE(profileBytes, 0);
  source.copy(out, 4, start, start + profileBytes + visitBytes);
  return out;
}

/** Bytes of the profile JSON, which begins at 4; the visit JSON is the rest. */
export function profileBytesOf(row: Buffer): number {
  return row.readUInt32LE(0);
}

/** A tail or chunk row of events that lie joined by commas in `source`, `bytes` from `start` on. */
export function encodeEvents(
  source: Buffer,
  start: number,
  bytes: number,
  lengths: readonly number[],
): Buffer {
  const text = eventsHeaderBytes(lengths.length);
  const out = Buffer.allocUnsafe(text + bytes);
  out.writeUInt16LE(lengths.length, 0);
  for (let i = 0; i < lengths.length; i++) out.writeUInt32LE(lengths[i]!, 2 + i * 4);
  source.copy(out, text, start, start + bytes);
  return out;
}

/** Bytes before the joined events of a tail or chunk row. */
export function eventsHeaderBytes(count: number): number {
  return 2 + count * 4;
}

export function eventCount(row: Buffer, at = 0): number {
  return row.readUInt16LE(at);
}

/** Bytes of event `i` of a row that begins at `at`. */
export function eventBytes(row: Buffer, i: number, at = 0): number {
  return row.readUInt32LE(at + 2 + i * 4);
}

/** The events' JSON texts, oldest first. */
export function splitEvents(row: Buffer, at = 0): string[] {
  const count = eventCount(row, at);
  const texts: string[] = [];
  let start = at + eventsHeaderBytes(count);
  for (let i = 0; i < count; i++) {
    const end = start + eventBytes(row, i, at);
    texts.push(row.toString('utf8', start, end));
    start = end + 1;
  }
  return texts;
}

/** Where event `skip` begins in a row of more events than that, counted from the row's begin. */
export function joinedOffset(row: Buffer, skip: number, at = 0): number {
  let offset = eventsHeaderBytes(eventCount(row, at));
  for (let i = 0; i < skip; i++) offset += eventBytes(row, i, at) + 1;
  return offset;
}

/** Deletes every row of a user with these chunks. */
export function tombstonesOf(keyGroup: number, id: string, chunks: readonly number[]): UserRow[] {
  const prefix = userPrefix(keyGroup, id);
  const keys = [
    rowKey(prefix, HEAD),
    rowKey(prefix, PROFILE),
    ...chunks.map((seq) => rowKey(prefix, CHUNK, seq)),
  ];
  return keys.map((key) => ({ key, value: null }));
}
