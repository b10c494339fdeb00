/**
 * A user's history as scripts see it: parsed as a whole, or in columns where a script names what it
 * looks at. Neither is stored; both follow the events that come.
 */
import type { JsonValue } from '../runtime/json.ts';
import { HistoryColumns, type HistoryFieldSet } from './history-columns.ts';

export class HistoryView {
  #parsed: JsonValue[] | null = null;
  #columns: HistoryColumns | null = null;

  get hasParsed(): boolean {
    return this.#parsed !== null;
  }

  /** Estimate of the heap that columns take. */
  get columnBytes(): number {
    return this.#columns?.bytes ?? 0;
  }

  /** The events for a script that names `fields` of them; null: `take` them first. */
  known(fields: HistoryFieldSet | null): readonly JsonValue[] | null {
    if (fields === null) return this.#parsed;
    if (this.#columns?.set !== fields) return null;
    return this.#columns.unfit ? this.#parsed : this.#columns.events();
  }

  /** The events have been parsed: keeps what `known` will answer from. */
  take(events: JsonValue[], fields: HistoryFieldSet | null): readonly JsonValue[] {
    if (fields !== null) this.#columns = new HistoryColumns(fields, events);
    this.#parsed = fields === null || this.#columns!.unfit ? events : null;
    return events;
  }

  /** An event joined the history, of which `length` are left. */
  push(event: JsonValue, length: number): void {
    if (this.#parsed !== null) {
      this.#parsed.push(event);
      const surplus = this.#parsed.length - length;
      if (surplus > 0) this.#parsed.splice(0, surplus);
    }
    if (this.#columns === null) return;
    if (this.#columns.set.retired) {
      this.#columns = null;
      return;
    }
    this.#columns.push(event);
    this.#columns.keep(length);
  }

  /** Lets go of what takes many times the memory of its rows. */
  dropParsed(): void {
    this.#parsed = null;
  }
}
