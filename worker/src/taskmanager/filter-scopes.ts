/** What a script sees of an event and its user. */
import type { FilterScope } from '../filter/filter.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import type { HistoryFieldSet } from '../state/history-columns.ts';
import type { FieldSet } from '../state/profile-fields.ts';
import type { RowReader, UserState } from '../state/user-state.ts';

/** What the script sees; one object reused, its properties read only when the script names them. */
export class UserScope implements FilterScope {
  event: JsonObject = {};
  state: UserState | null = null;
  /** The profile's fields that the script names; null: all. */
  fields: FieldSet | null = null;
  /** What of the history's events it names; null: all. */
  historyFields: HistoryFieldSet | null = null;
  readonly #read: RowReader;

  constructor(read: RowReader) {
    this.#read = read;
  }

  get user(): JsonValue {
    const user = this.state!;
    return this.fields === null
      ? user.texts(this.#read).profile
      : user.fields(this.fields, this.#read);
  }

  get visit(): JsonValue {
    return this.state!.visit(this.#read);
  }

  get history(): readonly JsonValue[] {
    return this.state!.history(this.#read, this.historyFields);
  }

  get historyCount(): number {
    return this.state!.historyCount;
  }
}

/**
 * Answers from memory alone and tells what of the user's rows the script asked for beside it; what
 * it then makes of nothing is not used.
 */
export class ProbeScope implements FilterScope {
  event: JsonObject = {};
  /** The profile's fields that the script names; null: all. */
  fields: FieldSet | null = null;
  /** What of the history's events it names; null: all. */
  historyFields: HistoryFieldSet | null = null;
  #state: UserState | null = null;
  /** Profile or visit. */
  askedTexts = false;
  askedHistory = false;
  /** Answered, with what the next event of the user changes. */
  answeredHistory = false;

  reset(event: JsonObject, state: UserState): void {
    this.event = event;
    this.#state = state;
    this.askedTexts = false;
    this.askedHistory = false;
    this.answeredHistory = false;
  }

  get user(): JsonValue {
    const known = this.fields === null ? null : this.#state!.knownFields(this.fields);
    if (known === null) this.askedTexts = true;
    return known;
  }

  get visit(): JsonValue {
    this.askedTexts = true;
    return null;
  }

  get history(): readonly JsonValue[] {
    const known = this.#state!.knownHistory(this.historyFields);
    if (known === null) this.askedHistory = true;
    else this.answeredHistory = true;
    return known ?? [];
  }

  get historyCount(): number {
    this.answeredHistory = true;
    return this.#state!.historyCount;
  }
}
