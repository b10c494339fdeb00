/**
 * The reference: what the state and the deliveries must be, as a plain fold over one user's events
 * in partition order. Written from the rules alone (visit, history, filter, body); imports nothing
 * from worker/, and independence.test.ts keeps it so.
 */
import type { ServedUser } from './history.ts';

/**
 * The filter of every checker run, in the pipeline's language; `matches` below is the same in ours.
 */
export const FILTER_SCRIPT = `if (event.triggerable && user.country == "US" &&
    visit.event_count % 3 != 1 && count(history) > 1) { return true; }
return false;
`;

export interface FoldEvent {
  raw: string;
  timestamp: number;
}

type Json = { [key: string]: unknown };

/** What a script says of an event, given the user's profile, visit and length of history. */
export type Matcher = (event: Json, user: unknown, visit: Json, historyLength: number) => boolean;

const matches: Matcher = (event, user, visit, historyLength) => {
  const country = typeof user === 'object' && user !== null ? (user as Json)['country'] : undefined;
  const count = visit['event_count'];
  return (
    event['triggerable'] === true &&
    country === 'US' &&
    typeof count === 'number' &&
    Number.isInteger(count) &&
    count % 3 !== 1 &&
    historyLength > 1
  );
};

/** One user's state. Raw texts are kept as they came; only the visit is re-written by events. */
export class UserFold {
  readonly #profileText: string;
  readonly #profile: unknown;
  readonly #limit: number;
  #visitText: string;
  #visit: Json;
  #history: string[];

  constructor(start: ServedUser, historyLimit: number) {
    this.#profileText = start.profile;
    this.#profile = JSON.parse(start.profile);
    this.#visitText = start.visit;
    this.#visit = JSON.parse(start.visit);
    this.#history = start.history.slice(-historyLimit);
    this.#limit = historyLimit;
  }

  /** Applies one event; the enriched body if the event triggers, else null. */
  apply(event: FoldEvent, isMatch: Matcher = matches): string | null {
    const parsed: Json = JSON.parse(event.raw);
    const body = isMatch(parsed, this.#profile, this.#visit, this.#history.length)
      ? `{"event":${event.raw},"user":${this.#profileText},"visit":${this.#visitText},` +
        `"history":[${this.#history.join(',')}]}`
      : null;
    const before = this.#visit['event_count'];
    const count = typeof before === 'number' && Number.isFinite(before) ? before : 0;
    this.#visit['event_count'] = count + 1;
    this.#visit['last_event_name'] = parsed['event_name'] ?? null;
    this.#visit['last_event_at'] = parsed['timestamp'] ?? event.timestamp;
    this.#visitText = JSON.stringify(this.#visit);
    this.#history.push(event.raw);
    if (this.#history.length > this.#limit) this.#history.shift();
    return body;
  }

  /** The user's line of a state dump, up to `last_access`, which the fold does not know. */
  line(userId: string): string {
    return (
      `{"user_id":${JSON.stringify(userId)},"profile":${this.#profileText},` +
      `"visit":${this.#visitText},"history":[${this.#history.join(',')}]`
    );
  }
}

/** A user the Profile API does not know (404): DESIGN section 4. */
export const UNKNOWN_USER: ServedUser = { profile: '{}', visit: '{}', history: [] };
