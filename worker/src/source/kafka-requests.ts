/**
 * The requests this project sends to Kafka, on the connections of @platformatic/kafka. Owns the
 * wire: versions, error codes, which broker is asked. Decides nothing: no retries, no state about
 * splits.
 *
 * Not the client's `Consumer`: its `fetch` picks the broker from its own metadata cache, adopts a
 * recreated topic in silence, fails a whole response for one partition's error, and its metadata
 * call fails for one partition without a leader. Topics are fetched by id (Fetch v13, Kafka 3.1 or
 * newer), so the broker itself refuses another topic of the same name.
 */
import {
  apiVersionsV3,
  type Broker,
  type Connection,
  ConnectionPool,
  fetchV13,
  findCoordinatorV4,
  listOffsetsV7,
  metadataV12,
  offsetCommitV8,
  type Reader,
  ResponseError,
} from '@platformatic/kafka';
import type { KafkaConnectionPlan } from '../plan/job-plan.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { guardConnections, kafkaClientOptions } from './kafka-client.ts';
import type {
  FetchedPartition,
  FetchLimits,
  FetchTarget,
  KafkaTransport,
  OffsetQuery,
  TopicView,
} from './kafka-transport.ts';

const FETCH_API = 1;
const FETCH_VERSION = 13;
const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const UNKNOWN_TOPIC = 3;
const GROUP_COORDINATOR = 0;
const CLIENT_NAME = 'triggerjob';

/** Connects at the first request. TLS files are read now. */
export async function openKafkaTransport(
  connection: KafkaConnectionPlan,
  clientId: string,
): Promise<KafkaTransport> {
  const { bootstrapBrokers, ...options } = await kafkaClientOptions(connection, clientId);
  const pool = new ConnectionPool(clientId, options);
  guardConnections(pool);
  return new PooledTransport(pool, bootstrapBrokers.map(parseBroker));
}

class PooledTransport implements KafkaTransport {
  readonly #pool: ConnectionPool;
  readonly #bootstrap: Broker[];
  #known: Broker[] = [];
  #checked = false;

  constructor(pool: ConnectionPool, bootstrap: Broker[]) {
    this.#pool = pool;
    this.#bootstrap = bootstrap;
  }

  async topic(name: string): Promise<TopicView | null> {
    const connection = await this.#any();
    const response = await partial(metadataV12.api.async(connection, [name], false, false));
    const brokers = new Map(
      response.brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }]),
    );
    this.#known = [...brokers.values()];
    const topic = response.topics[0];
    if (topic === undefined || topic.errorCode === UNKNOWN_TOPIC) return null;
    if (topic.errorCode !== 0 && topic.partitions.length === 0) {
      throw new TriggerJobError(
        'KAFKA_REQUEST_FAILED',
        `Kafka answers error ${topic.errorCode} for the metadata of topic ${name}`,
        { retryable: true },
      );
    }
    const leaders: number[] = new Array(topic.partitions.length).fill(-1);
    for (const { partitionIndex, leaderId } of topic.partitions) leaders[partitionIndex] = leaderId;
    return { topicId: topic.topicId, leaders, brokers };
  }

  async listOffsets(query: OffsetQuery): Promise<Map<number, number>> {
    const { topic: name, view, at } = query;
    const isolation = query.committed ? READ_COMMITTED : READ_UNCOMMITTED;
    const byLeader = Map.groupBy(query.partitions, (partition) => view.leaders[partition] ?? -1);
    const offsets = new Map<number, number>();
    for (const [leader, partitions] of byLeader) {
      const broker = view.brokers.get(leader);
      if (broker === undefined) {
        throw new TriggerJobError(
          'KAFKA_REQUEST_FAILED',
          `topic ${name}: partition ${partitions[0]} has no leader`,
          { retryable: true },
        );
      }
      const asked = partitions.map((partitionIndex) => ({
        partitionIndex,
        currentLeaderEpoch: -1,
        timestamp: BigInt(at),
      }));
      const connection = await this.#pool.get(broker);
      const request = [{ name, partitions: asked }];
      const response = await listOffsetsV7.api.async(connection, -1, isolation, request);
      for (const { partitionIndex, offset } of response.topics[0]?.partitions ?? []) {
        offsets.set(partitionIndex, Number(offset));
      }
    }
    return offsets;
  }

  async fetch(
    broker: Broker,
    targets: readonly FetchTarget[],
    limits: FetchLimits,
  ): Promise<FetchedPartition[]> {
    const connection = await this.#pool.get(broker);
    await this.#checkVersion(connection);
    const topics = [...Map.groupBy(targets, (target) => target.topicId)].map(
      ([topicId, partitions]) => ({
        topicId,
        partitions: partitions.map(({ partition, offset }) => ({
          partition,
          currentLeaderEpoch: -1,
          fetchOffset: BigInt(offset),
          lastFetchedEpoch: -1,
          partitionMaxBytes: limits.maxBytesPerPartition,
        })),
      }),
    );
    // Session 0, epoch -1: no fetch session. A session saves bytes with thousands of partitions per
    // reader and costs a protocol of its own at every leader change.
    const payload = () =>
      fetchV13.createRequest(
        limits.maxWaitMs,
        1,
        limits.maxBytes,
        READ_COMMITTED,
        0,
        -1,
        topics,
        [],
        '',
      );
    return await new Promise<FetchedPartition[]>((resolve, reject) => {
      connection.send(
        FETCH_API,
        FETCH_VERSION,
        payload,
        parseFetchResponse,
        true,
        true,
        (error: Error | null, response?: FetchedPartition[]) => {
          if (error === null && response !== undefined) resolve(response);
          else reject(error);
        },
      );
    });
  }

  async commit(
    groupId: string,
    topic: string,
    offsets: ReadonlyMap<number, number>,
  ): Promise<void> {
    const connection = await this.#any();
    const found = await findCoordinatorV4.api.async(connection, GROUP_COORDINATOR, [groupId]);
    const coordinator = found.coordinators[0];
    if (coordinator === undefined) {
      throw new TriggerJobError('KAFKA_REQUEST_FAILED', `group ${groupId} has no coordinator`, {
        retryable: true,
      });
    }
    const partitions = [...offsets].map(([partitionIndex, offset]) => ({
      partitionIndex,
      committedOffset: BigInt(offset),
      committedLeaderEpoch: -1,
      committedMetadata: null,
    }));
    const target = await this.#pool.get({ host: coordinator.host, port: coordinator.port });
    await offsetCommitV8.api.async(target, groupId, -1, '', null, [{ name: topic, partitions }]);
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  /**
   * A connection for questions that any broker answers; known brokers serve when bootstrap is
   * gone.
   */
  async #any(): Promise<Connection> {
    const connection = await this.#pool.getFirstAvailable([...this.#bootstrap, ...this.#known]);
    await this.#checkVersion(connection);
    return connection;
  }

  /**
   * An older broker drops the connection at an unknown version: without this it looks like a
   * fault.
   */
  async #checkVersion(connection: Connection): Promise<void> {
    if (this.#checked) return;
    const { apiKeys } = await apiVersionsV3.api.async(connection, CLIENT_NAME, '1');
    const fetch = apiKeys.find(({ apiKey }) => apiKey === FETCH_API);
    if (fetch === undefined || fetch.maxVersion < FETCH_VERSION) {
      throw new TriggerJobError(
        'SOURCE_BROKER_TOO_OLD',
        `the Kafka broker speaks Fetch up to v${fetch?.maxVersion ?? 0}, not v${FETCH_VERSION}; ` +
          'topic ids need Kafka 3.1 or newer',
      );
    }
    this.#checked = true;
  }
}

/** Takes what was answered although some part of the answer bears an error code. */
async function partial<Response>(answer: Promise<Response>): Promise<Response> {
  try {
    return await answer;
  } catch (error) {
    const response = error instanceof ResponseError ? error['response'] : undefined;
    if (response === undefined) throw error;
    return response as Response;
  }
}

function parseBroker(server: Broker | string): Broker {
  if (typeof server !== 'string') return server;
  const colon = server.lastIndexOf(':');
  return {
    host: server.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(server.slice(colon + 1)),
  };
}

/** Fetch response v13. One topic per reader, so partitions need no topic beside them. */
function parseFetchResponse(
  _correlationId: number,
  _apiKey: number,
  _apiVersion: number,
  reader: Reader,
): FetchedPartition[] {
  reader.skip(4); // throttle time: the broker has waited already
  const errorCode = reader.readInt16();
  reader.skip(4); // session id
  if (errorCode !== 0) {
    throw new TriggerJobError(
      'KAFKA_REQUEST_FAILED',
      `Kafka answers error ${errorCode} to a fetch`,
      {
        retryable: true,
      },
    );
  }
  const topics = reader.readArray((topic) => {
    topic.skip(16); // topic id: the one that was asked for, or the broker says unknown
    return topic.readArray(parseFetchedPartition);
  });
  return topics.flat();
}

function parseFetchedPartition(reader: Reader): FetchedPartition {
  const partition = reader.readInt32();
  const errorCode = reader.readInt16();
  const highWatermark = Number(reader.readInt64());
  const lastStableOffset = Number(reader.readInt64());
  reader.skip(8); // log start offset: asked for separately when it matters
  const aborted = reader.readNullableArray((r) => ({
    producerId: r.readInt64(),
    firstOffset: Number(r.readInt64()),
  }));
  reader.skip(4); // preferred read replica: none, no rack is sent
  const size = Math.max(0, reader.readUnsignedVarInt() - 1);
  const records = reader.buffer.slice(reader.position, reader.position + size);
  reader.skip(size);
  return { partition, errorCode, highWatermark, lastStableOffset, aborted: aborted ?? [], records };
}
