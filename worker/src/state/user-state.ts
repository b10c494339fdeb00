/**
 * One user's live state and what an event does to it. Pure memory: rows go out through `takeRows`,
 * closed chunks of history come in through the `ChunkReader` when a script or a body asks for them.
 */
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import * as rows from './rows.ts';

/** A tail is closed into a chunk at either bound: an event costs its own bytes, no history's. */
const CHUNK_EVENTS = 8;
const CHUNK_BYTES = 4096;

/** Heap bytes of a user beyond its texts: objects, map entries, key. Measured with 100,000. */
const OBJECT_BYTES = 700;
/** Heap bytes of parsed JSON per byte of its text. */
const PARSED_FACTOR = 4;
/**
 * Smaller profiles and visits are parsed again when a script asks: 2.4 us for 1.8 KB. Kept parsed,
 * the 60 objects of each made the collector's marking cost more than that per event.
 */
const KEEP_PARSED_BYTES = 16 * 1024;

export interface UserLimits {
  historyMaxEvents: number;
  maxBytesPerUser: number;
}

export interface UserRow {
  key: Buffer;
  value: Buffer | null;
}

/** Reads closed chunks of one user, in the order asked; throws if one is absent. */
export type ChunkReader = (user: UserState, seqs: readonly number[]) => rows.EventRun[];

export class UserState {
  readonly id: string;
  readonly keyGroup: number;
  lastAccess: number;
  /** Changed since its rows were last taken. */
  dirty = false;
  /** Dirty at the last barrier and not written since: fork before changing (P5). */
  frozen = false;
  /** Second chance of the eviction clock. */
  referenced = true;
  /** Attempt that fetched it from the Profile API, 0 = none: a repeat of its may differ (P33). */
  readonly fetchedBy: number;

  #profileText: string;
  #visitText: string;
  #profileBytes: number;
  #profile: JsonValue | undefined;
  #visit: JsonObject | undefined;
  #eventCount: number;
  #lastEventName: string | null;
  #lastEventAt: string | null;
  #firstSeq: number;
  #nextSeq: number;
  #tailSeq: number;
  #truncated: number;
  #chunks: rows.Chunk[];
  #chunkBytes = 0;
  #tail: string[];
  #tailBytes = 0;
  /** Texts of closed chunks that are in memory. */
  readonly #texts = new Map<number, rows.EventRun>();
  /** The history was read since the rows were last taken: its chunks stay in memory. */
  #historyUsed = false;
  #textBytes = 0;
  #history: JsonValue[] | null = null;
  #profileWritten: boolean;
  #unwritten: number[] = [];
  #dead: number[] = [];

  private constructor(
    id: string,
    keyGroup: number,
    head: rows.Head,
    profile: { profile: string; visit: string },
    tail: string[],
    profileWritten: boolean,
  ) {
    this.id = id;
    this.keyGroup = keyGroup;
    this.lastAccess = head.lastAccess;
    this.fetchedBy = head.fetchedBy;
    this.#profileText = profile.profile;
    this.#visitText = profile.visit;
    this.#profileBytes = head.profileBytes;
    this.#eventCount = head.eventCount;
    this.#lastEventName = head.lastEventName;
    this.#lastEventAt = head.lastEventAt;
    this.#firstSeq = head.firstSeq;
    this.#nextSeq = head.nextSeq;
    this.#tailSeq = head.tailSeq;
    this.#truncated = head.truncated;
    this.#chunks = head.chunks;
    for (const chunk of head.chunks) this.#chunkBytes += chunk.bytes;
    this.#tail = tail;
    // Bytes, not characters: where a chunk ends must not depend on who decoded the tail.
    for (const event of tail) this.#tailBytes += Buffer.byteLength(event);
    this.#profileWritten = profileWritten;
  }

  /** From the rows of RocksDB. All three are there or the user is torn, which P2 and P4 exclude. */
  static fromRows(
    id: string,
    keyGroup: number,
    head: Buffer,
    profile: Buffer,
    tail: Buffer,
  ): UserState {
    return new UserState(
      id,
      keyGroup,
      rows.decodeHead(head),
      rows.decodeProfile(profile),
      rows.splitEvents(rows.decodeEvents(tail)),
      true,
    );
  }

  /** From the Profile API's answer. History beyond the limits is dropped, oldest first. */
  static fromAnswer(
    id: string,
    keyGroup: number,
    answer: { profile: string; visit: string; history: readonly string[] },
    lastAccess: number,
    limits: UserLimits,
    fetchedBy = 0,
  ): UserState {
    const profileBytes = Buffer.byteLength(answer.profile) + Buffer.byteLength(answer.visit);
    const head = rows.newHead(lastAccess, profileBytes, fetchedBy);
    const user = new UserState(id, keyGroup, head, answer, [], false);
    user.dirty = true;
    for (const event of answer.history) user.#push(event, Buffer.byteLength(event));
    user.#trim(limits);
    return user;
  }

  get profile(): JsonValue {
    if (this.#profile !== undefined) return this.#profile;
    const parsed = JSON.parse(this.#profileText) as JsonValue;
    if (this.#profileText.length > KEEP_PARSED_BYTES) this.#profile = parsed;
    return parsed;
  }

  /** The API's visit object, with the counters once an event has moved them. */
  get visit(): JsonObject {
    if (this.#visit !== undefined) return this.#visit;
    const parsed = JSON.parse(this.#visitText) as JsonObject;
    this.#applyCounters(parsed, this.#eventCount);
    if (this.#visitText.length > KEEP_PARSED_BYTES) this.#visit = parsed;
    return parsed;
  }

  get profileText(): string {
    return this.#profileText;
  }

  get truncated(): number {
    return this.#truncated;
  }

  /** Estimate of the heap this object holds, bytes. */
  get bytes(): number {
    const parsed =
      (this.#profile === undefined ? 0 : this.#profileText.length) +
      (this.#visit === undefined ? 0 : this.#visitText.length) +
      (this.#history === null ? 0 : this.#textBytes + this.#tailBytes);
    return (
      OBJECT_BYTES +
      this.#profileText.length +
      this.#visitText.length +
      this.#tailBytes +
      this.#textBytes +
      this.#chunks.length * 32 +
      parsed * PARSED_FACTOR
    );
  }

  /** Stored bytes of profile, visit and history: what maxBytesPerUser limits. */
  get storedBytes(): number {
    return this.#profileBytes + this.#chunkBytes + this.#tailBytes;
  }

  /** History as JSON texts joined by commas, oldest first. Reads chunks that are not in memory. */
  historyText(read: ChunkReader): string {
    this.#loadChunks(read);
    const parts: string[] = [];
    for (const [i, chunk] of this.#chunks.entries()) {
      const run = this.#texts.get(chunk.seq)!;
      // The first kept event may lie inside the first chunk.
      const gone = i === 0 ? Math.max(0, this.#firstSeq - chunk.seq) : 0;
      parts.push(gone === 0 ? run.joined : rows.joinedFrom(run, gone));
    }
    parts.push(...this.#tail);
    return parts.join(',');
  }

  historyTexts(read: ChunkReader): string[] {
    this.#loadChunks(read);
    const all = this.#chunks.flatMap((chunk) => rows.splitEvents(this.#texts.get(chunk.seq)!));
    all.push(...this.#tail);
    return all.slice(all.length - (this.#nextSeq - this.#firstSeq));
  }

  /** Parsed history. Kept with the user while it is cached: hot users pay the parse once. */
  history(read: ChunkReader): readonly JsonValue[] {
    this.#history ??= JSON.parse(`[${this.historyText(read)}]`) as JsonValue[];
    return this.#history;
  }

  #loadChunks(read: ChunkReader): void {
    this.#historyUsed = true;
    const absent = this.#chunks.filter((chunk) => !this.#texts.has(chunk.seq));
    if (absent.length === 0) return;
    const runs = read(
      this,
      absent.map((chunk) => chunk.seq),
    );
    absent.forEach((chunk, i) => {
      this.#texts.set(chunk.seq, runs[i]!);
      this.#textBytes += chunk.bytes;
    });
  }

  /** A judged event joins the history and moves the counters. Returns how many were truncated. */
  append(
    event: { raw: string; bytes: number; parsed: JsonObject; timestamp: number; time: number },
    limits: UserLimits,
  ): number {
    const before = this.#truncated;
    const { event_name: name, timestamp } = event.parsed;
    this.#eventCount++;
    this.#lastEventName = typeof name === 'string' ? name : null;
    if (timestamp !== undefined && timestamp !== null)
      this.#lastEventAt = JSON.stringify(timestamp);
    else this.#lastEventAt = event.timestamp < 0 ? null : String(event.timestamp);
    if (this.#visit !== undefined) this.#applyCounters(this.#visit, 1);
    if (event.time > this.lastAccess) this.lastAccess = event.time;
    this.#push(event.raw, event.bytes);
    this.#history?.push(event.parsed);
    this.#trim(limits);
    if (this.#history !== null) {
      const surplus = this.#history.length - (this.#nextSeq - this.#firstSeq);
      if (surplus > 0) this.#history.splice(0, surplus);
    }
    return this.#truncated - before;
  }

  /** Rows that changed since the last call; the user is clean after it. */
  takeRows(): UserRow[] {
    const prefix = rows.userPrefix(this.keyGroup, this.id);
    const out: UserRow[] = [{ key: rows.rowKey(prefix, rows.HEAD), value: this.#encodeHead() }];
    if (!this.#profileWritten) {
      const value = rows.encodeProfile(this.#profileText, this.#visitText);
      out.push({ key: rows.rowKey(prefix, rows.PROFILE), value });
      this.#profileWritten = true;
    }
    out.push({
      key: rows.rowKey(prefix, rows.TAIL),
      value: rows.encodeEvents(rows.joinEvents(this.#tail)),
    });
    for (const seq of this.#unwritten) {
      const value = rows.encodeEvents(this.#texts.get(seq)!);
      out.push({ key: rows.rowKey(prefix, rows.CHUNK, seq), value });
    }
    for (const seq of this.#dead) {
      out.push({ key: rows.rowKey(prefix, rows.CHUNK, seq), value: null });
    }
    this.#unwritten = [];
    this.#dead = [];
    this.dirty = false;
    this.#releaseHistory();
    return out;
  }

  /** Every chunk is written: those of users that never match need no heap. */
  #releaseHistory(): void {
    if (this.#historyUsed) this.#historyUsed = false;
    else {
      this.#texts.clear();
      this.#textBytes = 0;
      this.#history = null;
    }
  }

  /** Tombstones of every row the user may have, for a drop or a purge (P37). */
  tombstones(): UserRow[] {
    const chunks = [...this.#dead, ...this.#chunks.map((chunk) => chunk.seq)];
    return tombstonesOf(this.keyGroup, this.id, chunks);
  }

  #encodeHead(): Buffer {
    return rows.encodeHead({
      lastAccess: this.lastAccess,
      eventCount: this.#eventCount,
      lastEventName: this.#lastEventName,
      lastEventAt: this.#lastEventAt,
      firstSeq: this.#firstSeq,
      nextSeq: this.#nextSeq,
      tailSeq: this.#tailSeq,
      truncated: this.#truncated,
      profileBytes: this.#profileBytes,
      fetchedBy: this.fetchedBy,
      chunks: this.#chunks,
    });
  }

  #applyCounters(visit: JsonObject, add: number): void {
    if (this.#eventCount === 0) return;
    const count = visit['event_count'];
    visit['event_count'] = (Number.isFinite(count) ? Number(count) : 0) + add;
    visit['last_event_name'] = this.#lastEventName;
    visit['last_event_at'] =
      this.#lastEventAt === null ? null : (JSON.parse(this.#lastEventAt) as JsonValue);
  }

  #push(raw: string, bytes: number): void {
    this.#tail.push(raw);
    this.#tailBytes += bytes;
    this.#nextSeq++;
    if (this.#tail.length < CHUNK_EVENTS && this.#tailBytes < CHUNK_BYTES) return;
    this.#chunks.push({ seq: this.#tailSeq, bytes: this.#tailBytes });
    this.#texts.set(this.#tailSeq, rows.joinEvents(this.#tail));
    this.#unwritten.push(this.#tailSeq);
    this.#chunkBytes += this.#tailBytes;
    this.#textBytes += this.#tailBytes;
    this.#tailSeq = this.#nextSeq;
    this.#tail = [];
    this.#tailBytes = 0;
  }

  /** Drops what is older than the limits allow. By size a whole chunk goes at a time. */
  #trim(limits: UserLimits): void {
    const keepFrom = this.#nextSeq - limits.historyMaxEvents;
    if (keepFrom > this.#firstSeq) this.#firstSeq = keepFrom;
    while (this.#chunks.length > 0 && this.#endOfOldest() <= this.#firstSeq) this.#dropOldest();
    while (this.storedBytes > limits.maxBytesPerUser && this.#chunks.length > 0) {
      const end = this.#endOfOldest();
      this.#truncated += end - this.#firstSeq;
      this.#firstSeq = end;
      this.#dropOldest();
    }
    const surplus = Math.min(this.#firstSeq - this.#tailSeq, this.#tail.length);
    if (surplus <= 0) return;
    for (const gone of this.#tail.splice(0, surplus)) this.#tailBytes -= Buffer.byteLength(gone);
    this.#tailSeq += surplus;
  }

  #endOfOldest(): number {
    return this.#chunks[1]?.seq ?? this.#tailSeq;
  }

  #dropOldest(): void {
    const chunk = this.#chunks.shift()!;
    this.#chunkBytes -= chunk.bytes;
    if (this.#texts.delete(chunk.seq)) this.#textBytes -= chunk.bytes;
    const unwritten = this.#unwritten.indexOf(chunk.seq);
    if (unwritten >= 0) this.#unwritten.splice(unwritten, 1);
    else this.#dead.push(chunk.seq);
  }
}

export function tombstonesOf(keyGroup: number, id: string, chunks: readonly number[]): UserRow[] {
  const prefix = rows.userPrefix(keyGroup, id);
  const keys = [
    rows.rowKey(prefix, rows.HEAD),
    rows.rowKey(prefix, rows.PROFILE),
    rows.rowKey(prefix, rows.TAIL),
    ...chunks.map((seq) => rows.rowKey(prefix, rows.CHUNK, seq)),
  ];
  return keys.map((key) => ({ key, value: null }));
}

/** One user of a checkpoint, from all its rows: for dumps, made without any other code path. */
export function decodeUser(userRows: ReadonlyMap<string, Buffer>): {
  profileText: string;
  visitText: string;
  history: string[];
  lastAccess: number;
} {
  const row = (kind: number, seq = 0) => {
    const found = userRows.get(`${kind}/${seq}`);
    if (found === undefined) throw new Error(`user row ${kind}/${seq} is missing`);
    return found;
  };
  const head = rows.decodeHead(row(rows.HEAD));
  const user = UserState.fromRows('', 0, row(rows.HEAD), row(rows.PROFILE), row(rows.TAIL));
  const history = user.historyTexts((_, seqs) =>
    seqs.map((seq) => rows.decodeEvents(row(rows.CHUNK, seq))),
  );
  return {
    profileText: user.profileText,
    visitText: JSON.stringify(user.visit),
    history,
    lastAccess: head.lastAccess,
  };
}
