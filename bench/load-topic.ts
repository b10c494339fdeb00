/** Fills the topic before a measurement begins: four partitions, key = user id, no compression. */
import { type Distribution, EventStream, type Expected, userId } from './dataset.ts';
import { BatchBuilder, TopicWriter } from './topic-writer.ts';

export const PARTITIONS = 4;
/** Some 800 events: what a busy producer's batches hold, too. */
const BATCH_BYTES = 128 * 1024;
/** Requests under way: the broker appends one while the next is encoded. */
const MAX_IN_FLIGHT = 8;
/** Prime: multiplied by it, user numbers are spread over the key space. */
const SPREAD = 7_919;

export class TopicLoader {
  readonly #writer: TopicWriter;
  readonly #stream: EventStream;
  readonly #users: number;
  readonly #open: readonly BatchBuilder[];
  readonly #inFlight: Promise<void>[] = [];

  private constructor(writer: TopicWriter, stream: EventStream, users: number, partitions: number) {
    this.#writer = writer;
    this.#open = Array.from({ length: partitions }, () => new BatchBuilder(BATCH_BYTES));
    this.#users = users;
    this.#stream = stream;
  }

  static async connect(
    bootstrap: string,
    topic: string,
    users: number,
    partitions = PARTITIONS,
    distribution: Distribution = 'uniform',
  ): Promise<TopicLoader> {
    const stream = new EventStream(users, distribution);
    return new TopicLoader(await TopicWriter.connect(bootstrap, topic), stream, users, partitions);
  }

  /** Of all that was written. */
  get expected(): Expected {
    return { ...this.#stream.expected };
  }

  /** Appends the next `count` events of the stream. */
  async load(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const { user, json } = this.#stream.next();
      await this.#add(user, json);
    }
    await this.#flush();
  }

  /** One event of each of `count` users; other ones in each round, until all had their turn. */
  async touch(round: number, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const user = ((round * count + i) * SPREAD) % this.#users;
      await this.#add(user, this.#stream.nextOf(user));
    }
    await this.#flush();
  }

  /** `count` events, of `distinct` users from the `first` one on in turn, as one batch each. */
  async write(first: number, distinct: number, from: number, count: number): Promise<void> {
    for (let i = from; i < from + count; i++) {
      const user = ((first + (i % distinct)) * SPREAD) % this.#users;
      await this.#add(user, this.#stream.nextOf(user));
    }
    await this.#flush();
  }

  async close(): Promise<void> {
    await this.#writer.close();
  }

  async #add(user: number, json: string): Promise<void> {
    // Consecutive user numbers lie in different partitions: as even as any hash.
    const partition = user % this.#open.length;
    const batch = this.#open[partition]!;
    if (batch.add(userId(user), json)) return;
    await this.#send(partition);
    batch.add(userId(user), json);
  }

  async #flush(): Promise<void> {
    for (const partition of this.#open.keys()) await this.#send(partition);
    await Promise.all(this.#inFlight.splice(0));
  }

  async #send(partition: number): Promise<void> {
    const batch = this.#open[partition]!;
    if (batch.count === 0) return;
    if (this.#inFlight.length >= MAX_IN_FLIGHT) await this.#inFlight.shift();
    this.#inFlight.push(this.#writer.append(partition, batch.take(Date.now())));
  }
}
