/**
 * What a run must have produced, by the fold: bodies of matching events, lines of the state dump.
 */
import { createHash } from 'node:crypto';
import { type Matcher, UNKNOWN_USER, UserFold } from './fold.ts';
import type { Acked, History } from './history.ts';

export interface Expected {
  /** By `user/seq`, matching events only: sha256 of each allowed body. */
  bodies: Map<string, Set<string>>;
  /** By user: each allowed dump line, up to last_access. */
  lines: Map<string, Set<string>>;
}

/**
 * A user whose API answers varied has one fold per answer served: the pipeline keeps whichever it
 * got last before its checkpoint. Events are folded in partition order, which is all that I4
 * promises. `matcherOf`: where the script was not FILTER_SCRIPT, or changed.
 */
export function expect(history: History, matcherOf?: (event: Acked) => Matcher): Expected {
  const events = history.acked.filter((event) => event.seq > 0);
  const bodies = new Map<string, Set<string>>();
  const lines = new Map<string, Set<string>>();
  for (const [user, own] of Map.groupBy(events, (event) => event.user)) {
    const inOrder = own.toSorted((a, b) => a.partition - b.partition || a.offset - b.offset);
    const served = history.served[user] ?? [UNKNOWN_USER];
    const allowed = new Set<string>();
    for (const start of served) {
      const fold = new UserFold(start, history.meta.historyLimit);
      for (const event of inOrder) addBody(bodies, event, fold.apply(event, matcherOf?.(event)));
      allowed.add(fold.line(user));
    }
    lines.set(user, allowed);
  }
  return { bodies, lines };
}

function addBody(bodies: Map<string, Set<string>>, event: Acked, body: string | null): void {
  if (body === null) return;
  const key = `${event.user}/${event.seq}`;
  const shas = bodies.get(key) ?? new Set<string>();
  shas.add(createHash('sha256').update(body).digest('hex'));
  bodies.set(key, shas);
}
