/**
 * Faults between processes as a seed draws them: one-way cuts, processes that stand still, clocks
 * that jump; and savepoints in the midst of them. All are over early enough for what they broke to
 * be found and begun anew before the calm, whose first checkpoint is timed (I10).
 */

import type { Seeded } from '../rehearsal/seeded.ts';
import type { Action, Role } from './actions.ts';

type Span = readonly [number, number];

/** A heartbeat timeout, and some room. */
const AFTERMATH_MS = 5_000;
/** Some are over before anybody has noticed (3 s), some last beyond grace (9 s). */
const SHORT_MS: Span = [200, 2_500];
const LONG_MS: Span = [3_500, 8_000];
const BEYOND_GRACE_MS: Span = [9_500, 12_000];
const JUMPS_MS = [-3_600_000, -2_000, 2_000, 3_600_000] as const;

export interface Timed {
  atMs: number;
  action: Action;
}

/** `untilMs`: when the calm begins. */
export function disturbances(rng: Seeded, untilMs: number, taskManagers: number): Timed[] {
  const all: Timed[] = [];
  for (let count = rng.between(0, 3); count > 0; count--) {
    const action = draw(rng, taskManagers);
    const ms = action.do === 'jump' ? 0 : action.ms;
    // The log asks again after as long as it has tried in vain.
    const tailMs = action.do === 'cut store' ? ms : 0;
    all.push({ atMs: rng.between(500, untilMs - ms - tailMs - AFTERMATH_MS), action });
  }
  if (rng.chance(0.3)) {
    const action: Action = { do: 'savepoint', stop: rng.chance(0.3), drain: rng.chance(0.5) };
    all.push({ atMs: rng.between(2_000, untilMs - AFTERMATH_MS), action });
  }
  return all;
}

function draw(rng: Seeded, taskManagers: number) {
  const ms = rng.between(...rng.pick<Span>([SHORT_MS, LONG_MS, LONG_MS, BEYOND_GRACE_MS]));
  const role = rng.pick<Role>(['jobmanager', 'taskmanager', 'taskmanager']);
  const lost = rng.chance(0.4);
  switch (rng.between(0, taskManagers > 1 ? 4 : 3)) {
    case 0:
      return {
        do: 'cut rpc',
        role: rng.pick<Role>(['jobmanager', 'taskmanager']),
        lost,
        ms,
      } as const;
    case 1: {
      const way = rng.pick(['requests', 'replies'] as const);
      return { do: 'cut store', role, way, lost, ms: Math.min(ms, LONG_MS[1]) } as const;
    }
    case 2:
      return { do: 'freeze', role: 'taskmanager', ms: Math.min(ms, LONG_MS[1]) } as const;
    case 3:
      return { do: 'jump', role, ms: rng.pick(JUMPS_MS) } as const;
    default:
      return { do: 'cut shuffle', lost, ms: Math.min(ms, LONG_MS[1]) } as const;
  }
}
