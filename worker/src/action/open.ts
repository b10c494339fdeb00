/**
 * Makes the executor and the dead letter that a job's plan names. Imports the HTTP and the Kafka
 * client only for a plan that uses them: each slot is a thread with its own copy of every module.
 */
import type { Logger } from 'pino';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { ActionPlan, DeadLetterPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import type { ActionExecutor, DeadLetterWriter } from './action.ts';
import { FileSink } from './dead-letter-file.ts';
import type { OpenProducer } from './dead-letter-kafka.ts';
import { StoreSink } from './dead-letter-store.ts';
import { openDebug } from './debug.ts';
import { type BatchSink, type GroupLimits, GroupWriter } from './group-writer.ts';

const BACKOFF = { initialBackoffMs: 200, maxBackoffMs: 30_000 };
/** An fsync gathers by itself: what arrives during one goes into the next. */
const FILE_LIMITS = { ...BACKOFF, maxDelayMs: 0, maxBytes: 1024 * 1024, maxEntries: 1_024 };
/** Half of a broker's default limit for one batch (1 MiB), headers included. */
const KAFKA_LIMITS = { ...BACKOFF, maxDelayMs: 5, maxBytes: 512 * 1024, maxEntries: 512 };
/** One object per write would be millions of them in a bad hour. */
const STORE_LIMITS = { ...BACKOFF, maxDelayMs: 100, maxBytes: 1024 * 1024, maxEntries: 4_096 };

/** Rejects with TriggerJobError when the plan can never work (see webhook.ts). */
export async function openActionExecutor(
  plan: ActionPlan,
  env: Env,
  log: Logger,
): Promise<ActionExecutor> {
  if (plan.kind === 'debug') return openDebug();
  const { openWebhook } = await import('./webhook.ts');
  return openWebhook(plan, env, log);
}

interface DeadLetterTuning {
  limits?: Partial<GroupLimits>;
  /** Stands in for the real Kafka producer. */
  openProducer?: OpenProducer;
}

/** `subtask` keeps names apart. Opens nothing yet: the first write does. */
export async function openDeadLetterWriter(
  plan: DeadLetterPlan,
  env: Env,
  store: ObjectStore,
  subtask: number,
  log: Logger,
  tuning: DeadLetterTuning = {},
): Promise<DeadLetterWriter> {
  const group = (sink: BatchSink, limits: GroupLimits) =>
    new GroupWriter(sink, { ...limits, ...tuning.limits }, env, log);
  const toStore = () => group(new StoreSink(store, env, subtask), STORE_LIMITS);
  switch (plan.kind) {
    case 'store':
      return toStore();
    case 'file':
      return group(new FileSink(plan.path), FILE_LIMITS);
    case 'kafka': {
      const { KafkaSink, kafkaProducers } = await import('./dead-letter-kafka.ts');
      const clientId = `triggerjob-dead-letter-${subtask}`;
      const open = tuning.openProducer ?? kafkaProducers(plan.connection, clientId);
      return group(new KafkaSink(plan.topic, env, open, toStore()), KAFKA_LIMITS);
    }
  }
}
