/**
 * The lease of a leader, as a standby and the leader itself judge it. Pure; `now` is the monotonic
 * clock of whoever judges, ms. Nobody compares clocks with anybody: a standby counts from its own
 * first sight of the newest sign of life, which is later than its writing, and the leader from
 * before its last one. So with renewDeadline < lease a leader has ended before it is succeeded, as
 * long as both clocks run at about one speed; where they don't, the log decides (P39).
 */
import type { JobEnd } from '../checkpoint/snapshot.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import type { LeaderAddress, Turn } from './leader-election.ts';

/** The leader's sign of life, an object of the store that is replaced at each renewal. */
export interface SignOfLife extends LeaderAddress {
  leaderEpoch: number;
  /** Of renewals; what differs is alive. */
  counter: number;
  /** Given up in order. */
  released: boolean;
  end: JobEnd | null;
}

/** What a standby has seen of the newest epoch. */
export interface Watched {
  leaderEpoch: number;
  /** null: its leader has not shown itself. */
  content: string | null;
  /** When this content was first seen. */
  since: number;
  /** A leader was seen alive, or come. */
  followed: boolean;
}

/** One look: what stood there, asked at `askedAt` and answered at `answeredAt`. */
export interface Look {
  leaderEpoch: number;
  content: string | null;
  askedAt: number;
  answeredAt: number;
}

export function watch(
  before: Watched | null,
  look: Look,
  leaseMs: number,
): { watched: Watched; turn: Turn | null } {
  const { leaderEpoch, content, askedAt, answeredAt } = look;
  const same = before?.leaderEpoch === leaderEpoch && before.content === content;
  const watched: Watched = same
    ? before
    : { leaderEpoch, content, since: answeredAt, followed: before !== null };
  return { watched, turn: judge(watched, askedAt, leaseMs) };
}

function judge(watched: Watched, now: number, leaseMs: number): Turn | null {
  const { leaderEpoch, content, since, followed } = watched;
  const claim: Turn = { kind: 'claim', after: leaderEpoch, followed };
  // An empty log: nobody has ever led. Who creates its first records leads.
  if (leaderEpoch === 0) return claim;
  const sign = readSign(content);
  if (sign !== null && sign.end !== null && followed) return { kind: 'ended', end: sign.end };
  if (sign !== null && (sign.released || sign.end !== null)) return claim;
  return now - since >= leaseMs ? claim : null;
}

/** The leader's own judgement: it may no longer act. */
export function overdue(renewedAt: number, now: number, renewDeadlineMs: number): boolean {
  return now - renewedAt > renewDeadlineMs;
}

/** null for what is no sign of life: judged by whether it changes, like any other. */
export function readSign(content: string | null): SignOfLife | null {
  if (content === null) return null;
  let value: JsonValue;
  try {
    value = JSON.parse(content) as JsonValue;
  } catch {
    return null;
  }
  if (!isJsonObject(value)) return null;
  const { leaderEpoch, counter, rpc, rest, released, end } = value;
  if (typeof leaderEpoch !== 'number' || typeof counter !== 'number') return null;
  if (typeof rpc !== 'string' || typeof rest !== 'string') return null;
  return { leaderEpoch, counter, rpc, rest, released: released === true, end: readEnd(end) };
}

function readEnd(value: JsonValue | undefined): JobEnd | null {
  if (value === undefined || !isJsonObject(value)) return null;
  const { kind, code, message } = value;
  if (kind === 'finished' || kind === 'canceled') return { kind };
  if (kind !== 'failed') return null;
  return { kind, code: String(code), message: String(message) };
}
