/** Every bounded place of the job (I7), those of the slots summed over slots. Pure. */
import type { JobView } from '../jobmanager/job-view.ts';
import { type Bounds, LIMIT_SUFFIX } from '../runtime/bound.ts';

/** Distinct names of `SubtaskMetrics.extra` that become metrics (I7). */
export const MAX_EXTRA = 200;

export interface Fill {
  value: number;
  limit: number;
  /** Of the fullest one, 1 = at its limit: a sum hides it. */
  ratio: number;
}

/** `more`: places of the process that asks. */
export function boundsOf(view: JobView, more: Bounds): Map<string, Fill> {
  const bounds = new Map<string, Fill>();
  const add = (name: string, value: number, limit: number) => {
    const known = bounds.get(name) ?? { value: 0, limit: 0, ratio: 0 };
    const ratio = limit > 0 ? value / limit : 0;
    bounds.set(name, {
      value: known.value + value,
      limit: known.limit + limit,
      ratio: Math.max(known.ratio, ratio),
    });
  };
  for (const { extra } of view.subtasks) {
    for (const [key, limit] of Object.entries(extra)) {
      if (!key.endsWith(LIMIT_SUFFIX) || bounds.size >= MAX_EXTRA) continue;
      const name = key.slice(0, -LIMIT_SUFFIX.length);
      add(name, extra[name] ?? 0, limit);
    }
  }
  for (const [name, { value, limit }] of Object.entries({ ...view.bounds, ...more })) {
    add(name, value, limit);
  }
  return bounds;
}
