/**
 * One user's live state and what an event does to it. Pure memory: rows go out through `takeRows`
 * and `append`, closed chunks of history come in through the `ChunkReader` when a script or a body
 * asks for them. The texts lie in the arena, outside of V8's heap; whoever lets a user go calls
 * `release`.
 */
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { type ChunkChange, EventHistory } from './event-history.ts';
import type { UserRow } from './rows.ts';
import * as rows from './rows.ts';
import type { Block, SlabArena } from './slab-arena.ts';

/** Heap bytes of a user beyond its blocks: objects, map entries, key. Measured with 100,000. */
const OBJECT_BYTES = 700;
const CHUNK_ENTRY_BYTES = 24;
/** Heap bytes of parsed JSON per byte of its text. */
const PARSED_FACTOR = 4;
/**
 * Smaller profiles and visits are parsed again when a script asks: 2.4 us for 1.8 KB. Kept parsed,
 * the 60 objects of each made the collector's marking cost more than that per event.
 */
const KEEP_PARSED_BYTES = 16 * 1024;
/** Longer texts of a profile's fields are not kept beside it. */
const MAX_FIELD_CHARS = 64;

export interface UserLimits {
  historyMaxEvents: number;
  maxBytesPerUser: number;
}

export type { UserRow } from './rows.ts';

/** A judged event: its text lies in `source`, which may be reused once `append` has returned. */
export interface AppendedEvent {
  source: Buffer;
  start: number;
  end: number;
  parsed: JsonObject;
  timestamp: number;
  time: number;
}

/** Reads closed chunks of one user, in the order asked; throws if one is absent. */
export type ChunkReader = (user: UserState, seqs: readonly number[]) => Buffer[];

/** Profile and visit JSON of a user, one after the other in one buffer. */
export interface UserTexts {
  source: Buffer;
  start: number;
  profileBytes: number;
  visitBytes: number;
}

export class UserState {
  readonly id: string;
  readonly keyGroup: number;
  lastAccess: number;
  /** The interval whose changes its rows do not hold yet; 0: they hold all. The manager's mark. */
  dirtyIn = 0;
  /** Second chance of the eviction clock. */
  referenced = true;
  /** Its blocks are gone: look it up again. */
  released = false;
  /** Its `bytes` when the cache was last told. */
  accountedBytes = 0;
  /** Attempt that fetched it from the Profile API, 0 = none: a repeat of its may differ (P33). */
  readonly fetchedBy: number;

  readonly #arena: SlabArena;
  readonly #history: EventHistory;
  /** Profile JSON, then visit JSON. */
  readonly #texts: Block;
  readonly #textCapacity: number;
  readonly #profileBytes: number;
  readonly #visitBytes: number;
  #profile: JsonValue | undefined;
  #visit: JsonObject | undefined;
  /** The profile with only the fields that the script of `#fieldsFor` names. */
  #fields: JsonObject | undefined;
  #fieldsFor: readonly string[] | undefined;
  #parsedHistory: JsonValue[] | null = null;
  #eventCount: number;
  #lastEventName: string | null;
  /** JSON text; null: none, or a number in `#lastEventMs`. */
  #lastEventAt: string | null;
  /** NaN: none. A field of its own: as one with the text each event would make a heap number. */
  #lastEventMs = Number.NaN;
  #truncated: number;
  #profileWritten: boolean;
  /** The history was read since the rows were last taken: its chunks stay in memory. */
  #historyUsed = false;

  private constructor(
    arena: SlabArena,
    id: string,
    keyGroup: number,
    head: rows.Head,
    texts: UserTexts,
    tail: Buffer | null,
    profileWritten: boolean,
  ) {
    this.id = id;
    this.keyGroup = keyGroup;
    this.lastAccess = head.lastAccess;
    this.fetchedBy = head.fetchedBy;
    this.#arena = arena;
    this.#profileBytes = texts.profileBytes;
    this.#visitBytes = texts.visitBytes;
    const bytes = texts.profileBytes + texts.visitBytes;
    this.#texts = arena.allocate(bytes);
    this.#textCapacity = arena.capacity(this.#texts);
    texts.source.copy(
      arena.buffer(this.#texts),
      arena.offset(this.#texts),
      texts.start,
      texts.start + bytes,
    );
    this.#eventCount = head.eventCount;
    this.#lastEventName = head.lastEventName;
    this.#lastEventAt = head.lastEventAt;
    this.#truncated = head.truncated;
    this.#history = new EventHistory(arena, head, tail);
    this.#profileWritten = profileWritten;
  }

  /** From the rows of RocksDB. All three are there or the user is torn, which P2 and P4 exclude. */
  static fromRows(
    arena: SlabArena,
    id: string,
    keyGroup: number,
    { head, profile, tail }: { head: Buffer; profile: Buffer; tail: Buffer },
  ): UserState {
    const profileBytes = rows.profileBytesOf(profile);
    const visitBytes = profile.length - 4 - profileBytes;
    const texts = { source: profile, start: 4, profileBytes, visitBytes };
    return new UserState(arena, id, keyGroup, rows.decodeHead(head), texts, tail, true);
  }

  /**
   * From the Profile API's answer. History beyond the limits is dropped, oldest first; its closed
   * chunks go to `out`.
   */
  static fromAnswer(
    arena: SlabArena,
    newcomer: { id: string; keyGroup: number; lastAccess: number; fetchedBy: number },
    answer: { profile: string; visit: string; history: readonly string[] },
    limits: UserLimits,
    out: UserRow[],
  ): UserState {
    const { id, keyGroup, lastAccess, fetchedBy } = newcomer;
    const source = Buffer.from(answer.profile + answer.visit);
    const profileBytes = Buffer.byteLength(answer.profile);
    const visitBytes = source.length - profileBytes;
    const texts = { source, start: 0, profileBytes, visitBytes };
    const head = rows.newHead(lastAccess, source.length, fetchedBy);
    const user = new UserState(arena, id, keyGroup, head, texts, null, false);
    const changes: ChunkChange[] = [];
    for (const event of answer.history) {
      const bytes = Buffer.from(event);
      user.#history.push(bytes, 0, bytes.length, changes);
    }
    user.#trim(limits, changes);
    user.#emit(changes, out);
    return user;
  }

  get profile(): JsonValue {
    if (this.#profile !== undefined) return this.#profile;
    const parsed = JSON.parse(this.profileText) as JsonValue;
    if (this.#profileBytes > KEEP_PARSED_BYTES) this.#profile = parsed;
    return parsed;
  }

  /**
   * The profile as a script sees that names no other of its fields. Kept while they are short:
   * parsing the whole again took 6 % of the thread. Pass the same array for the same script.
   */
  profileFields(names: readonly string[]): JsonValue {
    if (this.#fieldsFor === names) return this.#fields!;
    const { profile } = this;
    if (typeof profile !== 'object' || profile === null || Array.isArray(profile)) return profile;
    const fields: JsonObject = {};
    for (const name of names) {
      if (!Object.hasOwn(profile, name)) continue;
      const value = profile[name]!;
      const long = typeof value === 'string' && value.length > MAX_FIELD_CHARS;
      if (long || (typeof value === 'object' && value !== null)) return profile;
      fields[name] = value;
    }
    this.#fields = fields;
    this.#fieldsFor = names;
    return fields;
  }

  /** The API's visit object, with the counters once an event has moved them. */
  get visit(): JsonObject {
    if (this.#visit !== undefined) return this.#visit;
    const parsed = JSON.parse(this.#visitText) as JsonObject;
    this.#applyCounters(parsed, this.#eventCount);
    if (this.#visitBytes > KEEP_PARSED_BYTES) this.#visit = parsed;
    return parsed;
  }

  get profileText(): string {
    const start = this.#arena.offset(this.#texts);
    return this.#arena.buffer(this.#texts).toString('utf8', start, start + this.#profileBytes);
  }

  get #visitText(): string {
    const start = this.#arena.offset(this.#texts) + this.#profileBytes;
    return this.#arena.buffer(this.#texts).toString('utf8', start, start + this.#visitBytes);
  }

  get profileBytes(): number {
    return this.#profileBytes;
  }

  /** Writes the profile JSON; returns where it ends. */
  copyProfile(target: Buffer, at: number): number {
    const start = this.#arena.offset(this.#texts);
    const slab = this.#arena.buffer(this.#texts);
    return at + slab.copy(target, at, start, start + this.#profileBytes);
  }

  get truncated(): number {
    return this.#truncated;
  }

  /** Estimate of the memory this user takes, in the arena and in the heap. */
  get bytes(): number {
    const parsed =
      (this.#profile === undefined ? 0 : this.#profileBytes) +
      (this.#visit === undefined ? 0 : this.#visitBytes) +
      (this.#parsedHistory === null ? 0 : this.#history.storedBytes);
    return (
      OBJECT_BYTES +
      this.#textCapacity +
      this.#history.blockBytes +
      this.#history.chunkCount * CHUNK_ENTRY_BYTES +
      parsed * PARSED_FACTOR
    );
  }

  /** Stored bytes of profile, visit and history: what maxBytesPerUser limits. */
  get storedBytes(): number {
    return this.#profileBytes + this.#visitBytes + this.#history.storedBytes;
  }

  /**
   * The history, for `joinedBytes` and `copyJoined`: chunks that are not in memory are read first.
   */
  openHistory(read: ChunkReader): EventHistory {
    this.#historyUsed = true;
    this.#history.load((seqs) => read(this, seqs));
    return this.#history;
  }

  historyTexts(read: ChunkReader): string[] {
    return this.openHistory(read).texts();
  }

  /** Parsed history. Kept with the user while it is cached: hot users pay the parse once. */
  history(read: ChunkReader): readonly JsonValue[] {
    if (this.#parsedHistory !== null) {
      this.#historyUsed = true;
      return this.#parsedHistory;
    }
    const history = this.openHistory(read);
    const joined = Buffer.allocUnsafe(history.joinedBytes);
    history.copyJoined(joined, 0);
    this.#parsedHistory = JSON.parse(`[${joined.toString('utf8')}]`) as JsonValue[];
    return this.#parsedHistory;
  }

  /**
   * A judged event joins the history and moves the counters; chunk rows that come of it go to
   * `out`. Returns how many events were truncated.
   */
  append(event: AppendedEvent, limits: UserLimits, out: UserRow[]): number {
    const before = this.#truncated;
    const { parsed, source, start, end } = event;
    this.#eventCount++;
    const name = parsed['event_name'];
    this.#lastEventName = typeof name === 'string' ? name : null;
    this.#moveLastEvent(parsed['timestamp'], event.timestamp);
    if (this.#visit !== undefined) this.#applyCounters(this.#visit, 1);
    if (event.time > this.lastAccess) this.lastAccess = event.time;
    changed.length = 0;
    this.#history.push(source, start, end, changed);
    this.#parsedHistory?.push(parsed);
    this.#trim(limits, changed);
    if (changed.length > 0) this.#emit(changed, out);
    if (this.#parsedHistory !== null) {
      const surplus = this.#parsedHistory.length - this.#history.length;
      if (surplus > 0) this.#parsedHistory.splice(0, surplus);
    }
    return this.#truncated - before;
  }

  /** Rows that changed since the last call, chunks apart. */
  takeRows(): UserRow[] {
    const prefix = rows.userPrefix(this.keyGroup, this.id);
    const out: UserRow[] = [{ key: rows.rowKey(prefix, rows.HEAD), value: this.#encodeHead() }];
    if (!this.#profileWritten) {
      const slab = this.#arena.buffer(this.#texts);
      const start = this.#arena.offset(this.#texts);
      const value = rows.encodeProfile(slab, start, this.#profileBytes, this.#visitBytes);
      out.push({ key: rows.rowKey(prefix, rows.PROFILE), value });
      this.#profileWritten = true;
    }
    out.push({ key: rows.rowKey(prefix, rows.TAIL), value: this.#history.encodeTail() });
    this.#unloadHistory();
    return out;
  }

  /** Users that never match need no chunks in memory. */
  #unloadHistory(): void {
    if (this.#historyUsed) {
      this.#historyUsed = false;
      return;
    }
    this.#history.unload();
    this.#parsedHistory = null;
  }

  /** Tombstones of every row the user may have, for a drop or a purge (P37). */
  tombstones(): UserRow[] {
    const chunks = this.#history.chunks.map((chunk) => chunk.seq);
    return rows.tombstonesOf(this.keyGroup, this.id, chunks);
  }

  /** Gives its memory back. Any use after it would read another user's bytes. */
  release(): void {
    this.released = true;
    this.#arena.free(this.#texts);
    this.#history.release();
  }

  #encodeHead(): Buffer {
    return rows.encodeHead({
      lastAccess: this.lastAccess,
      eventCount: this.#eventCount,
      lastEventName: this.#lastEventName,
      lastEventAt: this.#lastEventText,
      firstSeq: this.#history.firstSeq,
      nextSeq: this.#history.nextSeq,
      tailSeq: this.#history.tailSeq,
      truncated: this.#truncated,
      profileBytes: this.#profileBytes + this.#visitBytes,
      fetchedBy: this.fetchedBy,
      chunks: this.#history.chunks,
    });
  }

  get #lastEventText(): string | null {
    return Number.isNaN(this.#lastEventMs) ? this.#lastEventAt : JSON.stringify(this.#lastEventMs);
  }

  #moveLastEvent(timestamp: JsonValue | undefined, recordMs: number): void {
    const given = timestamp ?? null;
    this.#lastEventAt = null;
    if (typeof given === 'number') this.#lastEventMs = given;
    else if (given === null) this.#lastEventMs = recordMs < 0 ? Number.NaN : recordMs;
    else {
      this.#lastEventMs = Number.NaN;
      this.#lastEventAt = JSON.stringify(given);
    }
  }

  #applyCounters(visit: JsonObject, add: number): void {
    if (this.#eventCount === 0) return;
    const count = visit['event_count'];
    visit['event_count'] = (Number.isFinite(count) ? Number(count) : 0) + add;
    visit['last_event_name'] = this.#lastEventName;
    const text = this.#lastEventText;
    visit['last_event_at'] = text === null ? null : (JSON.parse(text) as JsonValue);
  }

  /** Drops what is older than the limits allow. By size a whole chunk goes at a time. */
  #trim(limits: UserLimits, changes: ChunkChange[]): void {
    this.#history.trimToEvents(limits.historyMaxEvents, changes);
    while (this.storedBytes > limits.maxBytesPerUser && this.#history.chunkCount > 0) {
      this.#truncated += this.#history.dropChunk(changes);
    }
  }

  #emit(changes: readonly ChunkChange[], out: UserRow[]): void {
    const prefix = rows.userPrefix(this.keyGroup, this.id);
    for (const { seq, value } of changes) {
      out.push({ key: rows.rowKey(prefix, rows.CHUNK, seq), value });
    }
  }
}

/** Reused by `append`, which never runs inside itself: most events change no chunk. */
const changed: ChunkChange[] = [];
