/**
 * The JobManager's view of a Kafka topic: its partitions, where to start, where logs end, and the
 * group's committed offsets for lag tools. Asks a bounded time, then leaves it to the caller.
 */
import type { KafkaSourcePlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { kafkaErrorText } from './kafka-client.ts';
import { backoffMs } from './kafka-faults.ts';
import { EARLIEST, type KafkaTransport, LATEST, type TopicView } from './kafka-transport.ts';
import type { Split, SplitEnumerator, SplitPosition } from './source.ts';

/** How long one question is repeated while the cluster does not answer. */
const PATIENCE_MS = 30_000;

export class KafkaSplitEnumerator implements SplitEnumerator {
  readonly #plan: KafkaSourcePlan;
  readonly #env: Env;
  readonly #open: () => Promise<KafkaTransport>;
  readonly #stop = new AbortController();
  #transport: KafkaTransport | null = null;
  /** The topic's id as the job knows it: of a restored split, else of the first discovery. */
  #topicId: string | null;

  constructor(options: {
    plan: KafkaSourcePlan;
    env: Env;
    open: () => Promise<KafkaTransport>;
    known: readonly Split[];
  }) {
    this.#plan = options.plan;
    this.#env = options.env;
    this.#open = options.open;
    this.#topicId = options.known[0]?.sourceId ?? null;
  }

  async discover(): Promise<Omit<Split, 'index'>[]> {
    const { topicId, leaders } = await this.#persist((transport) => this.#topic(transport));
    const { topic } = this.#plan;
    return leaders.map((_, partition) => ({
      id: `${topic}-${partition}`,
      sourceId: topicId,
      partition,
    }));
  }

  async startingOffsets(splits: readonly Split[]): Promise<Map<number, number>> {
    const start = this.#plan.startingOffsets;
    if (start.kind === 'earliest') return await this.#offsets(splits, EARLIEST, true);
    // The last stable offset: an open transaction's records are not read yet, so they are "new".
    const latest = await this.#offsets(splits, LATEST, true);
    if (start.kind === 'latest') return latest;
    const found = await this.#offsets(splits, start.timestampMs, true);
    // -1: no record is that new, so reading starts with the next one.
    for (const [index, offset] of found) if (offset < 0) found.set(index, latest.get(index)!);
    return found;
  }

  async earliestOffsets(splits: readonly Split[]): Promise<Map<number, number>> {
    return await this.#offsets(splits, EARLIEST, false);
  }

  /** High watermarks: what P26 waits for includes transactions that are still open. */
  async endOffsets(splits: readonly Split[]): Promise<Map<number, number>> {
    return await this.#offsets(splits, LATEST, false);
  }

  async commit(positions: readonly SplitPosition[]): Promise<void> {
    if (positions.length === 0) return;
    const { groupId, topic } = this.#plan;
    const offsets = new Map(positions.map(({ split, offset }) => [split.partition, offset]));
    // The first commit of a cluster creates its offsets topic: no coordinator for some seconds.
    await this.#persist((transport) => transport.commit(groupId, topic, offsets));
  }

  async close(): Promise<void> {
    this.#stop.abort(new TriggerJobError('SOURCE_CLOSED', 'the source is closed'));
    await this.#disconnect();
  }

  /** Keyed by split index. */
  async #offsets(
    splits: readonly Split[],
    at: number,
    committed: boolean,
  ): Promise<Map<number, number>> {
    if (splits.length === 0) return new Map();
    const { topic } = this.#plan;
    const partitions = splits.map((split) => split.partition);
    const offsets = await this.#persist(async (transport) => {
      const view = await this.#topic(transport);
      return await transport.listOffsets({ topic, view, partitions, at, committed });
    });
    return new Map(
      splits.map(({ index, id, partition }) => {
        const offset = offsets.get(partition);
        if (offset !== undefined) return [index, offset];
        throw new TriggerJobError('SOURCE_FAILED', `split ${id}: Kafka answers without an offset`);
      }),
    );
  }

  async #topic(transport: KafkaTransport): Promise<TopicView> {
    const { topic } = this.#plan;
    const view = await transport.topic(topic);
    if (view === null) {
      throw new TriggerJobError(
        'SOURCE_TOPIC_MISSING',
        `topic ${topic} does not exist; create it or correct spec.source.kafka.topic`,
        { retryable: true },
      );
    }
    this.#topicId ??= view.topicId;
    if (view.topicId === this.#topicId) return view;
    throw new TriggerJobError(
      'SOURCE_TOPIC_RECREATED',
      `topic ${topic} was deleted and created again (topic id ${view.topicId}, the state is of ` +
        `${this.#topicId}); its offsets mean nothing now: start without the old state`,
    );
  }

  /** Repeats a question through faults of the cluster; our own errors are answers. */
  async #persist<Answer>(question: (transport: KafkaTransport) => Promise<Answer>) {
    const deadline = this.#env.monotonic() + PATIENCE_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(question);
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        const ours = error instanceof TriggerJobError && error.code !== 'KAFKA_UNAVAILABLE';
        if (ours || this.#env.monotonic() >= deadline) throw error;
        await sleep(this.#env, backoffMs(attempt, this.#env.random()), this.#stop.signal);
      }
    }
  }

  async #once<Answer>(question: (transport: KafkaTransport) => Promise<Answer>): Promise<Answer> {
    this.#stop.signal.throwIfAborted();
    try {
      this.#transport ??= await this.#open();
      return await question(this.#transport);
    } catch (error) {
      await this.#disconnect();
      if (error instanceof TriggerJobError && error.code !== 'KAFKA_REQUEST_FAILED') throw error;
      const { bootstrapServers } = this.#plan.connection;
      throw new TriggerJobError(
        'KAFKA_UNAVAILABLE',
        `Kafka at ${bootstrapServers.join(',')}: ${kafkaErrorText(error)}`,
        { retryable: true, cause: error },
      );
    }
  }

  async #disconnect(): Promise<void> {
    const transport = this.#transport;
    this.#transport = null;
    await transport?.close().catch(() => {});
  }
}
