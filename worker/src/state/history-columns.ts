/**
 * Of a user's history what a script names, event by event, as values beside each other: a script
 * that looks through the history otherwise has all of it parsed for each event, 13 KB (bench,
 * setting i). An event costs 8 bytes per field; numbers and texts that come again cost no more.
 * Made from the rows when a script first asks, then kept up; no row holds them.
 */
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { SharedValues } from './shared-values.ts';

/** Of a longer text it is not worth a copy beside the rows. */
const MAX_TEXT_CHARS = 256;
const VALUE_BYTES = 8;
/** Of a text: object and characters. */
const TEXT_BYTES = 24;
const OBJECT_BYTES = 200;

type Path = readonly string[];

/** What one script names of an event. */
export interface HistoryFieldSet {
  readonly paths: readonly Path[];
  /** No script asks for it any more: columns of it go as they are met. */
  retired: boolean;
}

/** Event names, pages. */
export const sharedTexts = new SharedValues<string>();

/** A value that is the whole of what a script sees at a path: no more can be asked of it. */
function isLeaf(value: JsonValue): boolean {
  if (typeof value === 'string') return value.length <= MAX_TEXT_CHARS;
  return typeof value !== 'object' || value === null;
}

/** As a script reads a property (filter/aviator/values.ts): own fields of objects alone. */
function leafAt(event: JsonObject, path: Path): JsonValue {
  let value: JsonValue = event;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    value = Object.hasOwn(value, name) ? (value[name] ?? null) : null;
  }
  return value;
}

export class HistoryColumns {
  readonly set: HistoryFieldSet;
  /** One list per path, of as many values as there are events; null: absent, or null. */
  readonly #columns: JsonValue[][];
  #length = 0;
  #textBytes = 0;
  /** An event is none, or has at a path what does not fit: of no use from here on. */
  #unfit = false;

  constructor(set: HistoryFieldSet, events: readonly JsonValue[]) {
    this.set = set;
    this.#columns = set.paths.map(() => []);
    for (const event of events) this.push(event);
  }

  /** No script gets the same from here as from the events. */
  get unfit(): boolean {
    return this.#unfit;
  }

  /** Estimate of the heap they take. */
  get bytes(): number {
    return OBJECT_BYTES + this.#length * this.#columns.length * VALUE_BYTES + this.#textBytes;
  }

  push(event: JsonValue): void {
    if (this.#unfit) return;
    if (typeof event !== 'object' || event === null || Array.isArray(event)) {
      this.#giveUp();
      return;
    }
    const { paths } = this.set;
    for (let i = 0; i < paths.length; i++) {
      const value = leafAt(event, paths[i]!);
      if (!isLeaf(value)) {
        this.#giveUp();
        return;
      }
      const column = this.#columns[i]!;
      column.push(typeof value === 'string' ? this.#text(value, column) : value);
    }
    this.#length++;
  }

  /** Of the history so many are left: the oldest go. */
  keep(length: number): void {
    const surplus = this.#length - length;
    if (surplus <= 0) return;
    this.#textBytes -= Math.round((this.#textBytes * surplus) / this.#length);
    for (const column of this.#columns) {
      if (surplus === 1) column.shift();
      else column.splice(0, surplus);
    }
    this.#length = length;
  }

  /** The events, each with what it has at the paths; nobody may change them. */
  events(): JsonObject[] {
    const { paths } = this.set;
    const [first, second] = paths;
    const isOneField = second === undefined && first?.length === 1;
    if (isOneField) return eventsOf(first[0]!, this.#columns[0]!);
    const events: JsonObject[] = [];
    for (let at = 0; at < this.#length; at++) {
      const event: JsonObject = {};
      for (let i = 0; i < paths.length; i++) {
        const value = this.#columns[i]![at]!;
        // Absent and null are the same to a script, and below null lies nothing.
        if (value !== null) put(event, paths[i]!, value);
      }
      events.push(event);
    }
    return events;
  }

  /** Most often it is that of the event before, or of other users' events. */
  #text(text: string, column: readonly JsonValue[]): string {
    const before = column.at(-1);
    if (before === text) return before;
    const known = sharedTexts.get(text);
    if (known !== undefined) return known;
    sharedTexts.set(text, text);
    this.#textBytes += TEXT_BYTES + text.length;
    return text;
  }

  #giveUp(): void {
    this.#unfit = true;
    this.#length = 0;
    this.#textBytes = 0;
    for (const column of this.#columns) column.length = 0;
  }
}

/**
 * As `put` would make them: V8 stores under one name in two thirds of the time, and nobody can tell
 * events with the same value apart.
 */
function eventsOf(name: string, column: readonly JsonValue[]): JsonObject[] {
  const events: JsonObject[] = [];
  let event: JsonObject = {};
  for (let at = 0; at < column.length; at++) {
    const value = column[at]!;
    if (at === 0 || value !== column[at - 1]) {
      event = {};
      if (value !== null) event[name] = value;
    }
    events.push(event);
  }
  return events;
}

function put(event: JsonObject, path: Path, value: JsonValue): void {
  let target = event;
  for (let i = 0; i < path.length - 1; i++) {
    const name = path[i]!;
    if (!Object.hasOwn(target, name)) target[name] = {};
    target = target[name] as JsonObject;
  }
  target[path.at(-1)!] = value;
}
