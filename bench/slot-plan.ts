/** The plan of a job of one slot, for benchmarks that build the slot's parts in this process. */
import type { JobPlan } from '../worker/src/plan/job-plan.ts';
import { resolveJob } from '../worker/src/plan/resolve.ts';
import { SCRIPT } from './settings.ts';

export function slotPlan(slotCache: string, processMemory: string, filterScript = SCRIPT): JobPlan {
  const resolution = resolveJob({
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name: 'one-slot' },
    spec: {
      parallelism: 1,
      source: { datagen: {} },
      state: { ttl: '24h', profileApi: { url: 'http://localhost' } },
      filter: { script: filterScript },
      action: { debug: {} },
      checkpointing: { directory: '/unused' },
      taskManager: {
        slots: 1,
        memory: { slotCache },
        resources: { limits: { memory: processMemory } },
      },
    },
  });
  if ('plan' in resolution) return resolution.plan;
  throw new Error(resolution.faults.map(({ message }) => message).join('\n'));
}
