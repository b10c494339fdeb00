/**
 * Why the job failed or restarted: the last causes, and the first one for good, since a restart
 * loop buries the cause that matters under its followers.
 */
import type { Bound } from '../runtime/bound.ts';

const MAX_ENTRIES = 20;
/** A message from a task is cut here; a script or an API answer may be quoted in it. */
const MAX_MESSAGE_CHARACTERS = 4_000;

export interface JobException {
  /** Wall time, ms. */
  at: number;
  code: string;
  message: string;
  /** null: not of one task (connection lost, checkpoints failed). */
  subtask: number | null;
  taskManagerId: string | null;
  attempt: number;
}

export class JobExceptions {
  readonly #entries: JobException[] = [];
  #first: JobException | null = null;
  #total = 0;

  add(exception: JobException): void {
    const message = exception.message.slice(0, MAX_MESSAGE_CHARACTERS);
    const entry = { ...exception, message };
    this.#first ??= entry;
    this.#total += 1;
    this.#entries.unshift(entry);
    if (this.#entries.length > MAX_ENTRIES) this.#entries.pop();
  }

  get kept(): Bound {
    return { value: this.#entries.length, limit: MAX_ENTRIES };
  }

  /** Newest first. `truncated`: older ones were dropped. */
  list(): { first: JobException | null; entries: readonly JobException[]; truncated: boolean } {
    const truncated = this.#total > this.#entries.length;
    return { first: this.#first, entries: [...this.#entries], truncated };
  }
}
