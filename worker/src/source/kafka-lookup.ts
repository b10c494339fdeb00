/**
 * The questions a reader asks beside its fetches: who leads the topic's partitions, where a log
 * begins and ends. Owns one connection for them, because an answer would queue behind a waiting
 * fetch.
 */
import { type Env, sleep } from '../runtime/env.ts';
import type { SourceCounters } from './counters.ts';
import { backoffMs, Refusal, requestFault } from './kafka-faults.ts';
import type { KafkaTransport, TopicView } from './kafka-transport.ts';

export interface LookupOptions {
  topic: string;
  env: Env;
  counters: SourceCounters;
  open: () => Promise<KafkaTransport>;
}

export class TopicLookup {
  readonly #options: LookupOptions;
  readonly #signal: AbortSignal;
  readonly #refusal = new Refusal();
  #transport: KafkaTransport | null = null;
  #view: TopicView | null = null;
  #refreshing: Promise<TopicView> | null = null;

  constructor(options: LookupOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  /** As of the last `refresh`. */
  get view(): TopicView | null {
    return this.#view;
  }

  /**
   * Asks until there is an answer, once however many wait for it. Throws what a refusal has become
   * (SOURCE_TOPIC_MISSING, ...), or the signal's reason.
   */
  refresh(): Promise<TopicView> {
    this.#refreshing ??= this.#lookUp().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /** Offset of one partition at EARLIEST, LATEST or a time; undefined: no answer now. */
  async offset(partition: number, at: number, committed: boolean): Promise<number | undefined> {
    const view = this.#view;
    if (view === null) return undefined;
    const query = { topic: this.#options.topic, view, partitions: [partition], at, committed };
    const offsets = await this.#ask((transport) => transport.listOffsets(query));
    return offsets?.get(partition);
  }

  /** The next question uses a new connection; a pending one fails. */
  async disconnect(): Promise<void> {
    const transport = this.#transport;
    this.#transport = null;
    // A connection that does not close cleanly is gone all the same.
    await transport?.close().catch(() => {});
  }

  async #lookUp(): Promise<TopicView> {
    const { topic, env, counters } = this.#options;
    const missing = { code: 'SOURCE_TOPIC_MISSING', reason: 'the topic does not exist' };
    for (let attempt = 0; ; attempt++) {
      this.#signal.throwIfAborted();
      const view = await this.#ask((transport) => transport.topic(topic));
      if (view) {
        counters.metadataRefreshes++;
        this.#refusal.clear();
        this.#view = view;
        return view;
      }
      if (view === null) this.#refusal.note(env.monotonic(), `topic ${topic}`, missing);
      await sleep(env, backoffMs(attempt, env.random()), this.#signal);
    }
  }

  /** undefined after a fault, which is counted; throws only a refusal that has lasted too long. */
  async #ask<Answer>(
    question: (transport: KafkaTransport) => Promise<Answer>,
  ): Promise<Answer | undefined> {
    const { topic, env, counters, open } = this.#options;
    try {
      this.#transport ??= await open();
      return await question(this.#transport);
    } catch (error) {
      await this.disconnect();
      this.#signal.throwIfAborted();
      counters.fetchErrors++;
      const fault = requestFault(error);
      if (fault.kind === 'refused') this.#refusal.note(env.monotonic(), `topic ${topic}`, fault);
      return undefined;
    }
  }
}
