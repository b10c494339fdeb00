/**
 * Taps of one slot: people who look at the stream as it passes a stage. What is seen waits here
 * until it is fetched; what comes faster than a person reads, or than it is fetched, is counted as
 * skipped. A tap that nobody fetches from any more ends by itself. Nobody taps: one look at a field
 * per record.
 */
import { keyGroupOf } from '../exchange/key-groups.ts';
import type { TappedRecord, TapRequest, TapStage } from '../rpc/inspection.ts';
import type { Bound } from '../runtime/bound.ts';
import type { Env } from '../runtime/env.ts';

/** Taps of one slot at a time, a few more than a JobManager opens: one's end may not be heard. */
const MAX_SLOT_TAPS = 12;
/** Records one tap takes in a second; the rest is skipped. */
export const TAP_RECORDS_PER_SECOND = 50;
/** Records, and characters of their texts, that wait to be fetched. */
const MAX_WAITING_RECORDS = 100;
const MAX_WAITING_CHARS = 512 * 1024;
/** Without being fetched from. */
const LEASE_MS = 10_000;

interface Tap {
  readonly request: TapRequest;
  /** Of its user; -1: of all users. */
  readonly keyGroup: number;
  fetchedAt: number;
  /** Whole records it may take now, refilled by time. */
  allowance: number;
  refilledAt: number;
  waiting: TappedRecord[];
  waitingChars: number;
  skipped: number;
}

export class RecordTaps {
  readonly #env: Env;
  readonly #maxParallelism: number;
  readonly #taps = new Map<string, Tap>();
  /** By stage: whether anybody taps it. */
  readonly open: Record<TapStage, boolean> = {
    source: false,
    keyed: false,
    enriched: false,
    matched: false,
    fired: false,
    dropped: false,
  };

  constructor(env: Env, maxParallelism: number) {
    this.#env = env;
    this.#maxParallelism = maxParallelism;
  }

  /** Records that wait to be fetched. */
  get kept(): Bound {
    const waiting = [...this.#taps.values()].map((tap) => tap.waiting.length);
    const value = waiting.reduce((sum, count) => sum + count, 0);
    return { value, limit: MAX_SLOT_TAPS * MAX_WAITING_RECORDS };
  }

  /** Opens the tap, if need be; what it has taken since the last call. */
  fetch(request: TapRequest): { records: TappedRecord[]; skipped: number } {
    const now = this.#env.monotonic();
    let tap = this.#taps.get(request.id);
    if (tap === undefined) {
      this.#expire(now);
      if (this.#taps.size >= MAX_SLOT_TAPS) return { records: [], skipped: 0 };
      const allowance = TAP_RECORDS_PER_SECOND;
      const counts = { fetchedAt: now, allowance, refilledAt: now, waitingChars: 0, skipped: 0 };
      const { userId } = request;
      const keyGroup = userId === null ? -1 : keyGroupOf(userId, this.#maxParallelism);
      tap = { request, keyGroup, waiting: [], ...counts };
      this.#taps.set(request.id, tap);
      this.#note();
    }
    tap.fetchedAt = now;
    const { waiting: records, skipped } = tap;
    tap.waiting = [];
    tap.waitingChars = 0;
    tap.skipped = 0;
    return { records, skipped };
  }

  close(id: string): void {
    this.#taps.delete(id);
    this.#note();
  }

  /**
   * One record passes `stage`. `userId` null: it is not known before `make` has looked, which is
   * called only for records that a tap may want.
   */
  pass(stage: TapStage, keyGroup: number, userId: string | null, make: () => TappedRecord): void {
    const now = this.#env.monotonic();
    let made: TappedRecord | null = null;
    for (const tap of this.#taps.values()) {
      const { request } = tap;
      if (request.stage !== stage) continue;
      if (now - tap.fetchedAt > LEASE_MS) {
        this.close(request.id);
        continue;
      }
      if (request.userId !== null) {
        if (tap.keyGroup !== keyGroup) continue;
        if (userId === null) made ??= this.#made(make);
        if ((made?.userId ?? userId) !== request.userId) continue;
      }
      if (!allows(tap, now)) {
        tap.skipped++;
        continue;
      }
      made ??= this.#made(make);
      if (made === null) {
        tap.skipped++;
        continue;
      }
      const { event, user = '', visit = '' } = made;
      tap.allowance--;
      tap.waitingChars += event.length + user.length + visit.length;
      tap.waiting.push(made);
    }
  }

  /** null: it can't be shown. A task must not fail because somebody looks. */
  #made(make: () => TappedRecord): TappedRecord | null {
    try {
      return make();
    } catch {
      return null;
    }
  }

  #expire(now: number): void {
    for (const [id, { fetchedAt }] of this.#taps) {
      if (now - fetchedAt > LEASE_MS) this.#taps.delete(id);
    }
    this.#note();
  }

  #note(): void {
    for (const stage of Object.keys(this.open) as TapStage[]) this.open[stage] = false;
    for (const { request } of this.#taps.values()) this.open[request.stage] = true;
  }
}

function allows(tap: Tap, now: number): boolean {
  const earned = ((now - tap.refilledAt) * TAP_RECORDS_PER_SECOND) / 1000;
  tap.allowance = Math.min(TAP_RECORDS_PER_SECOND, tap.allowance + earned);
  tap.refilledAt = now;
  if (tap.waiting.length >= MAX_WAITING_RECORDS) return false;
  return tap.allowance >= 1 && tap.waitingChars < MAX_WAITING_CHARS;
}
