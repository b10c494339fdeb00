/** Fills the topic before a measurement begins: four partitions, key = user id, no compression. */
import { Kafka, logLevel, type Message, Partitioners, type Producer } from 'kafkajs';
import { EventStream, userId } from './dataset.ts';

export const PARTITIONS = 4;
/** Per partition and request; about 140 KB, which a busy producer's batches have, too. */
const BATCH_RECORDS = 1_000;
/** Requests under way: the broker appends one while the next is encoded. */
const MAX_IN_FLIGHT = 3;

export class TopicLoader {
  readonly #topic: string;
  readonly #producer: Producer;
  readonly #stream: EventStream;
  readonly #users: number;
  readonly #open: Message[][] = Array.from({ length: PARTITIONS }, () => []);
  readonly #inFlight = new Set<Promise<void>>();
  /** Events given to the broker so far. */
  sent = 0;

  private constructor(producer: Producer, topic: string, users: number) {
    this.#producer = producer;
    this.#topic = topic;
    this.#users = users;
    this.#stream = new EventStream(users);
  }

  static async connect(bootstrap: string, topic: string, users: number): Promise<TopicLoader> {
    const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR });
    const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    return new TopicLoader(producer, topic, users);
  }

  /** Appends the next `count` events of the stream. */
  async load(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const { user, json } = this.#stream.next();
      await this.#add(user, json);
    }
    await this.#flush();
  }

  /** One event of each of the `count` users that come after the `round`-th such group. */
  async touch(round: number, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      // Spread over the key space, and other users in each round.
      const user = ((round * count + i) * 7_919) % this.#users;
      await this.#add(user, this.#stream.nextOf(user));
    }
    await this.#flush();
  }

  async close(): Promise<void> {
    await this.#producer.disconnect();
  }

  async #add(user: number, json: string): Promise<void> {
    // Consecutive user numbers lie in different partitions: as even as any hash.
    const partition = user % PARTITIONS;
    const open = this.#open[partition]!;
    open.push({ key: userId(user), value: json, partition });
    if (open.length >= BATCH_RECORDS) await this.#send(partition);
  }

  async #flush(): Promise<void> {
    for (let partition = 0; partition < PARTITIONS; partition++) await this.#send(partition);
    await Promise.all(this.#inFlight);
  }

  async #send(partition: number): Promise<void> {
    const messages = this.#open[partition]!;
    if (messages.length === 0) return;
    this.#open[partition] = [];
    while (this.#inFlight.size >= MAX_IN_FLIGHT) await Promise.race(this.#inFlight);
    const request = this.#producer
      .send({ topic: this.#topic, messages, acks: 1 })
      .then(() => {
        this.sent += messages.length;
      })
      .finally(() => this.#inFlight.delete(request));
    this.#inFlight.add(request);
  }
}
