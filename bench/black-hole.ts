/**
 * In place of worker/src/action/open.ts in a measured slot: the action takes each enriched event,
 * completely built, and drops it, as the Flink job's `blackhole` does. What a receiver costs is not
 * the engine's; `--action webhook` shows what real posts cost.
 */
import type { ActionExecutor } from '../worker/src/action/action.ts';

export { openDeadLetterWriter } from '../worker/src/action/open.ts';

export function openActionExecutor(): ActionExecutor {
  let delivered = 0;
  return {
    maxInFlight: 1_024,
    deliver: async () => {
      delivered += 1;
      return { kind: 'delivered', attempts: 1 };
    },
    stats: () => ({ delivered }),
    close: async () => {},
  };
}
