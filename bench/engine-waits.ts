/** Waiting for what an engine under measurement has to do, without waiting for ever. */
import { setTimeout as wait } from 'node:timers/promises';
import type { Expected } from './dataset.ts';
import type { EngineRun, Processes } from './engine.ts';
import { cpuSeconds } from './process-figures.ts';

const POLL_MS = 100;
/** What is timed by it is seen in files that tell moments: it bounds nothing that is printed. */
const LOOK_MS = 50;
const STALLED_AFTER_MS = 180_000;
/** A JVM without memory goes on for hours, a little at a time. */
const RUN_LIMIT_MS = 20 * 60_000;

export interface Sample {
  at: number;
  processed: number;
  /** User + system of JobManager and TaskManager. */
  cpuSeconds: number;
}

/** When it was handled. */
export async function firstRecord(run: EngineRun): Promise<number> {
  for (const deadline = Date.now() + STALLED_AFTER_MS; ; await wait(POLL_MS)) {
    const at = await run.firstRecordAt();
    if (at !== null) return at;
    await run.progress();
    if (Date.now() > deadline) throw new Error('no record came');
  }
}

/** The first look at the counter that finds so many events. */
export async function reach(run: EngineRun, target: number): Promise<Sample> {
  let seen = -1;
  for (let deadline = Date.now() + STALLED_AFTER_MS; ; await wait(POLL_MS)) {
    const progress = await run.progress();
    const processed = progress?.processed ?? seen;
    if (progress !== null && processed >= target) {
      return { ...progress, cpuSeconds: cpuOf(await run.processes()) };
    }
    if (processed > seen) deadline = Date.now() + STALLED_AFTER_MS;
    seen = processed;
    const isLate = Date.now() > run.startedAt + RUN_LIMIT_MS;
    if (!isLate && Date.now() < deadline) continue;
    throw new Error(`stalled at ${seen} of ${target} events`);
  }
}

export async function lookUntil<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  for (const deadline = Date.now() + STALLED_AFTER_MS; ; await wait(LOOK_MS)) {
    // The REST API may be busy with a restart.
    const found = await look().catch(() => null);
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
  }
}

/** Waits until the results are; what they are, if they stay wrong. */
export async function untilRight(
  run: EngineRun,
  topic: { readonly expected: Expected },
): Promise<string | null> {
  const { expected } = topic;
  let last = '';
  for (let deadline = Date.now() + STALLED_AFTER_MS; ; await wait(POLL_MS)) {
    const { events, fired, firedSum, faults } = await run.outcome();
    const found: Expected = { events: events ?? expected.events, fired, firedSum };
    const text = JSON.stringify(found);
    if (text === JSON.stringify(expected) && faults.length === 0) return null;
    if (text !== last) deadline = Date.now() + STALLED_AFTER_MS;
    last = text;
    if (Date.now() < deadline) continue;
    return [`found ${text}, expected ${JSON.stringify(expected)}`, ...faults].join('; ');
  }
}

function cpuOf({ jobManager, taskManager }: Processes): number {
  return cpuSeconds(jobManager) + cpuSeconds(taskManager);
}
