/** What a script sees of an event and its user. */
import type { FilterScope } from '../filter/filter.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import type { FieldSet } from '../state/profile-fields.ts';
import type { RowReader, UserState } from '../state/user-state.ts';

/** What the script sees; one object reused, its properties read only when the script names them. */
export class UserScope implements FilterScope {
  event: JsonObject = {};
  state: UserState | null = null;
  /** The profile's fields that the script names; null: all. */
  fields: FieldSet | null = null;
  /** The script looked at what the user's events change; whoever wants to know resets it. */
  askedMoving = false;
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
    this.askedMoving = true;
    return this.state!.visit(this.#read);
  }

  get history(): readonly JsonValue[] {
    this.askedMoving = true;
    return this.state!.history(this.#read);
  }
}

/** Tells where the script looks beyond the event; what it then makes of nothing is not used. */
export class ProbeScope implements FilterScope {
  event: JsonObject = {};
  askedUser = false;
  askedVisit = false;
  askedHistory = false;

  reset(event: JsonObject): void {
    this.event = event;
    this.askedUser = false;
    this.askedVisit = false;
    this.askedHistory = false;
  }

  get user(): JsonValue {
    this.askedUser = true;
    return null;
  }

  get visit(): JsonValue {
    this.askedVisit = true;
    return null;
  }

  get history(): readonly JsonValue[] {
    this.askedHistory = true;
    return [];
  }
}
