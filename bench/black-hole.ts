/**
 * In place of worker/src/action/open.ts in a measured slot: the action takes each enriched event,
 * completely built, and drops it, as the Flink job's `blackhole` does. What a receiver costs is not
 * the engine's; `--action webhook` shows what real posts cost. With TRIGGERJOB_BENCH_TIMES the
 * moment of each event goes to a file (slot-times.ts), with TRIGGERJOB_BENCH_FIRED its id
 * (fired-log.ts).
 */
import { threadId } from 'node:worker_threads';
import type { ActionExecutor } from '../worker/src/action/action.ts';
import { eventIdOf } from './fired-ids.ts';
import { FiredLogWriter } from './fired-log.ts';
import { SlotTimes } from './slot-times.ts';

export { openDeadLetterWriter } from '../worker/src/action/open.ts';

export function openActionExecutor(): ActionExecutor {
  let delivered = 0;
  const folder = process.env['TRIGGERJOB_BENCH_TIMES'];
  const times = folder === undefined ? null : SlotTimes.open(folder, process.pid, threadId);
  const firedFolder = process.env['TRIGGERJOB_BENCH_FIRED'];
  const fired =
    firedFolder === undefined ? null : FiredLogWriter.open(firedFolder, process.pid, threadId);
  return {
    maxInFlight: 1_024,
    deliver: async ({ timestamp, partition, body }) => {
      delivered += 1;
      times?.add(timestamp);
      fired?.add(timestamp, partition, eventIdOf(body));
      return { kind: 'delivered', attempts: 1 };
    },
    stats: () => ({ delivered }),
    close: async () => {
      times?.close();
      fired?.close();
    },
  };
}
