/**
 * Takes stored JSON apart, field by field; a fault names the field's path. For manifest.ts and
 * log-record.ts.
 */
import { isJsonObject, type JsonValue } from '../runtime/json.ts';

/** Thrown here only; the callers turn it into a TriggerJobError that names the object. */
export class FieldFault extends Error {}

/**
 * One value of a document, at its path. Every reader throws FieldFault if the value is not of its
 * kind.
 */
export class Field {
  // Its path is put together only for a fault: a manifest of 200 subtasks has 100,000 fields.
  readonly #parent: Field | null;
  readonly #key: string | number;
  readonly #value: JsonValue | undefined;

  private constructor(parent: Field | null, key: string | number, value: JsonValue | undefined) {
    this.#parent = parent;
    this.#key = key;
    this.#value = value;
  }

  static root(document: JsonValue): Field {
    return new Field(null, '', document);
  }

  get isNull(): boolean {
    return this.#value === null;
  }

  get isAbsent(): boolean {
    return this.#value === undefined;
  }

  get(name: string): Field {
    if (this.#value === undefined || !isJsonObject(this.#value)) this.fail('an object');
    const value = Object.hasOwn(this.#value, name) ? this.#value[name] : undefined;
    return new Field(this, name, value);
  }

  items(): Field[] {
    if (!Array.isArray(this.#value)) this.fail('a list');
    return this.#value.map((item, i) => new Field(this, i, item));
  }

  integer(min: number, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.#value;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) {
      return value;
    }
    this.fail(`an integer of ${min} to ${max}`);
  }

  /** Milliseconds and the like: any finite number >= 0. */
  amount(): number {
    const value = this.#value;
    if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
    this.fail('a number >= 0');
  }

  text(pattern = /^/): string {
    if (typeof this.#value === 'string' && pattern.test(this.#value)) return this.#value;
    this.fail(pattern.source === '^' ? 'a string' : `a string like ${pattern.source}`);
  }

  flag(): boolean {
    if (typeof this.#value === 'boolean') return this.#value;
    this.fail('true or false');
  }

  oneOf<T extends string>(names: readonly T[]): T {
    const found = names.find((name) => name === this.#value);
    if (found !== undefined) return found;
    this.fail(`one of ${names.join(', ')}`);
  }

  fail(wanted: string): never {
    const found = this.#value === undefined ? 'absent' : JSON.stringify(this.#value).slice(0, 60);
    throw new FieldFault(`${this.#path || 'the document'} must be ${wanted}, is ${found}`);
  }

  get #path(): string {
    if (this.#parent === null) return '';
    const above = this.#parent.#path;
    if (typeof this.#key === 'number') return `${above}[${this.#key}]`;
    return above === '' ? this.#key : `${above}.${this.#key}`;
  }
}

/** An ObjectRef, checked in place. */
export function checkObjectRef(field: Field): void {
  field.get('name').text(/^[^/]+(\/[^/]+)*$/);
  field.get('bytes').integer(0);
  field.get('sha256').text(/^[0-9a-f]{64}$/);
}
