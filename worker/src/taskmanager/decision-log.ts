/**
 * The filter's last decisions in one slot: the newest of all users, the newest matches (of a busy
 * slot the first are over in a second), and more of those users that somebody has asked about.
 * Columns, written in place: an object per event would be one for the collector to mark.
 */
import type { Verdict } from '../filter/filter.ts';
import type { Decision, VerdictWord } from '../rpc/inspection.ts';
import type { Bound } from '../runtime/bound.ts';

/** Decisions in each of the two rings: some 400 KiB each with ids of ordinary length. */
const RING_DECISIONS = 4_096;
/** Longer ids are in the rings of nobody; once asked about, they are followed like any other. */
const MAX_RING_ID_CHARS = 128;
/** Users that were asked about last, and how many decisions are kept of each, for how long. */
const MAX_FOLLOWED = 64;
const FOLLOWED_DECISIONS = 50;
const FOLLOWED_MS = 10 * 60_000;

const WORDS: readonly VerdictWord[] = ['no-match', 'match', 'error'];

interface DecisionPlace {
  split: { partition: number };
  offset: number;
}

interface Followed {
  askedAt: number;
  /** Oldest first. */
  readonly decisions: DecisionRing;
}

export class DecisionLog {
  readonly #topic: string;
  readonly #recent = new DecisionRing(RING_DECISIONS);
  readonly #matches = new DecisionRing(RING_DECISIONS);
  /** In the order in which they were asked about. */
  readonly #followed = new Map<string, Followed>();
  /** Wall time of the micro-batch under way, ms. */
  now = 0;

  constructor(topic: string) {
    this.#topic = topic;
  }

  note(userId: string, place: DecisionPlace, verdict: Verdict, version: string): void {
    const { now } = this;
    if (this.#followed.size > 0) {
      this.#followed.get(userId)?.decisions.add(now, userId, place, verdict, version);
    }
    if (userId.length > MAX_RING_ID_CHARS) return;
    this.#recent.add(now, userId, place, verdict, version);
    if (verdict.match) this.#matches.add(now, userId, place, verdict, version);
  }

  /** Users that are followed because somebody asked about them. */
  get followed(): Bound {
    return { value: this.#followed.size, limit: MAX_FOLLOWED };
  }

  /** The user's decisions, newest first; from now on it is followed. `now`: wall time, ms. */
  of(userId: string, now: number): Decision[] {
    const known = [this.#recent, this.#matches, this.#follow(userId, now).decisions];
    const found = new Map<string, Decision>();
    for (const ring of known) {
      for (const decision of ring.of(userId, this.#topic)) {
        const { partition, offset, at } = decision;
        found.set(`${partition}:${offset}:${at}`, decision);
      }
    }
    const newest = [...found.values()].sort((a, b) => b.at - a.at || b.offset - a.offset);
    return newest.slice(0, FOLLOWED_DECISIONS);
  }

  #follow(userId: string, now: number): Followed {
    for (const [id, { askedAt }] of this.#followed) {
      if (now - askedAt > FOLLOWED_MS) this.#followed.delete(id);
    }
    const known = this.#followed.get(userId);
    this.#followed.delete(userId);
    const followed = known ?? { askedAt: now, decisions: new DecisionRing(FOLLOWED_DECISIONS) };
    followed.askedAt = now;
    const [oldest] = this.#followed.keys();
    if (this.#followed.size >= MAX_FOLLOWED) this.#followed.delete(oldest!);
    this.#followed.set(userId, followed);
    return followed;
  }
}

class DecisionRing {
  readonly #size: number;
  readonly #at: Float64Array;
  readonly #offsets: Float64Array;
  readonly #partitions: Int32Array;
  readonly #words: Uint8Array;
  readonly #users: string[] = [];
  readonly #errors: (string | null)[] = [];
  readonly #versions: string[] = [];
  #next = 0;

  constructor(size: number) {
    this.#size = size;
    this.#at = new Float64Array(size);
    this.#offsets = new Float64Array(size);
    this.#partitions = new Int32Array(size);
    this.#words = new Uint8Array(size);
  }

  add(
    at: number,
    userId: string,
    { split, offset }: DecisionPlace,
    verdict: Verdict,
    version: string,
  ): void {
    const i = this.#next;
    this.#next = i + 1 === this.#size ? 0 : i + 1;
    this.#at[i] = at;
    this.#offsets[i] = offset;
    this.#partitions[i] = split.partition;
    this.#users[i] = userId;
    this.#versions[i] = version;
    const error = verdict.match ? null : verdict.error;
    this.#errors[i] = error;
    this.#words[i] = verdict.match ? 1 : error === null ? 0 : 2;
  }

  of(userId: string, topic: string): Decision[] {
    const found: Decision[] = [];
    this.#users.forEach((user, i) => {
      if (user !== userId) return;
      found.push({
        at: this.#at[i]!,
        topic,
        partition: this.#partitions[i]!,
        offset: this.#offsets[i]!,
        verdict: WORDS[this.#words[i]!]!,
        error: this.#errors[i]!,
        scriptVersion: this.#versions[i]!,
      });
    });
    return found;
  }
}
