/**
 * The requests this project sends to Kafka. Owns the wire: versions, error codes, which broker is
 * asked. Decides nothing: no retries, no state about splits.
 *
 * Not the `Consumer` of @platformatic/kafka: its `fetch` picks the broker from its own metadata
 * cache, adopts a recreated topic in silence, fails a whole response for one partition's error, and
 * its metadata call fails for one partition without a leader; and it takes long to load
 * (kafka-connection.ts). Topics are fetched by id (Fetch v13, Kafka 3.1 or newer), so the broker
 * itself refuses another topic of the same name.
 */
import type { KafkaConnectionPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { isRetryable, TriggerJobError } from '../runtime/errors.ts';
import { kafkaClientOptions } from './kafka-client.ts';
import { type ConnectionOptions, KafkaConnection } from './kafka-connection.ts';
import type {
  Broker,
  FetchedPartition,
  FetchLimits,
  FetchTarget,
  KafkaTransport,
  OffsetQuery,
  TopicView,
} from './kafka-transport.ts';
import type { WireReader } from './kafka-wire.ts';

const FETCH = { name: 'Fetch', api: 1, version: 13, flexible: true } as const;
const LIST_OFFSETS = { name: 'ListOffsets', api: 2, version: 7, flexible: true } as const;
const METADATA = { name: 'Metadata', api: 3, version: 12, flexible: true } as const;
const OFFSET_COMMIT = { name: 'OffsetCommit', api: 8, version: 8, flexible: true } as const;
const FIND_COORDINATOR = { name: 'FindCoordinator', api: 10, version: 4, flexible: true } as const;
const API_VERSIONS = { name: 'ApiVersions', api: 18, version: 3, flexible: 'request' } as const;

const NO_REPLICA = -1;
const ANY_EPOCH = -1;
const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const UNKNOWN_TOPIC = 3;
const GROUP_COORDINATOR = 0;
const CLIENT_NAME = 'triggerjob';

/** Connects at the first request. TLS files are read now. */
export async function openKafkaTransport(
  connection: KafkaConnectionPlan,
  clientId: string,
  env: Env,
): Promise<KafkaTransport> {
  const { bootstrapBrokers, ...options } = await kafkaClientOptions(connection, clientId);
  return new PooledTransport(env, options, bootstrapBrokers.map(parseBroker));
}

class PooledTransport implements KafkaTransport {
  readonly #env: Env;
  readonly #options: ConnectionOptions;
  readonly #bootstrap: Broker[];
  readonly #connections = new Map<string, Promise<KafkaConnection>>();
  #known: Broker[] = [];
  #checked = false;
  #closed = false;

  constructor(env: Env, options: ConnectionOptions, bootstrap: Broker[]) {
    this.#env = env;
    this.#options = options;
    this.#bootstrap = bootstrap;
  }

  async topic(name: string): Promise<TopicView | null> {
    const connection = await this.#any();
    const { brokers, topics } = await connection.send({
      ...METADATA,
      write: (body) => {
        body.compactArray([name], (topic) => body.uuid(null).compactString(topic).noTags());
        body.boolean(false).boolean(false).noTags();
      },
      read: readMetadata,
    });
    this.#known = [...brokers.values()];
    const [topic] = topics;
    if (topic === undefined || topic.errorCode === UNKNOWN_TOPIC) return null;
    if (topic.errorCode !== 0 && topic.partitions.length === 0) {
      throw refused(`answers error ${topic.errorCode} for the metadata of topic ${name}`);
    }
    const leaders: number[] = new Array(topic.partitions.length).fill(-1);
    for (const { partition, leader } of topic.partitions) leaders[partition] = leader;
    return { topicId: topic.topicId, leaders, brokers };
  }

  async listOffsets(query: OffsetQuery): Promise<Map<number, number>> {
    const { topic, view, at } = query;
    const isolation = query.committed ? READ_COMMITTED : READ_UNCOMMITTED;
    const byLeader = Map.groupBy(query.partitions, (partition) => view.leaders[partition] ?? -1);
    const asked = [...byLeader].map(async ([leader, partitions]) => {
      const broker = view.brokers.get(leader);
      if (broker === undefined) {
        throw refused(`knows no leader of ${topic}/${partitions[0]}`);
      }
      const connection = await this.#connection(broker);
      return connection.send({
        ...LIST_OFFSETS,
        write: (body) => {
          body.int32(NO_REPLICA).int8(isolation);
          body.compactArray([topic], (name) => {
            body.compactString(name);
            body.compactArray(partitions, (partition) =>
              body.int32(partition).int32(ANY_EPOCH).int64(at).noTags(),
            );
            body.noTags();
          });
          body.noTags();
        },
        read: (answer) => readOffsets(answer, topic),
      });
    });
    return new Map((await Promise.all(asked)).flat());
  }

  async fetch(
    broker: Broker,
    targets: readonly FetchTarget[],
    limits: FetchLimits,
  ): Promise<FetchedPartition[]> {
    const connection = await this.#connection(broker);
    await this.#checkVersion(connection);
    const topics = [...Map.groupBy(targets, (target) => target.topicId)];
    return connection.send({
      ...FETCH,
      write: (body) => {
        body.int32(NO_REPLICA).int32(limits.maxWaitMs).int32(1).int32(limits.maxBytes);
        body.int8(READ_COMMITTED);
        // Session 0, epoch -1: no fetch session. A session saves bytes with thousands of partitions
        // per reader and costs a protocol of its own at every leader change.
        body.int32(0).int32(-1);
        body.compactArray(topics, ([topicId, partitions]) => {
          body.uuid(topicId);
          body.compactArray(partitions, ({ partition, offset }) => {
            body.int32(partition).int32(ANY_EPOCH).int64(offset);
            // Neither the last fetched epoch nor the log's beginning: those are a replica's.
            body.int32(ANY_EPOCH).int64(-1).int32(limits.maxBytesPerPartition).noTags();
          });
          body.noTags();
        });
        body
          .compactArray([], () => undefined)
          .compactString('')
          .noTags();
      },
      read: readFetched,
    });
  }

  async commit(
    groupId: string,
    topic: string,
    offsets: ReadonlyMap<number, number>,
  ): Promise<void> {
    const coordinator = await (await this.#any()).send({
      ...FIND_COORDINATOR,
      write: (body) => {
        body.int8(GROUP_COORDINATOR);
        body.compactArray([groupId], (id) => body.compactString(id)).noTags();
      },
      read: (answer) => readCoordinator(answer, groupId),
    });
    const target = await this.#connection(coordinator);
    await target.send({
      ...OFFSET_COMMIT,
      write: (body) => {
        // Neither a generation nor a member: no member of the group commits.
        body.compactString(groupId).int32(-1).compactString('').compactString(null);
        body.compactArray([topic], (name) => {
          body.compactString(name);
          body.compactArray([...offsets], ([partition, offset]) =>
            body.int32(partition).int64(offset).int32(ANY_EPOCH).compactString(null).noTags(),
          );
          body.noTags();
        });
        body.noTags();
      },
      read: (answer) => readCommitted(answer, groupId),
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const opened = [...this.#connections.values()];
    this.#connections.clear();
    await Promise.all(
      opened.map((one) =>
        one.then(
          (connection) => connection.close(),
          () => {},
        ),
      ),
    );
  }

  /**
   * A connection for questions that any broker answers; known brokers serve when bootstrap is
   * gone.
   */
  async #any(): Promise<KafkaConnection> {
    const errors: unknown[] = [];
    for (const broker of [...this.#bootstrap, ...this.#known]) {
      try {
        const connection = await this.#connection(broker);
        await this.#checkVersion(connection);
        return connection;
      } catch (error) {
        if (!isRetryable(error)) throw error;
        errors.push(error);
      }
    }
    throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'no Kafka broker answers');
  }

  async #connection(broker: Broker): Promise<KafkaConnection> {
    const key = `${broker.host}:${broker.port}`;
    const before = this.#connections.get(key);
    const known = await before?.catch(() => null);
    if (known?.usable === true) return known;
    if (this.#closed) throw refused('was not asked: the connections were closed');
    known?.retire();
    // Who has waited for the same one may have opened the next one already.
    const other = this.#connections.get(key);
    if (other !== undefined && other !== before) return other;
    const opened = KafkaConnection.open(this.#env, broker, this.#options);
    this.#connections.set(key, opened);
    return opened;
  }

  /**
   * An older broker drops the connection at an unknown version: without this it looks like a
   * fault.
   */
  async #checkVersion(connection: KafkaConnection): Promise<void> {
    if (this.#checked) return;
    const newest = await connection.send({
      ...API_VERSIONS,
      write: (body) => body.compactString(CLIENT_NAME).compactString('1').noTags(),
      read: readNewestFetch,
    });
    if (newest < FETCH.version) {
      throw new TriggerJobError(
        'SOURCE_BROKER_TOO_OLD',
        `the Kafka broker speaks Fetch up to v${newest}, not v${FETCH.version}; ` +
          'topic ids need Kafka 3.1 or newer',
      );
    }
    this.#checked = true;
  }
}

function refused(text: string): TriggerJobError {
  return new TriggerJobError('KAFKA_REQUEST_FAILED', `Kafka ${text}`, { retryable: true });
}

function parseBroker(server: string): Broker {
  const colon = server.lastIndexOf(':');
  return {
    host: server.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(server.slice(colon + 1)),
  };
}

/** 0: a broker that does not know the question of this version answers an error alone. */
function readNewestFetch(answer: WireReader): number {
  if (answer.int16() !== 0) return 0;
  const versions = answer.compactArray(() => {
    const api = answer.int16();
    answer.int16();
    const newest = answer.int16();
    answer.skipTags();
    return { api, newest };
  });
  return versions.find(({ api }) => api === FETCH.api)?.newest ?? 0;
}

/** A partition without a leader bears an error code, and is told all the same. */
function readMetadata(answer: WireReader) {
  answer.int32(); // throttle time: the broker has waited already
  const brokers = answer.compactArray((): [number, Broker] => {
    const id = answer.int32();
    const broker = { host: answer.compactString() ?? '', port: answer.int32() };
    answer.compactString(); // rack
    answer.skipTags();
    return [id, broker];
  });
  answer.compactString(); // cluster
  answer.int32(); // controller
  const topics = answer.compactArray(() => {
    const errorCode = answer.int16();
    answer.compactString(); // its name
    const topicId = answer.uuid();
    answer.int8(); // internal
    const partitions = answer.compactArray(() => {
      answer.int16(); // error code
      const partition = answer.int32();
      const leader = answer.int32();
      answer.int32(); // leader epoch
      // Replicas, those in sync, those offline.
      for (let lists = 0; lists < 3; lists++) answer.compactArray(() => answer.int32());
      answer.skipTags();
      return { partition, leader };
    });
    answer.int32(); // what may be done with it
    answer.skipTags();
    return { errorCode, topicId, partitions };
  });
  return { brokers: new Map(brokers), topics };
}

/** Offset by partition. */
function readOffsets(answer: WireReader, topic: string): [number, number][] {
  answer.int32(); // throttle time
  const topics = answer.compactArray(() => {
    answer.compactString(); // the one that was asked for
    const offsets = answer.compactArray((): [number, number] => {
      const partition = answer.int32();
      const errorCode = answer.int16();
      if (errorCode !== 0) {
        throw refused(`answers error ${errorCode} for an offset of ${topic}/${partition}`);
      }
      answer.int64(); // its record's time
      const offset = answer.int64();
      answer.int32(); // leader epoch
      answer.skipTags();
      return [partition, offset];
    });
    answer.skipTags();
    return offsets;
  });
  return topics.flat();
}

function readCoordinator(answer: WireReader, groupId: string): Broker {
  answer.int32(); // throttle time
  const [coordinator] = answer.compactArray(() => {
    answer.compactString(); // the group
    answer.int32(); // node id
    const broker = { host: answer.compactString() ?? '', port: answer.int32() };
    const errorCode = answer.int16();
    const reason = answer.compactString();
    answer.skipTags();
    if (errorCode === 0) return broker;
    throw refused(`answers error ${errorCode} for the coordinator of group ${groupId}: ${reason}`);
  });
  if (coordinator === undefined) throw refused(`knows no coordinator of group ${groupId}`);
  return coordinator;
}

function readCommitted(answer: WireReader, groupId: string): void {
  answer.int32(); // throttle time
  answer.compactArray(() => {
    const topic = answer.compactString();
    answer.compactArray(() => {
      const partition = answer.int32();
      const errorCode = answer.int16();
      answer.skipTags();
      if (errorCode === 0) return;
      throw refused(
        `answers error ${errorCode} for committing ${topic}/${partition} as group ${groupId}`,
      );
    });
    answer.skipTags();
  });
}

/** One topic per reader, so partitions need no topic beside them. */
function readFetched(answer: WireReader): FetchedPartition[] {
  answer.int32(); // throttle time
  const errorCode = answer.int16();
  answer.int32(); // session
  if (errorCode !== 0) throw refused(`answers error ${errorCode} to a fetch`);
  const topics = answer.compactArray(() => {
    answer.skip(16); // topic id: the one that was asked for, or the broker says unknown
    const partitions = answer.compactArray(() => readFetchedPartition(answer));
    answer.skipTags();
    return partitions;
  });
  return topics.flat();
}

function readFetchedPartition(answer: WireReader): FetchedPartition {
  const partition = answer.int32();
  const errorCode = answer.int16();
  const highWatermark = answer.int64();
  const lastStableOffset = answer.int64();
  answer.int64(); // log start offset: asked for separately when it matters
  const aborted = answer.compactArray(() => {
    const transaction = { producerId: answer.bigint(), firstOffset: answer.int64() };
    answer.skipTags();
    return transaction;
  });
  answer.int32(); // preferred read replica: none, no rack is sent
  const records = answer.compactBytes();
  answer.skipTags();
  return { partition, errorCode, highWatermark, lastStableOffset, aborted, records };
}
