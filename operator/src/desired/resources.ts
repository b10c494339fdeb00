/** CPU and memory of a pod, with Flink's defaults where the spec is silent. */
import type { V1ResourceRequirements } from '@kubernetes/client-node';
import { parseSize } from '../../../worker/src/plan/size.ts';
import type { DeployedJob } from './deployed-job.ts';

const MEBIBYTE = 1024 * 1024;
/** jobmanager.memory.process.size and kubernetes.jobmanager.cpu.amount of Flink. */
const JOB_MANAGER_BYTES = 1600 * MEBIBYTE;
const JOB_MANAGER_CPU = '1';
/** Of the JobManager's memory; the rest is for Node itself, buffers of RPC and the store. */
const HEAP_SHARE = 0.75;

type Amounts = { [Name in 'cpu' | 'memory' | 'ephemeral-storage']?: string | number };

export interface Given {
  requests?: Amounts;
  limits?: Amounts;
}

/** Kubernetes takes quantities as text. */
const texts = (amounts: Amounts): Record<string, string> =>
  Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, String(amount)]));

/**
 * The process divides its memory by the limit (plan/memory.ts), so there always is one, and the
 * node must have it: a request below would be the first to be killed. CPU has a limit only if the
 * user wants one, since a throttled checkpoint looks like a slow disk.
 */
function requirements(given: Given, cpu: string, memory: string): V1ResourceRequirements {
  const { requests = {}, limits = {} } = given;
  const most = limits.memory ?? requests.memory ?? memory;
  return {
    requests: texts({
      ...limits,
      ...requests,
      cpu: requests.cpu ?? limits.cpu ?? cpu,
      memory: requests.memory ?? most,
    }),
    limits: texts({ ...limits, memory: most }),
  };
}

export function jobManagerResources({ spec }: DeployedJob): V1ResourceRequirements {
  const memory = `${JOB_MANAGER_BYTES / MEBIBYTE}Mi`;
  return requirements(spec.jobManager.resources ?? {}, JOB_MANAGER_CPU, memory);
}

/** A core per slot, as Flink's kubernetes.taskmanager.cpu. */
export function taskManagerResources({ spec, plan }: DeployedJob): V1ResourceRequirements {
  const memory = `${Math.floor(plan.memory.processBytes / MEBIBYTE)}Mi`;
  return requirements(spec.taskManager.resources ?? {}, String(plan.slotsPerTaskManager), memory);
}

/** V8 takes a quarter of the container by itself, and would end with the rest unused. */
export function jobManagerHeapOption(resources: V1ResourceRequirements): string {
  const bytes = parseSize(resources.limits?.memory ?? '') ?? JOB_MANAGER_BYTES;
  return `--max-old-space-size=${Math.floor((bytes * HEAP_SHARE) / MEBIBYTE)}`;
}
