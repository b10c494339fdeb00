/** The jobs and settings that the tests of desired/ render. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { type DeployedJob, deployedJob } from './deployed-job.ts';
import type { OperatorSettings } from './desired.ts';

export type Fields = Record<string, unknown>;

export const SETTINGS: OperatorSettings = {
  workerImage: 'triggerjob-worker:0.1.0',
  hmacKeys: ['0123456789abcdef0123456789abcdef'],
  clusterDomain: '',
  operatorNamespace: 'triggerjob-system',
  restClients: [],
};

const UID = '6f1c0b9e-9f6e-4a53-8d0b-2a5d1f0c7e11';
const IDENTITY = { name: 'user-events', namespace: 'triggers', uid: UID };

export const MINIMAL_SPEC: Fields = {
  source: { kafka: { bootstrapServers: 'kafka:9092', topic: 'events' } },
  filter: { script: 'event.triggerable' },
  action: { debug: {} },
  checkpointing: { directory: 's3://bucket/checkpoints' },
};

/** The job of a spec that must be valid. */
export function jobOf(
  spec: Fields = MINIMAL_SPEC,
  identity: Partial<typeof IDENTITY> = {},
): DeployedJob {
  const made = deployedJob({ ...IDENTITY, ...identity }, spec);
  if ('job' in made) return made.job;
  throw new Error(made.faults.map(({ message }) => message).join('\n'));
}

/** A job of config/samples/, by its own name or another. */
export function sampleJob(name: string, as?: string): DeployedJob {
  const path = fileURLToPath(new URL(`../../../config/samples/${name}.yaml`, import.meta.url));
  const sample: { metadata: { name: string }; spec: Fields } = parse(readFileSync(path, 'utf8'));
  return jobOf(sample.spec, { name: as ?? sample.metadata.name });
}
