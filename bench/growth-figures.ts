/** Whether the cost of an event stays the same while something grows. Pure. */
import { quantile } from './quantile.ts';
import type { Figure } from './report.ts';

/** One size, smallest first, with the figures of its runs. */
export interface Size {
  name: string;
  eventsPerCpuSecond: number[];
}

/** Of the highest: "within 25 %". */
const SPREAD_GOAL_PERCENT = 25;

export function growthFigures(what: string, sizes: readonly Size[]): Figure[] {
  const medians = sizes.map(({ eventsPerCpuSecond }) => quantile(eventsPerCpuSecond, 0.5));
  // Of all or of none: a size that failed must not make the spread smaller.
  const isWhole = medians.every((median) => !Number.isNaN(median));
  const spread = isWhole ? 100 * (1 - Math.min(...medians) / Math.max(...medians)) : Number.NaN;
  const goal = { atMost: SPREAD_GOAL_PERCENT };
  return [
    ...sizes.map(({ name }, i) => ({ name, value: medians[i]!, unit: 'events/CPU-s' })),
    ...sizes.slice(1).map(({ name }, i) => {
      return {
        name: `  ${name} / ${sizes[0]!.name}`,
        value: medians[i + 1]! / medians[0]!,
        unit: 'x',
      };
    }),
    { name: `${what}: lowest below highest`, value: spread, unit: '%', goal },
  ];
}
