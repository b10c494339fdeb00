/**
 * The TriggerJob files of the checker and of the fault runs. Written as JSON, which is YAML too.
 */
import { writeFile } from 'node:fs/promises';
import { FILTER_SCRIPT } from './fold.ts';

type Block = Record<string, unknown>;

export interface JobFile {
  name: string;
  bootstrap: string;
  topic: string;
  profileUrl: string;
  webhookUrl: string;
  checkpointInterval: string;
  /** 4 unless told. */
  parallelism?: number;
  /** Further fields, laid over those of the block of the same name. */
  state?: Block;
  profileApi?: Block;
  filter?: Block;
  webhook?: Block;
  source?: Block;
  taskManager?: Block;
  jobManager?: Block;
  checkpointing?: Block;
  heartbeat?: Block;
  restartStrategy?: Block;
  scaling?: Block;
  deadLetter?: Block;
}

export async function writeJobFile(path: string, job: JobFile): Promise<void> {
  const { bootstrap, topic, webhookUrl } = job;
  const spec = {
    parallelism: job.parallelism ?? 4,
    maxParallelism: 128,
    source: { kafka: { bootstrapServers: bootstrap, topic, ...job.source } },
    state: {
      ...job.state,
      profileApi: {
        url: job.profileUrl,
        timeout: '2s',
        initialBackoff: '100ms',
        maxBackoff: '1s',
        ...job.profileApi,
      },
    },
    filter: job.filter ?? { language: 'aviator', script: FILTER_SCRIPT },
    action: {
      webhook: {
        url: webhookUrl,
        timeout: '5s',
        initialBackoff: '50ms',
        maxBackoff: '1s',
        allowPrivateAddresses: true,
        ...job.webhook,
      },
    },
    ...(job.deadLetter !== undefined && { deadLetter: job.deadLetter }),
    checkpointing: {
      interval: job.checkpointInterval,
      minPause: '0s',
      timeout: '60s',
      ...job.checkpointing,
    },
    // Quick and without end: the killer decides how often the job restarts.
    restartStrategy: {
      type: 'fixed-delay',
      fixedDelay: { attempts: 10_000, delay: '100ms' },
      ...job.restartStrategy,
    },
    // The status changes with the heartbeat; the checker wants to see each second before a kill.
    heartbeat: { interval: '200ms', ...job.heartbeat },
    taskManager: { slots: 4, ...job.taskManager },
    ...(job.jobManager !== undefined && { jobManager: job.jobManager }),
    ...(job.scaling !== undefined && { scaling: job.scaling }),
  };
  const file = {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name: job.name },
    spec,
  };
  await writeFile(path, JSON.stringify(file, null, 2));
}
