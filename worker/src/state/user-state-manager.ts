/**
 * The users of one slot: write-back cache over the state backend, frozen set and deltas of a
 * checkpoint (P1-P8, P11), TTL (P36, P37). Owns no clock and no network; a turn of it is
 * synchronous, so between two turns every row is in the cache, in `#pending`, or in the backend.
 *
 *   dirty --freeze at barrier i--> frozen --slice or fork--> D(i), and unwritten: its head
 *   dirty --eviction---------------------------------------> #pending + D(i+1) --write--> backend
 *   unwritten --eviction, or before a base is scanned-----> #pending          --write--> backend
 */
import type { Env } from '../runtime/env.ts';
import { invariant } from '../runtime/errors.ts';
import { HISTOGRAM_BOUNDS, Histogram } from '../runtime/histogram.ts';
import type { StateBackend } from './backend.ts';
import { DeltaLog, type DeltaLogOptions } from './delta-log.ts';
import { ExpiryIndex, type ExpiryMark } from './expiry-index.ts';
import type { ProfileAnswer } from './profile-api.ts';
import type { UserRow } from './rows.ts';
import { decodeHead, HEAD, isHeadKey, PROFILE, rowKey, tombstonesOf, userPrefix } from './rows.ts';
import { SlabArena } from './slab-arena.ts';
import { StoredRows, type UserPlace } from './stored-rows.ts';
import { UnwrittenHeads } from './unwritten-heads.ts';
import { UserClock } from './user-clock.ts';
import { type AppendedEvent, type UserLimits, UserState } from './user-state.ts';
import { WriteBuffer } from './write-buffer.ts';

export interface UserStateOptions {
  limits: UserLimits;
  ttlMs: number;
  /** Budget of live users, in the arena and in the heap. */
  cacheBytes: number;
  delta: DeltaLogOptions;
}

export interface UserStateStats {
  cached: number;
  users: number;
  cacheBytes: number;
  /** Of it, what can be read again. */
  bodyBytes: number;
  hits: number;
  misses: number;
  expired: number;
  truncatedEvents: number;
  dirty: number;
}

/** Interval that is over but whose rows are not all out. */
interface ClosingInterval {
  delta: DeltaLog;
  frozen: Set<UserState>;
  iterator: Iterator<UserState> | null;
}

/**
 * Of the budget: beyond it bodies that are not in use go before whole users do. One is as large
 * as eight users without, and read again for matches alone: with a quarter of the budget full of
 * them each third event of setting c loaded its user.
 */
const BODY_SHARE = 1 / 16;

/** Users encoded per look at the clock. */
const SLICE_USERS = 16;

export class UserStateManager {
  readonly #env: Env;
  readonly #backend: StateBackend;
  readonly #options: UserStateOptions;
  readonly #arena: SlabArena;
  readonly #users = new Map<string, UserState>();
  readonly #clock = new UserClock(this.#users);
  readonly #bodyClock = new UserClock(this.#users);
  #dirty = new Set<UserState>();
  #open: DeltaLog;
  #closing: ClosingInterval | null = null;
  readonly #pending: WriteBuffer;
  readonly unwritten: UnwrittenHeads;
  /** Chunk rows of the call under way. */
  readonly #chunkRows: UserRow[] = [];
  /** Numbers intervals from 1 on, within this task. */
  #interval = 1;
  #cacheBytes = 0;
  /** Of it, what can be read again. */
  #bodyBytes = 0;
  #userCount = 0;
  #hits = 0;
  #misses = 0;
  #expired = 0;
  #truncatedEvents = 0;
  /** Sizes of users, as they are written. */
  readonly userBytes = new Histogram(HISTOGRAM_BOUNDS.userBytes);
  readonly expiry: ExpiryIndex;
  /** Reads what a live user has left in the backend. */
  readonly stored: StoredRows;

  constructor(backend: StateBackend, env: Env, options: UserStateOptions) {
    this.#backend = backend;
    this.#pending = new WriteBuffer(backend);
    this.unwritten = new UnwrittenHeads(this.#pending);
    this.#env = env;
    this.#options = options;
    this.#arena = new SlabArena(options.cacheBytes);
    this.#open = this.#newDelta();
    this.expiry = new ExpiryIndex(options.ttlMs);
    this.stored = new StoredRows(this.#pending);
  }

  get stats(): UserStateStats {
    return {
      cached: this.#users.size,
      users: this.#userCount,
      cacheBytes: this.#cacheBytes,
      bodyBytes: this.#bodyBytes,
      hits: this.#hits,
      misses: this.#misses,
      expired: this.#expired,
      truncatedEvents: this.#truncatedEvents,
      dirty: this.#dirty.size,
    };
  }

  /** A user that is in memory; `used` marks it as such. */
  cached(userId: string): UserState | undefined {
    return this.#users.get(userId);
  }

  /** An event comes to the user; `found`: it was in memory without a load. */
  used(user: UserState, found: boolean): void {
    if (found) this.#hits++;
    user.referenced = true;
  }

  /**
   * Reads the heads of users that are not cached in one multi-get; those not found are surely
   * absent (P3). Profile and history follow when they are asked for: no row of a user changes
   * behind its live entry, so what is read later is of the same moment (P2).
   */
  load(wanted: ReadonlyMap<string, number>): void {
    const keys: Buffer[] = [];
    for (const [userId, keyGroup] of wanted) keys.push(rowKey(userPrefix(keyGroup, userId), HEAD));
    const heads = this.#pending.getMany(keys, wanted.keys());
    const absent: Buffer[] = [];
    let at = 0;
    for (const [userId, keyGroup] of wanted) {
      const head = heads[at++];
      this.#misses++;
      if (head === undefined) {
        absent.push(rowKey(userPrefix(keyGroup, userId), PROFILE));
        continue;
      }
      const user = UserState.fromHead(this.#arena, userId, keyGroup, head);
      // Written with the head, or by the restore, at the latest before the head's next image.
      user.markedGrain = this.expiry.grainOf(user.lastAccess);
      this.#admit(user);
    }
    // I6: a user that has lost its head must not begin anew. Asked only where an API call follows.
    const torn = this.#pending.getMany(absent, wanted.keys()).some((row) => row !== undefined);
    invariant(!torn, 'a user has a profile, but no head');
  }

  /** The Profile API answered for a user that has no rows. */
  create(
    userId: string,
    keyGroup: number,
    answer: ProfileAnswer,
    time: number,
    fetchedBy = 0,
  ): UserState {
    const { limits } = this.#options;
    invariant(!this.#users.has(userId), 'a user was created twice');
    const newcomer = { id: userId, keyGroup, lastAccess: time, fetchedBy };
    const user = UserState.fromAnswer(this.#arena, newcomer, answer, limits, this.#chunkRows);
    this.#putChunks(user);
    this.#truncatedEvents += user.truncated;
    this.#admit(user);
    this.#markDirty(user);
    this.#userCount++;
    return user;
  }

  isExpired(user: UserState, time: number): boolean {
    return time >= 0 && user.lastAccess >= 0 && time - user.lastAccess > this.#options.ttlMs;
  }

  /**
   * Applies one judged event. A frozen user is forked first: its image of the barrier is kept (P5).
   */
  append(user: UserState, event: AppendedEvent): void {
    if (this.isFrozen(user)) this.#takeFrozen(user);
    this.#truncatedEvents += user.append(event, this.#options.limits, this.#chunkRows);
    this.#account(user);
    if (this.#chunkRows.length > 0) this.#putChunks(user);
    if (user.dirtyIn === 0) this.#markDirty(user);
  }

  /** Expired: every row goes, with tombstones in the open delta (P37). */
  drop(user: UserState): void {
    if (this.isFrozen(user)) this.#takeFrozen(user);
    for (const row of user.tombstones()) this.#put(this.#open, user, row);
    this.#forget(user);
    this.#userCount--;
    this.#expired++;
  }

  /**
   * Purges marked users that expired before `time` (P37), unless `busy`: parked or in the outbox. A
   * mark of a user that was accessed since is only removed: the later head bears a later mark.
   */
  purge(marks: readonly ExpiryMark[], time: number, busy: (userId: string) => boolean): void {
    const cold: ExpiryMark[] = [];
    for (const mark of marks) {
      if (busy(mark.userId)) continue;
      const user = this.#users.get(mark.userId);
      if (user === undefined) cold.push(mark);
      else if (this.isExpired(user, time)) this.drop(user);
      if (user !== undefined) this.#pending.put(mark.userId, { key: mark.key, value: null });
    }
    const heads = this.#pending.getMany(
      cold.map((mark) => rowKey(userPrefix(mark.keyGroup, mark.userId), HEAD)),
      cold.map((mark) => mark.userId),
    );
    const purged = new Set<string>();
    cold.forEach((mark, i) => {
      const row = heads[i];
      this.#pending.put(mark.userId, { key: mark.key, value: null });
      // One of several marks of a user: counted again, the number of users went below zero, and no
      // manifest with such a figure is accepted.
      if (row === undefined || purged.has(mark.userId)) return;
      const head = decodeHead(row);
      if (head.lastAccess < 0 || time - head.lastAccess <= this.#options.ttlMs) return;
      const seqs = head.chunks.map((chunk) => chunk.seq);
      for (const gone of tombstonesOf(mark.keyGroup, mark.userId, seqs)) {
        this.#put(this.#open, { id: mark.userId, keyGroup: mark.keyGroup }, gone);
      }
      purged.add(mark.userId);
      this.#userCount--;
      this.#expired++;
    });
    this.#pending.flush();
  }

  /** Barrier: the dirty set becomes the frozen set, in one turn, by reference. */
  freeze(): void {
    invariant(this.#closing === null, 'a barrier came before the last frozen set was out (P7)');
    this.#closing = { delta: this.#open, frozen: this.#dirty, iterator: null };
    this.#dirty = new Set();
    this.#interval++;
    this.#open = this.#newDelta();
  }

  /**
   * Dirty at the last barrier and not written since: to be forked before a change (P5). Told by the
   * interval, not by a mark of its own: to set 100,000 of those took the barrier's turn 8 ms.
   */
  isFrozen(user: UserState): boolean {
    return user.dirtyIn !== 0 && user.dirtyIn !== this.#interval;
  }

  /** Memory of rows that no segment on disk holds yet; it grows while the disk is slow. */
  get deltaBytes(): number {
    return this.#open.bytes + (this.#closing?.delta.bytes ?? 0);
  }

  get frozenUsers(): number {
    return this.#closing?.frozen.size ?? 0;
  }

  /** Writes frozen users for about `budgetMs`; true when none is left. */
  flushSlice(budgetMs: number): boolean {
    const closing = this.#closing;
    if (closing === null) return true;
    const end = this.#env.monotonic() + budgetMs;
    let left = SLICE_USERS;
    // Iterated once: starting over would walk the set's deleted entries each time.
    closing.iterator ??= closing.frozen.values();
    for (;;) {
      const next = closing.iterator.next();
      if (next.done === true) break;
      this.#takeFrozen(next.value);
      if (--left > 0) continue;
      if (this.#env.monotonic() >= end) break;
      left = SLICE_USERS;
    }
    this.#pending.flush();
    return closing.frozen.size === 0;
  }

  /** The frozen set is out: hands over its delta, to be sealed beside event processing. */
  takeClosedDelta(): DeltaLog {
    const closing = this.#closing;
    invariant(closing !== null && closing.frozen.size === 0, 'the frozen set is not out yet');
    this.#closing = null;
    return closing.delta;
  }

  /**
   * A micro-batch is over: evicts until the cache is within its budget, and writes once there is
   * enough for a batch of RocksDB's.
   */
  settle(): void {
    this.#clock.move();
    this.#bodyClock.move();
    const budget = Math.max(0, this.#options.cacheBytes - this.#backend.heldBytes());
    if (this.#cacheBytes <= budget) {
      this.#pending.settle();
      return;
    }
    while (this.#cacheBytes > budget && this.#users.size > 1) {
      const hasBodies = this.#bodyBytes > budget * BODY_SHARE;
      const shrunk = hasBodies ? this.#bodyClock.shrunk() : null;
      if (shrunk === null) this.#evictOne(this.#clock.leastUsed());
      else this.#account(shrunk);
    }
    this.#pending.flush();
  }

  /** Restored rows bypass cache and deltas: they are in the checkpoint already. */
  restored(users: number): void {
    this.#userCount += users;
  }

  #evictOne(user: UserState): void {
    // P6: the backend gets one image, the newest; the barrier's goes to its own delta before.
    if (this.isFrozen(user)) this.#takeFrozen(user);
    if (user.dirtyIn !== 0) this.#takeRows(user, this.#open, false);
    else this.unwritten.write(user);
    this.#forget(user);
  }

  #takeFrozen(user: UserState): void {
    const closing = this.#closing;
    invariant(closing !== null, 'a frozen user without a closing interval');
    closing.frozen.delete(user);
    this.#takeRows(user, closing.delta, true);
  }

  /** `stays`: in memory, from where its head is read until it goes. */
  #takeRows(user: UserState, delta: DeltaLog, stays: boolean): void {
    for (const row of user.takeRows()) {
      if (stays && isHeadKey(row.key)) delta.add(user.keyGroup, row);
      else this.#put(delta, user, row);
    }
    if (stays) this.unwritten.add(user);
    this.userBytes.observe(user.storedBytes);
    user.dirtyIn = 0;
    this.#account(user);
    const grain = this.expiry.grainOf(user.lastAccess);
    if (grain === user.markedGrain) return;
    user.markedGrain = grain;
    const mark = this.expiry.markRow(user);
    if (mark !== null) this.#pending.put(user.id, mark);
  }

  /** A chunk is written when it closes: an interval's events do not wait for its barrier. */
  #putChunks(user: UserPlace): void {
    for (const row of this.#chunkRows) this.#put(this.#open, user, row);
    this.#chunkRows.length = 0;
  }

  #put(delta: DeltaLog, { id, keyGroup }: UserPlace, row: UserRow): void {
    this.#pending.put(id, row);
    delta.add(keyGroup, row);
  }

  #markDirty(user: UserState): void {
    user.dirtyIn = this.#interval;
    this.#dirty.add(user);
  }

  #admit(user: UserState): void {
    this.#users.set(user.id, user);
    this.#account(user);
  }

  #forget(user: UserState): void {
    this.#users.delete(user.id);
    this.#dirty.delete(user);
    this.unwritten.delete(user);
    this.#cacheBytes -= user.accountedBytes;
    this.#bodyBytes -= user.accountedBody;
    user.release();
  }

  /** Judging may have parsed its profile or brought its history, appending made it grow. */
  #account(user: UserState): void {
    const { bytes, bodyBytes } = user;
    this.#cacheBytes += bytes - user.accountedBytes;
    this.#bodyBytes += bodyBytes - user.accountedBody;
    user.accountedBytes = bytes;
    user.accountedBody = bodyBytes;
  }

  #newDelta(): DeltaLog {
    const { spoolPath, ...rest } = this.#options.delta;
    const number = this.#interval;
    return new DeltaLog({
      ...rest,
      spoolPath: spoolPath === null ? null : `${spoolPath}-${number}`,
    });
  }
}
