/**
 * The dead letter as a Kafka topic: key = user id, value = raw bytes, everything else in `dlq.*`
 * headers. acks=all and idempotent.
 *
 * The producer is thrown away after every failed batch: its sequence numbers, connections and
 * metadata may all be what failed, and the library keeps them. A repeat bears the same `dlq.id`.
 */
import { findErrorBy, ProduceAcks, Producer } from '@platformatic/kafka';
import type { KafkaConnectionPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { kafkaClientOptions, kafkaErrorText } from '../source/kafka-client.ts';
import type { DeadLetter, DeadLetterWriter } from './action.ts';
import { errorText } from './dead-letter-line.ts';
import type { BatchSink } from './group-writer.ts';

/** Beyond the library's own request timeouts: metadata, authentication and the send together. */
const SEND_TIMEOUT_MS = 60_000;

export interface DeadLetterMessage {
  topic: string;
  /** null: the record has no user. */
  key: Buffer | null;
  value: Buffer;
  headers: Map<Buffer, Buffer>;
}

/**
 * What is needed of a Kafka producer. `send` resolves when all in-sync replicas have the messages.
 */
export interface DeadLetterProducer {
  send(messages: readonly DeadLetterMessage[]): Promise<void>;
  /** Ends it at once; pending sends reject. */
  close(): Promise<void>;
}

export type OpenProducer = (idempotent: boolean) => Promise<DeadLetterProducer>;

export class KafkaSink implements BatchSink {
  readonly target: string;
  readonly #topic: string;
  readonly #env: Env;
  readonly #openProducer: OpenProducer;
  /** Where an entry goes that the topic can never take. */
  readonly #oversized: DeadLetterWriter;
  readonly #closing = new AbortController();
  #producer: DeadLetterProducer | null = null;
  #idempotent = true;

  constructor(topic: string, env: Env, openProducer: OpenProducer, oversized: DeadLetterWriter) {
    this.target = `Kafka topic ${topic}`;
    this.#topic = topic;
    this.#env = env;
    this.#openProducer = openProducer;
    this.#oversized = oversized;
  }

  prepare(batch: readonly DeadLetter[]): () => Promise<void> {
    // Parts leave the list as they are acknowledged: a retry sends only the rest.
    const parts = [[...batch]];
    return async () => {
      for (let part = parts[0]; part !== undefined; part = parts[0]) {
        if (await this.#sendPart(part)) parts.shift();
        else parts.splice(0, 1, ...halves(part));
      }
    };
  }

  async close(): Promise<void> {
    this.#closing.abort(new TriggerJobError('DEAD_LETTER_CLOSED', 'the producer was closed'));
    await Promise.all([this.#drop(), this.#oversized.close()]);
  }

  /** false: too large for one request, but not yet a single entry. */
  async #sendPart(part: readonly DeadLetter[]): Promise<boolean> {
    try {
      await this.#send(part.map((entry) => toMessage(this.#topic, entry, null)));
      return true;
    } catch (thrown) {
      if (!isTooLarge(thrown)) throw thrown;
      const [only] = part;
      if (only === undefined || part.length > 1) return false;
      // Retrying would hold the job for ever, dropping would lose the record: the bytes go to the
      // checkpoint directory, and the topic gets the entry with a header that says so.
      await this.#oversized.write(only);
      await this.#send([toMessage(this.#topic, only, 'dead-letter/ of the checkpoint directory')]);
      return true;
    }
  }

  async #send(messages: readonly DeadLetterMessage[]): Promise<void> {
    const { signal } = this.#closing;
    signal.throwIfAborted();
    const giveUp = new AbortController();
    const stop = () => giveUp.abort();
    signal.addEventListener('abort', stop, { once: true });
    const limit = sleep(this.#env, SEND_TIMEOUT_MS, giveUp.signal).then(timedOut, closedOrDone);
    try {
      await Promise.race([this.#sendNow(messages, giveUp.signal), limit]);
    } catch (thrown) {
      signal.throwIfAborted();
      await this.#drop();
      if (findErrorBy(asError(thrown), 'apiId', 'CLUSTER_AUTHORIZATION_FAILED') !== null) {
        // Brokers before 2.8 ask for a right of its own; a repeated entry is better than none.
        this.#idempotent = false;
      }
      if (isTooLarge(thrown)) throw thrown;
      throw new TriggerJobError('DEAD_LETTER_KAFKA', kafkaErrorText(thrown), { retryable: true });
    } finally {
      signal.removeEventListener('abort', stop);
      giveUp.abort();
    }
  }

  async #sendNow(messages: readonly DeadLetterMessage[], givenUp: AbortSignal): Promise<void> {
    if (this.#producer === null) {
      const opened = await this.#openProducer(this.#idempotent);
      // Given up while it was opening: another one may be in place by now.
      if (givenUp.aborted) {
        await opened.close();
        return;
      }
      this.#producer = opened;
    }
    await this.#producer.send(messages);
  }

  async #drop(): Promise<void> {
    const producer = this.#producer;
    this.#producer = null;
    await producer?.close().catch(() => {});
  }
}

function timedOut(): never {
  throw new TriggerJobError('DEAD_LETTER_KAFKA', `no answer within ${SEND_TIMEOUT_MS} ms`);
}

/** The race is over, or close() ended it: its caller looks at the signal. */
function closedOrDone(): never {
  throw new TriggerJobError('DEAD_LETTER_KAFKA', 'the send was given up');
}

function halves<T>(part: readonly T[]): T[][] {
  const middle = Math.ceil(part.length / 2);
  return [part.slice(0, middle), part.slice(middle)];
}

function asError(thrown: unknown): Error | null {
  return thrown instanceof Error ? thrown : null;
}

function isTooLarge(thrown: unknown): boolean {
  const error = asError(thrown);
  return (
    findErrorBy(error, 'apiId', 'MESSAGE_TOO_LARGE') !== null ||
    findErrorBy(error, 'apiId', 'RECORD_LIST_TOO_LARGE') !== null
  );
}

/** `storedIn`: the value is elsewhere, and empty here. */
function toMessage(topic: string, entry: DeadLetter, storedIn: string | null): DeadLetterMessage {
  const headers = new Map<Buffer, Buffer>();
  const add = (name: string, value: string | number) =>
    headers.set(Buffer.from(name), Buffer.from(String(value)));
  add('dlq.id', entry.id);
  add('dlq.topic', entry.topic);
  add('dlq.partition', entry.partition);
  add('dlq.offset', entry.offset);
  add('dlq.user', entry.userId ?? '');
  add('dlq.stage', entry.stage);
  add('dlq.error', errorText(entry));
  add('dlq.attempts', entry.attempts);
  if (storedIn !== null) add('dlq.raw-stored-in', storedIn);
  const key = entry.userId === null ? null : Buffer.from(entry.userId);
  return { topic, key, value: storedIn === null ? entry.raw : Buffer.alloc(0), headers };
}

/** Opens real producers; TLS files are read anew each time, so rotated ones are picked up. */
export function kafkaProducers(connection: KafkaConnectionPlan, clientId: string): OpenProducer {
  return async (idempotent) => {
    const options = await kafkaClientOptions(connection, clientId);
    const producer = new Producer({ ...options, idempotent, acks: ProduceAcks.ALL });
    return {
      async send(messages) {
        await producer.send({
          messages: messages.map(({ key, ...rest }) => ({ ...rest, ...(key !== null && { key }) })),
          acks: ProduceAcks.ALL,
          // A broker that creates topics on demand may do so; others answer with the topic's name.
          autocreateTopics: true,
        });
      },
      close: () => producer.close(true),
    };
  };
}
