/** The default dead letter: NDJSON objects under `dead-letter/` of the checkpoint directory. */
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { Env } from '../runtime/env.ts';
import type { DeadLetter } from './action.ts';
import { deadLetterLines } from './dead-letter-line.ts';
import type { BatchSink } from './group-writer.ts';

const PREFIX = 'dead-letter/';

export class StoreSink implements BatchSink {
  readonly target: string;
  readonly #store: ObjectStore;
  readonly #env: Env;
  readonly #subtask: number;
  #next = 0;

  constructor(store: ObjectStore, env: Env, subtask: number) {
    this.target = `${store.url}/${PREFIX}`;
    this.#store = store;
    this.#env = env;
    this.#subtask = subtask;
  }

  /**
   * One name per batch, kept over its retries: a put whose reply was lost is then repeated in
   * place.
   */
  prepare(batch: readonly DeadLetter[]): () => Promise<void> {
    const name = `${PREFIX}${this.#subtask}-${this.#next}-${this.#env.id()}.ndjson`;
    this.#next += 1;
    const content = deadLetterLines(batch);
    return () => this.#store.put(name, content);
  }

  async close(): Promise<void> {}
}
