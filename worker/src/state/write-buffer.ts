/**
 * Rows on their way to the backend, in the order in which they arose (P6). A read never overtakes
 * them (P1): whoever reads through the buffer finds what was put before. Only a read of a user
 * that has rows here writes them first: when each read did, most writes were of a few rows, and
 * they took a tenth of the slot's thread (bench, setting a).
 */
import type { StateBackend } from './backend.ts';
import type { UserRow } from './rows.ts';

/** Rows that wait for one write: a write alone costs as much as some 20 rows of it. */
const BATCH_ROWS = 128;
const BATCH_BYTES = 256 * 1024;

export class WriteBuffer {
  readonly #backend: StateBackend;
  #rows: UserRow[] = [];
  /** Whose rows wait. */
  readonly #users = new Set<string>();
  #bytes = 0;

  constructor(backend: StateBackend) {
    this.#backend = backend;
  }

  put(userId: string, row: UserRow): void {
    this.#rows.push(row);
    this.#users.add(userId);
    this.#bytes += row.value?.length ?? 0;
  }

  /** Writes once there is enough for a batch. */
  settle(): void {
    if (this.#rows.length >= BATCH_ROWS || this.#bytes >= BATCH_BYTES) this.flush();
  }

  /** The rows of a write that throws stay: a next one writes them once more, in their order. */
  flush(): void {
    if (this.#rows.length === 0) return;
    this.#backend.write(this.#rows);
    this.#rows = [];
    this.#users.clear();
    this.#bytes = 0;
  }

  /** `users`: those whose rows the keys are of. */
  getMany(keys: readonly Buffer[], users: Iterable<string>): (Buffer | undefined)[] {
    if (keys.length === 0) return [];
    if (this.#rows.length > 0 && this.#hasOneOf(users)) this.flush();
    return this.#backend.getMany(keys);
  }

  #hasOneOf(users: Iterable<string>): boolean {
    for (const userId of users) if (this.#users.has(userId)) return true;
    return false;
  }

  /** Without a write, for those who only look. */
  peek(key: Buffer): Buffer | undefined {
    const waiting = this.#rows.findLast((row) => row.key.equals(key));
    if (waiting !== undefined) return waiting.value ?? undefined;
    return this.#backend.getMany([key])[0];
  }
}
