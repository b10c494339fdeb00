/** Makes the reader of a slot and the enumerator of the JobManager for any kind of source. */
import type { KafkaConnectionPlan, SourcePlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { newSourceCounters, type SourceCounters } from './counters.ts';
import { DatagenReader } from './datagen.ts';
import { FileReader } from './file-source.ts';
import { datagenEnumerator, fileEnumerator } from './fixed-enumerator.ts';
import { KafkaSplitEnumerator } from './kafka-enumerator.ts';
import type { KafkaTransport } from './kafka-transport.ts';
import type { Split, SplitEnumerator, SplitReader } from './source.ts';

export interface SplitReaderOptions {
  /** Name in Kafka's logs and quotas; give each slot its own. */
  clientId?: string;
  /** Incremented in place, so that the slot's metrics can read them at any time. */
  counters?: SourceCounters;
}

export interface SplitEnumeratorOptions {
  clientId?: string;
  /** Splits of a restored checkpoint: the topic must still be the one they belong to. */
  known?: readonly Split[];
}

/** Connects at the first `assign`; never fails here. */
export async function createSplitReader(
  plan: SourcePlan,
  env: Env,
  options: SplitReaderOptions = {},
): Promise<SplitReader> {
  const { counters = newSourceCounters(), clientId = 'triggerjob-source' } = options;
  switch (plan.kind) {
    case 'kafka': {
      const { KafkaSplitReader } = await import('./kafka-reader.ts');
      const open = opener(plan.connection, clientId, env);
      return new KafkaSplitReader({ topic: plan.topic, env, counters, open });
    }
    case 'datagen':
      return new DatagenReader(plan, env, counters);
    case 'file':
      return new FileReader(plan, env, counters);
  }
}

/** Connects at the first question; never fails here. */
export function createSplitEnumerator(
  plan: SourcePlan,
  env: Env,
  options: SplitEnumeratorOptions = {},
): SplitEnumerator {
  const { clientId = 'triggerjob-enumerator', known = [] } = options;
  switch (plan.kind) {
    case 'kafka': {
      const open = opener(plan.connection, clientId, env);
      return new KafkaSplitEnumerator({ plan, env, open, known });
    }
    case 'datagen':
      return datagenEnumerator(plan);
    case 'file':
      return fileEnumerator(plan);
  }
}

/** Loads what the enumerator needs later: a standby has the time. */
export async function loadSource(plan: SourcePlan): Promise<void> {
  if (plan.kind === 'kafka') await import('./kafka-requests.ts');
}

/** Loads the Kafka client when it connects first: see kafka-transport.ts. */
function opener(
  connection: KafkaConnectionPlan,
  clientId: string,
  env: Env,
): () => Promise<KafkaTransport> {
  return async () => {
    const { openKafkaTransport } = await import('./kafka-requests.ts');
    return openKafkaTransport(connection, clientId, env);
  };
}
