/** Parallelism, and Flink's adaptive scheduler with its names of 1.x and of 2.x. */
import type { FlinkKey } from './flink-key-table.ts';

const ADAPTIVE = 'jobmanager.adaptive-scheduler';

const integer = (to: string, doc: string): FlinkKey => ({
  use: 'field',
  value: 'integer',
  to,
  doc,
});
const duration = (to: string, doc: string): FlinkKey => ({
  use: 'field',
  value: 'duration',
  to: `spec.scaling.${to}`,
  doc,
});
const wait = duration('resourceWait', 'longest wait for missing slots');
const stable = duration('stabilization', 'how long new slots must stay before a rescale');
const cooldown = duration('minInterval', 'least time between two rescales');
const oneWait: FlinkKey = {
  use: 'none',
  value: 'duration',
  doc: 'what is there is taken when resourceWait is over',
};

export const SCALING_KEYS: Readonly<Record<string, FlinkKey>> = {
  'parallelism.default': integer('spec.parallelism', 'subtasks of every stage'),
  'pipeline.max-parallelism': integer('spec.maxParallelism', 'number of key groups'),
  'jobmanager.scheduler': {
    use: 'fixed',
    accepts: ['adaptive'],
    doc: 'the parallelism always follows the slots',
  },
  'scheduler-mode': {
    use: 'refused',
    doc: 'write parallelism.default: up to it, the parallelism follows the slots',
  },
  [`${ADAPTIVE}.resource-wait-timeout`]: wait,
  [`${ADAPTIVE}.submission.resource-wait-timeout`]: wait,
  [`${ADAPTIVE}.resource-stabilization-timeout`]: oneWait,
  [`${ADAPTIVE}.submission.resource-stabilization-timeout`]: oneWait,
  [`${ADAPTIVE}.executing.resource-stabilization-timeout`]: stable,
  [`${ADAPTIVE}.scaling-interval.min`]: cooldown,
  [`${ADAPTIVE}.executing.cooldown-after-rescaling`]: cooldown,
  [`${ADAPTIVE}.min-parallelism-increase`]: {
    use: 'fixed',
    accepts: ['1'],
    doc: 'every slot is used',
  },
};
