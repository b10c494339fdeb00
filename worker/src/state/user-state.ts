/**
 * One user's live state and what an event does to it. Pure memory: rows go out through `takeRows`
 * and `append`; profile and closed chunks of history come in through the `RowReader` when a script
 * or a body asks for them: most events need neither. The texts lie in the arena, outside of V8's
 * heap; whoever lets a user go calls `release`.
 */
import { viewOf } from '../runtime/copy-words.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { type ChunkChange, EventHistory } from './event-history.ts';
import type { HistoryFieldSet } from './history-columns.ts';
import { HistoryView } from './history-view.ts';
import { type FieldSet, projected, type StoredFields } from './profile-fields.ts';
import { PARSED_FACTOR, ProfileTexts } from './profile-texts.ts';
import * as rows from './rows.ts';
import type { SlabArena } from './slab-arena.ts';

/**
 * Heap bytes of a user beyond its blocks: objects, map entries, key. They are 520, measured with
 * 25,000 of 7 chunks; but V8 collects only when a heap has grown by far (heap-flags.ts).
 */
const OBJECT_BYTES = 600;
const CHUNK_ENTRY_BYTES = 16;
/** A larger profile takes its time to parse: only for an event that asks. */
const MAX_PREPARED_BYTES = 64 * 1024;

export interface UserLimits {
  historyMaxEvents: number;
  maxBytesPerUser: number;
}

/** A judged event: its text lies in `source`, which may be reused once `append` has returned. */
export interface AppendedEvent {
  source: Buffer;
  view: DataView;
  start: number;
  end: number;
  parsed: JsonObject;
  timestamp: number;
  time: number;
}

/** Reads what of a live user's rows is not in memory; throws if one is absent. */
export interface RowReader {
  profile(user: UserState): Buffer;
  /** Closed chunks, in the order asked. */
  chunks(user: UserState, seqs: readonly number[]): Buffer[];
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
  /** Grain of the expiry mark that stands for it (expiry-index.ts); -1 none. */
  markedGrain = -1;
  /** Its `bytes` and `bodyBytes` when the cache was last told. */
  accountedBytes = 0;
  accountedBody = 0;
  /** Attempt that fetched it from the Profile API, 0 = none: a repeat of its may differ (P33). */
  readonly fetchedBy: number;

  readonly #arena: SlabArena;
  readonly #history: EventHistory;
  /** null: in the backend, and not asked for yet. */
  #texts: ProfileTexts | null;
  /** Of profile and visit, in memory or not. */
  readonly #textBytes: number;
  #fields: StoredFields | null;
  readonly #view = new HistoryView();
  #eventCount: number;
  #lastEventName: string | null;
  /** JSON text; null: none, or a number in `#lastEventMs`. */
  #lastEventAt: string | null;
  /** NaN: none. A field of its own: as one with the text each event would make a heap number. */
  #lastEventMs = Number.NaN;
  #truncated: number;
  #profileWritten: boolean;
  /** Read since the last `shrink`: they stay in memory. */
  #textsUsed = false;
  #historyUsed = false;

  private constructor(
    arena: SlabArena,
    id: string,
    keyGroup: number,
    head: rows.Head,
    texts: ProfileTexts | null,
    stored: { row: Buffer; tailAt: number } | null,
  ) {
    this.id = id;
    this.keyGroup = keyGroup;
    this.lastAccess = head.lastAccess;
    this.fetchedBy = head.fetchedBy;
    this.#arena = arena;
    this.#texts = texts;
    this.#textBytes = head.profileBytes;
    this.#fields = head.fields;
    this.#eventCount = head.eventCount;
    this.#lastEventName = head.lastEventName;
    this.#lastEventAt = head.lastEventAt;
    this.#truncated = head.truncated;
    this.#history = new EventHistory(arena, head, stored?.row ?? null, stored?.tailAt ?? 0);
    this.#profileWritten = stored !== null;
  }

  /** From its head row; the others are read when they are asked for. */
  static fromHead(arena: SlabArena, id: string, keyGroup: number, row: Buffer): UserState {
    const { tailAt, ...head } = rows.decodeHead(row);
    return new UserState(arena, id, keyGroup, head, null, { row, tailAt });
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
    out: rows.UserRow[],
  ): UserState {
    const { id, keyGroup, lastAccess, fetchedBy } = newcomer;
    const texts = ProfileTexts.fromAnswer(arena, answer);
    const head = rows.newHead(lastAccess, texts.bytes, fetchedBy);
    const user = new UserState(arena, id, keyGroup, head, texts, null);
    const changes: ChunkChange[] = [];
    for (const event of answer.history) {
      const bytes = Buffer.from(event);
      user.#history.push(bytes, viewOf(bytes), 0, bytes.length, changes);
    }
    user.#trim(limits, changes);
    user.#emit(changes, out);
    return user;
  }

  get hasTexts(): boolean {
    return this.#texts !== null;
  }

  /** The profile row, read ahead for several users at once. */
  giveTexts(row: Buffer): void {
    this.#textsUsed = true;
    this.#texts ??= ProfileTexts.fromRow(this.#arena, row);
  }

  /** Profile and visit JSON; read first, where they are not in memory. */
  texts(read: RowReader): ProfileTexts {
    if (this.#texts === null) this.giveTexts(read.profile(this));
    this.#textsUsed = true;
    return this.#texts!;
  }

  /** What `fields` answers, where no row has to be read for it; else null. */
  knownFields(set: FieldSet): JsonObject | null {
    return this.#fields?.digest === set.digest ? this.#fields.values : null;
  }

  /** The profile as a script sees it that names no other of its fields. */
  fields(set: FieldSet, read: RowReader): JsonValue {
    const known = this.knownFields(set);
    if (known !== null) return known;
    const { profile } = this.texts(read);
    const found = projected(profile, set);
    if (found === null) return profile;
    this.#fields = found;
    return found.values;
  }

  /** Takes out of a newcomer's profile what `fields` will be asked for. */
  prepare(set: FieldSet): void {
    if (this.#texts === null || this.#textBytes > MAX_PREPARED_BYTES) return;
    const found = projected(this.#texts.profile, set);
    if (found !== null) this.#fields = found;
  }

  /** The API's visit object, with the counters once an event has moved them. */
  visit(read: RowReader): JsonObject {
    const visit = JSON.parse(this.texts(read).visitText) as JsonObject;
    if (this.#eventCount === 0) return visit;
    const count = visit['event_count'];
    visit['event_count'] = (Number.isFinite(count) ? Number(count) : 0) + this.#eventCount;
    visit['last_event_name'] = this.#lastEventName;
    const text = this.#lastEventText;
    visit['last_event_at'] = text === null ? null : (JSON.parse(text) as JsonValue);
    return visit;
  }

  get truncated(): number {
    return this.#truncated;
  }

  /** Estimate of the memory this user takes, in the arena and in the heap. */
  get bytes(): number {
    return (
      OBJECT_BYTES +
      (this.#texts?.memoryBytes ?? 0) +
      this.#history.blockBytes +
      this.#history.chunkCount * CHUNK_ENTRY_BYTES +
      this.#view.columnBytes +
      this.#parsedBytes
    );
  }

  /** What of it can be read again: bodies of events and some scripts ask for it. */
  get bodyBytes(): number {
    const texts = this.#profileWritten ? (this.#texts?.memoryBytes ?? 0) : 0;
    return texts + this.#history.closedBytes + this.#parsedBytes;
  }

  get #parsedBytes(): number {
    return this.#view.hasParsed ? this.#history.storedBytes * PARSED_FACTOR : 0;
  }

  /** Stored bytes of profile, visit and history: what maxBytesPerUser limits. */
  get storedBytes(): number {
    return this.#textBytes + this.#history.storedBytes;
  }

  /**
   * The history, for `joinedBytes` and `copyJoined`: chunks that are not in memory are read first.
   */
  openHistory(read: RowReader): EventHistory {
    this.#historyUsed = true;
    this.#history.load((seqs) => read.chunks(this, seqs));
    return this.#history;
  }

  /** Closed chunks that are not in memory, for `giveChunks`. */
  absentChunks(): number[] {
    return this.#history.absent();
  }

  /** Their rows, read ahead for several users at once. */
  giveChunks(found: readonly Buffer[]): void {
    this.#historyUsed = true;
    this.#history.give(found);
  }

  /** Events that `history` has, told without reading them. */
  get historyCount(): number {
    return this.#history.length;
  }

  /** Number of the event that comes next: it is another after each change of the history. */
  get nextSeq(): number {
    return this.#history.nextSeq;
  }

  historyTexts(read: RowReader): string[] {
    return this.openHistory(read).texts();
  }

  /** What `history` answers, where no row has to be read for it; else null. */
  knownHistory(fields: HistoryFieldSet | null): readonly JsonValue[] | null {
    const known = this.#view.known(fields);
    if (known !== null && this.#view.hasParsed) this.#historyUsed = true;
    return known;
  }

  /** For a script that names `fields` of the events; null: all. Kept: hot users parse once. */
  history(read: RowReader, fields: HistoryFieldSet | null): readonly JsonValue[] {
    const known = this.knownHistory(fields);
    if (known !== null) return known;
    const history = this.openHistory(read);
    const joined = Buffer.allocUnsafe(history.joinedBytes);
    history.copyJoined(joined, 0);
    return this.#view.take(JSON.parse(`[${joined.toString('utf8')}]`) as JsonValue[], fields);
  }

  /**
   * A judged event joins the history and moves the counters; chunk rows that come of it go to
   * `out`. Returns how many events were truncated.
   */
  append(event: AppendedEvent, limits: UserLimits, out: rows.UserRow[]): number {
    const before = this.#truncated;
    const { parsed, source, view, start, end } = event;
    this.#eventCount++;
    const name = parsed['event_name'];
    this.#lastEventName = typeof name === 'string' ? name : null;
    this.#moveLastEvent(parsed['timestamp'], event.timestamp);
    if (event.time > this.lastAccess) this.lastAccess = event.time;
    changed.length = 0;
    this.#history.push(source, view, start, end, changed);
    this.#trim(limits, changed);
    this.#view.push(parsed, this.#history.length);
    if (changed.length > 0) this.#emit(changed, out);
    return this.#truncated - before;
  }

  /** Rows that changed since the last call, chunks apart. */
  takeRows(): rows.UserRow[] {
    const out: rows.UserRow[] = [this.headRow()];
    if (!this.#profileWritten) {
      const prefix = rows.userPrefix(this.keyGroup, this.id);
      out.push({ key: rows.rowKey(prefix, rows.PROFILE), value: this.#texts!.encode() });
      this.#profileWritten = true;
    }
    this.shrink();
    return out;
  }

  /**
   * Lets go of what can be read again and nobody has asked for since the last call. Users that
   * never match need neither chunks nor texts in memory: without both, twice as many fit the cache.
   */
  shrink(): void {
    if (!this.#historyUsed) {
      this.#history.unload();
      this.#view.dropParsed();
    }
    if (!this.#textsUsed && this.#profileWritten) {
      this.#texts?.release();
      this.#texts = null;
    }
    this.#historyUsed = false;
    this.#textsUsed = false;
  }

  /** Tombstones of every row the user may have, for a drop or a purge (P37). */
  tombstones(): rows.UserRow[] {
    const chunks = this.#history.chunks.map((chunk) => chunk.seq);
    return rows.tombstonesOf(this.keyGroup, this.id, chunks);
  }

  /** Gives its memory back. Any use after it would read another user's bytes. */
  release(): void {
    this.released = true;
    this.#texts?.release();
    this.#history.release();
  }

  /** As it would be written now; nothing changes. */
  headRow(): rows.UserRow & { value: Buffer } {
    const prefix = rows.userPrefix(this.keyGroup, this.id);
    return { key: rows.rowKey(prefix, rows.HEAD), value: this.#encodeHead() };
  }

  /** Its rows as they would be written now, chunks apart; for who looks, so nothing changes. */
  rowsNow(): { head: Buffer; profile: Buffer | null } {
    return { head: this.#encodeHead(), profile: this.#texts?.encode() ?? null };
  }

  #encodeHead(): Buffer {
    const history = this.#history;
    const head = {
      lastAccess: this.lastAccess,
      eventCount: this.#eventCount,
      lastEventName: this.#lastEventName,
      lastEventAt: this.#lastEventText,
      firstSeq: history.firstSeq,
      nextSeq: history.nextSeq,
      tailSeq: history.tailSeq,
      truncated: this.#truncated,
      profileBytes: this.#textBytes,
      fields: this.#fields,
      fetchedBy: this.fetchedBy,
      chunks: history.chunks,
    };
    return rows.encodeHead(head, history);
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

  /** Drops what is older than the limits allow. By size a whole chunk goes at a time. */
  #trim(limits: UserLimits, changes: ChunkChange[]): void {
    this.#history.trimToEvents(limits.historyMaxEvents, changes);
    while (this.storedBytes > limits.maxBytesPerUser && this.#history.chunkCount > 0) {
      this.#truncated += this.#history.dropChunk(changes);
    }
  }

  #emit(changes: readonly ChunkChange[], out: rows.UserRow[]): void {
    const prefix = rows.userPrefix(this.keyGroup, this.id);
    for (const { seq, value } of changes) {
      out.push({ key: rows.rowKey(prefix, rows.CHUNK, seq), value });
    }
  }
}

/** Reused by `append`, which never runs inside itself: most events change no chunk. */
const changed: ChunkChange[] = [];
