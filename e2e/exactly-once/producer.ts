/**
 * The producer of the checker: kafkajs, so that no one marks their own work. One batch at a time
 * keeps each user's events in order and makes every acknowledged offset known.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { Kafka, logLevel, type Message, type Producer } from 'kafkajs';
import { type DueEvent, eventText } from './event-model.ts';
import type { Acked } from './history.ts';

/** What is to be sent as one record. Poison (seq -1) may be any bytes, or none. */
export interface Outgoing {
  user: string;
  seq: number;
  partition: number;
  raw: string | Buffer | null;
}

const TICK_MS = 20;
/** Kafkajs' own gives up after some 9 s, and a broker's restart can take that on a busy machine. */
const PATIENCE = { retries: 60, initialRetryTime: 100, maxRetryTime: 1_000 };

export class PacedProducer {
  readonly #producer: Producer;
  readonly #topic: string;
  #sending: Promise<void> = Promise.resolve();
  readonly acked: Acked[] = [];
  /** run() has sent all. */
  done = false;

  constructor(bootstrap: string, topic: string) {
    const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: PATIENCE });
    // Idempotent: a retry after a lost acknowledgement must not write a record twice, else the fold
    // and the topic disagree through no fault of the pipeline.
    this.#producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    this.#topic = topic;
  }

  async connect(): Promise<void> {
    await this.#producer.connect();
  }

  async close(): Promise<void> {
    await this.#producer.disconnect();
  }

  /** Sends in order, after what is being sent, and appends what was acknowledged to `acked`. */
  async send(events: readonly Outgoing[]): Promise<void> {
    const sent = this.#sending.then(() => this.#send(events));
    this.#sending = sent.catch(() => undefined);
    await sent;
  }

  async #send(events: readonly Outgoing[]): Promise<void> {
    const timestamp = Date.now();
    const byPartition = Map.groupBy(events, (event) => event.partition);
    const messages: Message[] = [];
    for (const event of events) {
      messages.push({ value: event.raw, partition: event.partition, timestamp: `${timestamp}` });
    }
    const results = await this.#producer.send({ topic: this.#topic, messages, acks: -1 });
    const ackedAt = Date.now();
    for (const [partition, sent] of byPartition) {
      const result = results.find((candidate) => candidate.partition === partition);
      if (result?.baseOffset === undefined) {
        throw new Error(`no base offset for partition ${partition} of ${this.#topic}`);
      }
      let offset = Number(result.baseOffset);
      for (const { user, seq, raw: value } of sent) {
        const raw = typeof value === 'string' ? value : (value?.toString('base64') ?? '');
        this.acked.push({ user, seq, partition, offset: offset++, timestamp, raw, ackedAt });
      }
    }
  }

  /** Sends the schedule at its pace; resolves when the last event is acknowledged. */
  async run(seed: number, due: readonly DueEvent[], signal?: AbortSignal): Promise<void> {
    const startedAt = Date.now();
    let next = 0;
    while (next < due.length && !signal?.aborted) {
      const elapsed = Date.now() - startedAt;
      const batch: Outgoing[] = [];
      for (let event = due[next]; event && event.dueMs <= elapsed; event = due[++next]) {
        const { user, seq, partition } = event;
        batch.push({ user, seq, partition, raw: eventText(seed, user, seq) });
        if (batch.length === 5_000) {
          next++;
          break;
        }
      }
      if (batch.length > 0) await this.send(batch);
      await wait(TICK_MS);
    }
    this.done = true;
  }
}
