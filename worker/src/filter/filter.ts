/** The contract of the EventFilter stage's script. The engines are aviator/ and filtrex.ts. */
import type { FilterLanguage } from '../plan/job-plan.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';

/**
 * What a script sees. Each property may be a getter that does work (reads chunks of history from
 * RocksDB), so an engine reads a property only when the script names it, and at most once per
 * evaluation where it can.
 */
export interface FilterScope {
  readonly event: JsonObject;
  readonly user: JsonValue;
  readonly visit: JsonValue;
  /** The user's events before this one, oldest first. */
  readonly history: readonly JsonValue[];
  /** Of how many events it is: known without a look at them. */
  readonly historyCount: number;
}

/** A scope of values that are all in memory. */
export function plainScope(parts: Omit<FilterScope, 'historyCount'>): FilterScope {
  return { ...parts, historyCount: parts.history.length };
}

export type ScopeName = 'event' | 'user' | 'visit' | 'history';

/** Anything but a clean `true` is no match. `error`: short, stable, for counters and logs. */
export type Verdict = { match: true } | { match: false; error: string | null };

export const MATCH: Verdict = Object.freeze({ match: true });
export const NO_MATCH: Verdict = Object.freeze({ match: false, error: null });

export interface CompiledFilter {
  readonly language: FilterLanguage;
  readonly script: string;
  /** sha256 (hex, 12 digits) of language and text: the script's version in checkpoints (P34). */
  readonly version: string;
  /**
   * Names of the scope that stand in the script, `history` also where only its length is asked:
   * who explains a verdict loads what they name.
   */
  readonly reads: ReadonlySet<ScopeName>;
  /**
   * Fields of `user` that the script can see, sorted: a profile with only these gives the same
   * verdict. null: it may look at the whole profile.
   */
  readonly userFields: readonly string[] | null;
  /**
   * Paths within the history's events that the script can see: events with only these give the same
   * verdict, where none of them leads to an object or a list. null: it may look at whole events.
   */
  readonly historyPaths: readonly (readonly string[])[] | null;
  /** Never throws, never has effects, reads no clock and no random source. */
  evaluate(scope: FilterScope): Verdict;
}
