/**
 * The demo on a real broker: is the topic there, and (with --produce) a generated stream into it.
 */
import { Producer } from '@platformatic/kafka';
import type { DatagenSourcePlan, KafkaSourcePlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { newSourceCounters } from '../source/counters.ts';
import { DatagenReader } from '../source/datagen.ts';
import { guardConnections, kafkaClientOptions, kafkaErrorText } from '../source/kafka-client.ts';
import { openKafkaTransport } from '../source/kafka-requests.ts';
import type { Terminal } from './terminal.ts';

const CLIENT = 'triggerjob-demo';
const DEFAULT_USERS = 1_000;
const DEFAULT_RATE = 2_000;
const POLL_MS = 100;
const RETRY_MS = 1_000;

/** Throws DEMO_KAFKA, which says what to do, when the broker or the topic is not there. */
export async function checkTopic(env: Env, source: KafkaSourcePlan): Promise<void> {
  const servers = source.connection.bootstrapServers.join(',');
  const transport = await openKafkaTransport(source.connection, CLIENT, env);
  try {
    const view = await transport.topic(source.topic).catch((error: unknown) => {
      throw new TriggerJobError(
        'DEMO_KAFKA',
        `no broker answers at ${servers}: ${kafkaErrorText(error)}`,
      );
    });
    if (view !== null) return;
  } finally {
    await transport.close();
  }
  throw new TriggerJobError(
    'DEMO_KAFKA',
    `topic ${source.topic} does not exist at ${servers}; create it: kafka-topics.sh ` +
      `--bootstrap-server ${servers} --create --topic ${source.topic} --partitions 4`,
  );
}

/**
 * Writes the generated stream into the topic, keyed by user, until the signal; faults of the broker
 * are shown and tried again. Each start begins with record 0: the topic is no replayable source.
 */
export async function produceEvents(
  env: Env,
  terminal: Terminal,
  source: KafkaSourcePlan,
  size: { users: number | null; rate: number | null },
  signal: AbortSignal,
): Promise<void> {
  const plan: DatagenSourcePlan = {
    kind: 'datagen',
    eventsPerSecond: size.rate ?? DEFAULT_RATE,
    users: size.users ?? DEFAULT_USERS,
    seed: 1,
    splits: 1,
    limit: null,
    maxRecordBytes: source.maxRecordBytes,
  };
  const producer = new Producer<string, Buffer, string, string>({
    ...(await kafkaClientOptions(source.connection, CLIENT)),
    serializers: { key: (text) => Buffer.from(text ?? ''), value: (bytes) => bytes },
  });
  guardConnections(producer.connections);
  const reader = new DatagenReader(plan, env, newSourceCounters());
  const split = { index: 0, id: 'demo-0', sourceId: 'demo', partition: 0 };
  reader.assign([{ split, offset: 0, clock: -1 }]);
  try {
    while (!signal.aborted) {
      const batch = await reader.poll(POLL_MS);
      const messages = [...(batch?.records ?? [])].flatMap(({ value }) =>
        value === null ? [] : [{ topic: source.topic, key: userOf(value), value }],
      );
      if (messages.length > 0) await sendAll(env, terminal, producer, messages, signal);
    }
  } finally {
    await reader.close();
    await producer.close();
  }
}

/** The message key never decides the route in the job (P24); it keeps a user in one partition. */
function userOf(value: Buffer): string {
  const event: unknown = JSON.parse(value.toString('utf8'));
  return String((event as { user_id?: unknown }).user_id);
}

type DemoProducer = Producer<string, Buffer, string, string>;

async function sendAll(
  env: Env,
  terminal: Terminal,
  producer: DemoProducer,
  messages: { topic: string; key: string; value: Buffer }[],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await producer.send({ messages });
      return;
    } catch (error) {
      terminal.error(`the demo could not write to ${messages[0]?.topic}: ${messageOf(error)}`);
      await sleep(env, RETRY_MS, signal).catch(() => undefined);
    }
  }
}
