/**
 * The filter of one slot, and what it will read: the rows that the verdicts and bodies of a
 * micro-batch need come in one multi-get, before its records are handled.
 */
import type { CompiledFilter, Verdict } from '../filter/filter.ts';
import { fieldSetOf } from '../state/profile-fields.ts';
import type { UserState } from '../state/user-state.ts';
import type { UserStateManager } from '../state/user-state-manager.ts';
import type { AcceptedRecord } from './accepted-record.ts';
import { ProbeScope, UserScope } from './filter-scopes.ts';

export class Judge {
  readonly #manager: UserStateManager;
  readonly #scope: UserScope;
  readonly #probe = new ProbeScope();
  #filter: CompiledFilter;

  constructor(manager: UserStateManager, filter: CompiledFilter) {
    this.#manager = manager;
    this.#scope = new UserScope(manager.stored);
    this.#filter = filter;
    this.setFilter(filter);
  }

  get filter(): CompiledFilter {
    return this.#filter;
  }

  setFilter(filter: CompiledFilter): void {
    this.#filter = filter;
    const { userFields } = filter;
    const fields = userFields === null ? null : fieldSetOf(userFields);
    this.#scope.fields = fields;
    this.#probe.fields = fields;
  }

  /**
   * A new user's profile is at hand: what scripts ask of it is taken out now. Else the first event
   * that asks for it, most often one of a later interval, reads a row for it.
   */
  prepare(user: UserState): void {
    const { fields } = this.#scope;
    if (fields !== null && fields.names.length > 0) user.prepare(fields);
  }

  /** What the filter says of an event before it joins the user's history. */
  verdict(user: UserState, record: AcceptedRecord): Verdict {
    const ahead = record.verdictOf === user ? record.verdict : null;
    return ahead ?? this.#evaluate(user, record);
  }

  /** Reads what will be asked for, as far as can be told before. */
  readAhead(records: readonly AcceptedRecord[]): void {
    const profiles = new Set<UserState>();
    const histories = new Set<UserState>();
    for (const record of records) {
      const user = record.user ?? this.#manager.cached(record.userId);
      if (user !== undefined) this.#noteAsked(user, record, profiles, histories);
    }
    if (profiles.size + histories.size > 0) this.#manager.stored.readAhead(profiles, histories);
  }

  /**
   * Notes what the script, and the body of a match, will read of the user. A verdict for which only
   * the event and the profile's fields were asked stands: neither changes while the user lives. One
   * that saw how long the history is, is only a hint: an earlier record of the batch may change it.
   */
  #noteAsked(
    user: UserState,
    record: AcceptedRecord,
    profiles: Set<UserState>,
    histories: Set<UserState>,
  ): void {
    this.#probe.reset(record.parsed, user);
    const verdict = this.#filter.evaluate(this.#probe);
    const { askedTexts, askedHistory, askedCount } = this.#probe;
    const isWhole = !askedTexts && !askedHistory;
    if (isWhole && !askedCount) {
      record.verdict = verdict;
      record.verdictOf = user;
    }
    const { match } = verdict;
    if ((askedTexts || match) && !user.hasTexts) profiles.add(user);
    if (askedHistory || (isWhole && match)) histories.add(user);
  }

  #evaluate(user: UserState, { parsed }: AcceptedRecord): Verdict {
    this.#scope.event = parsed;
    this.#scope.state = user;
    return this.#filter.evaluate(this.#scope);
  }
}
