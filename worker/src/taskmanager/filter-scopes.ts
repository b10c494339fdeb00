/** What a script sees of an event and its user. */
import type { FilterScope } from '../filter/filter.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import type { RowReader, UserState } from '../state/user-state.ts';

/** What the script sees; one object reused, its properties read only when the script names them. */
export class UserScope implements FilterScope {
  event: JsonObject = {};
  state: UserState | null = null;
  /** The profile's fields that the script names; null: all. */
  fields: readonly string[] | null = null;
  readonly #read: RowReader;

  constructor(read: RowReader) {
    this.#read = read;
  }

  get user(): JsonValue {
    const texts = this.state!.texts(this.#read);
    return this.fields === null ? texts.profile : texts.fields(this.fields);
  }

  get visit(): JsonValue {
    return this.state!.visit(this.#read);
  }

  get history(): readonly JsonValue[] {
    return this.state!.history(this.#read);
  }
}

/** Tells whether the script looks beyond the event; what it then makes of nothing is not used. */
export class ProbeScope implements FilterScope {
  event: JsonObject = {};
  asked = false;

  get user(): JsonValue {
    this.asked = true;
    return null;
  }

  get visit(): JsonValue {
    return this.user;
  }

  get history(): readonly JsonValue[] {
    return [];
  }
}
