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
    const { userFields, historyPaths } = filter;
    const fields = userFields === null ? null : fieldSetOf(userFields);
    this.#scope.fields = fields;
    this.#probe.fields = fields;
    if (this.#scope.historyFields !== null) this.#scope.historyFields.retired = true;
    const historyFields = historyPaths === null ? null : { paths: historyPaths, retired: false };
    this.#scope.historyFields = historyFields;
    this.#probe.historyFields = historyFields;
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
    const { verdict, verdictOf, verdictAt } = record;
    const stands = verdictOf === user && (verdictAt === null || verdictAt === user.nextSeq);
    return stands && verdict !== null ? verdict : this.#evaluate(user, record);
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
   * Notes what the script, and the body of a match, will read of the user. A verdict that was found
   * in memory stands while what was asked does not change: event and profile's fields never, the
   * history until an earlier record of the batch joins it.
   */
  #noteAsked(
    user: UserState,
    record: AcceptedRecord,
    profiles: Set<UserState>,
    histories: Set<UserState>,
  ): void {
    this.#probe.reset(record.parsed, user);
    const verdict = this.#filter.evaluate(this.#probe);
    const { askedTexts, askedHistory, answeredHistory } = this.#probe;
    const isWhole = !askedTexts && !askedHistory;
    if (isWhole) {
      record.verdict = verdict;
      record.verdictOf = user;
      record.verdictAt = answeredHistory ? user.nextSeq : null;
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
