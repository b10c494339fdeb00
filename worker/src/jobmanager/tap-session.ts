/**
 * One live tap: asks the subtasks again and again for what passed a stage since, and hands it on.
 * Subtasks that restart or move are asked again when they run; a subtask that is not asked any more
 * forgets the tap by itself.
 */
import type { TappedRecord, TapRequest } from '../rpc/inspection.ts';
import type { Env, Timer } from '../runtime/env.ts';
import type { TaskQueries } from './task-queries.ts';

/** Between two looks; with many subtasks longer, so that a tap costs some 500 messages a second. */
const LOOK_MS = 250;
const LOOK_MS_PER_SUBTASK = 2;

export interface TapSink {
  record(record: TappedRecord): void;
  /** So many were not taken, because too many came. */
  skipped(count: number): void;
  /** Nothing follows. */
  end(reason: string): void;
}

export interface TapSessionDeps {
  env: Env;
  queries: Pick<TaskQueries, 'ask'>;
  /** Subtasks of the running attempt. */
  parallelism: () => number;
  /** That alone sees the tap's user at the tap's stage; null: any may. */
  owner: () => number | null;
}

export class TapSession {
  readonly #deps: TapSessionDeps;
  readonly #request: TapRequest;
  readonly #sink: TapSink;
  readonly #asked = new Set<number>();
  /** Of subtasks that know of the tap. */
  readonly #tapped = new Set<number>();
  #left: number;
  #timer: Timer | null = null;
  #closed = false;

  /** `limit`: records after which it ends. */
  constructor(deps: TapSessionDeps, request: TapRequest, limit: number, sink: TapSink) {
    this.#deps = deps;
    this.#request = request;
    this.#left = limit;
    this.#sink = sink;
    this.#look();
  }

  get closed(): boolean {
    return this.#closed;
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    const { queries } = this.#deps;
    for (const subtask of this.#tapped) {
      queries.ask(subtask, { kind: 'untap', id: this.#request.id }).catch(() => undefined);
    }
    this.#sink.end(reason);
  }

  #look(): void {
    const { env, parallelism, owner } = this.#deps;
    const one = owner();
    const count = parallelism();
    const subtasks = one === null ? Array.from({ length: count }, (_, n) => n) : [one];
    for (const subtask of subtasks) if (!this.#asked.has(subtask)) void this.#ask(subtask);
    const delayMs = Math.max(LOOK_MS, subtasks.length * LOOK_MS_PER_SUBTASK);
    this.#timer = env.timer(delayMs, () => this.#look());
  }

  async #ask(subtask: number): Promise<void> {
    this.#asked.add(subtask);
    try {
      const query = { kind: 'tap', tap: this.#request } as const;
      const { records, skipped } = await this.#deps.queries.ask(subtask, query);
      this.#tapped.add(subtask);
      this.#passOn(records, skipped);
    } catch {
      // It restarts or moves: the next look finds it.
      this.#tapped.delete(subtask);
    } finally {
      this.#asked.delete(subtask);
    }
  }

  #passOn(records: readonly TappedRecord[], skipped: number): void {
    if (this.#closed) return;
    if (skipped > 0) this.#sink.skipped(skipped);
    for (const record of records) {
      this.#sink.record(record);
      this.#left--;
      if (this.#left > 0) continue;
      this.close('limit');
      return;
    }
  }
}
