/**
 * In place of worker/src/action/open.ts in a measured slot: the action takes each enriched event,
 * completely built, and drops it, as the Flink job's `blackhole` does. What a receiver costs is not
 * the engine's; `--action webhook` shows what real posts cost. With TRIGGERJOB_BENCH_TIMES the
 * moment of each event goes to a file (slot-times.ts).
 */
import { threadId } from 'node:worker_threads';
import type { ActionExecutor } from '../worker/src/action/action.ts';
import { SlotTimes } from './slot-times.ts';

export { openDeadLetterWriter } from '../worker/src/action/open.ts';

export function openActionExecutor(): ActionExecutor {
  let delivered = 0;
  const folder = process.env['TRIGGERJOB_BENCH_TIMES'];
  const times = folder === undefined ? null : SlotTimes.open(folder, process.pid, threadId);
  return {
    maxInFlight: 1_024,
    deliver: async ({ timestamp }) => {
      delivered += 1;
      times?.add(timestamp);
      return { kind: 'delivered', attempts: 1 };
    },
    stats: () => ({ delivered }),
    close: async () => times?.close(),
  };
}
