/**
 * What must come out: each user's events applied once each, in order, by the plainest code there
 * is. Knows the model's records and the documented rules, and nothing of state/, taskmanager/ or
 * checkpoint/.
 */

import { placeKey } from '../rehearsal/honest-repeats.ts';
import { type ModelSplit, userName } from './model-log.ts';
import { isRefused, profileOf } from './model-services.ts';

export interface FoldUser {
  profile: string;
  visit: string;
  history: readonly string[];
  lastAccess: number;
}

export interface FoldEvent {
  split: number;
  offset: number;
  user: string;
  /** Bodies and verdicts: enriched as the user was before the event. */
  body: string;
  verdicts: Readonly<Record<string, boolean>>;
  /** The user was unknown or expired (P36). */
  fresh: boolean;
  after: FoldUser;
}

export interface FoldLimits {
  ttlMs: number;
  historyMaxEvents: number;
  profileMayFail: boolean;
}

interface EventFields {
  triggerable: boolean;
  event_name: string;
  timestamp?: string;
}

type PlainVerdict = (event: EventFields, profile: { country?: string }, past: number) => boolean;

/** The scripts of the run, as plain functions; `past`: events in the history before this one. */
const VERDICTS: Readonly<Record<string, PlainVerdict>> = {
  v1: (event) => event.triggerable,
  // The history is asked only once event and profile have been: what is read ahead for a batch
  // must not take an earlier verdict of it for this one's.
  v2: (event, profile, past) => event.triggerable && profile.country === 'US' && past % 3 !== 2,
  v3: (event, _profile, past) => !event.triggerable && past % 5 !== 4,
};

export const SCRIPT_TEXTS: Readonly<Record<string, string>> = {
  v1: 'event.triggerable',
  v2: 'event.triggerable && user.country == "US" && count(history) % 3 != 2',
  // Its length is told without it; here each event is read.
  v3: '!event.triggerable && count(map(history, identity)) % 5 != 4',
};

export class Fold {
  /** Events of users that have state, in each user's order. */
  readonly byUser = new Map<string, FoldEvent[]>();
  readonly events = new Map<string, FoldEvent>();
  /** Records that must go to the dead letter: poison, and users the API refuses. */
  readonly refused = new Set<string>();

  constructor(splits: readonly ModelSplit[], limits: FoldLimits) {
    const clocks = splits.map(() => -1);
    const users = new Map<string, FoldUser>();
    const inOrder = splits
      .flatMap(({ records }) => records)
      .sort((a, b) => a.appearsAt - b.appearsAt || a.split - b.split || a.offset - b.offset);
    for (const record of inOrder) {
      const { split, offset, timestamp } = record;
      clocks[split] = Math.max(clocks[split]!, timestamp);
      if (record.user === null || isRefused(userName(record.user), limits.profileMayFail)) {
        this.refused.add(placeKey(split, offset));
        continue;
      }
      const user = userName(record.user);
      const raw = record.value!.toString();
      const before = known(users.get(user), clocks[split]!, limits.ttlMs);
      const times = { timestamp, time: clocks[split]! };
      const applied = apply(before ?? fetched(user), raw, times, limits);
      users.set(user, applied.after);
      const event = { split, offset, user, fresh: before === null, ...applied };
      this.events.set(placeKey(split, offset), event);
      const list = this.byUser.get(user) ?? [];
      list.push(event);
      this.byUser.set(user, list);
    }
  }

  /**
   * The users after the events that `applied` names. Throws if those are not the first of a user.
   */
  stateAt(applied: (event: FoldEvent) => boolean): Map<string, FoldUser> {
    const state = new Map<string, FoldUser>();
    for (const [user, events] of this.byUser) {
      const count = events.filter(applied).length;
      if (!events.slice(0, count).every(applied)) {
        throw new Error(`I4: events of ${user} were applied out of order`);
      }
      if (count > 0) state.set(user, events[count - 1]!.after);
    }
    return state;
  }
}

function known(user: FoldUser | undefined, time: number, ttlMs: number): FoldUser | null {
  if (user === undefined) return null;
  const expired = time >= 0 && user.lastAccess >= 0 && time - user.lastAccess > ttlMs;
  return expired ? null : user;
}

function fetched(user: string): FoldUser {
  return { ...profileOf(user), lastAccess: -1 };
}

function apply(
  before: FoldUser,
  raw: string,
  { timestamp, time }: { timestamp: number; time: number },
  { historyMaxEvents }: FoldLimits,
): Pick<FoldEvent, 'body' | 'verdicts' | 'after'> {
  const event = JSON.parse(raw) as EventFields;
  const profile = JSON.parse(before.profile) as { country?: string };
  const { visit, history } = before;
  const verdicts = Object.fromEntries(
    Object.entries(VERDICTS).map(([version, verdict]) => [
      version,
      verdict(event, profile, history.length),
    ]),
  );
  const counted = JSON.parse(visit) as Record<string, unknown>;
  counted['event_count'] = Number(counted['event_count'] ?? 0) + 1;
  counted['last_event_name'] = event.event_name;
  counted['last_event_at'] = event.timestamp ?? (timestamp < 0 ? null : timestamp);
  return {
    body: `{"event":${raw},"user":${before.profile},"visit":${visit},"history":[${history}]}`,
    verdicts,
    after: {
      profile: before.profile,
      visit: JSON.stringify(counted),
      history: [...history, raw].slice(-historyMaxEvents),
      lastAccess: Math.max(before.lastAccess, time),
    },
  };
}
