/**
 * Loaded into the measured processes with --import; does something in slot threads only:
 * TRIGGERJOB_BENCH_BLACK_HOLE puts black-hole.ts in the action's place, TRIGGERJOB_BENCH_SYNTHETIC
 * synthetic-profiles.ts in that of the Profile API's client. TRIGGERJOB_BENCH_PROFILE names a
 * folder: while the file `start` is in it and `stop` is not, the thread's CPU is profiled.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { PerformanceObserver } from 'node:perf_hooks';
import { isMainThread, threadId } from 'node:worker_threads';

const POLL_MS = 200;
const SAMPLING_US = 500;

/** What slot-thread.ts imports as `replaced` is `file` of this folder. */
function replaceModule(replaced: string, file: string): void {
  const url = new URL(file, import.meta.url).href;
  registerHooks({
    resolve(specifier, context, next) {
      const ours = specifier === replaced && context.parentURL?.endsWith('/slot-thread.ts');
      return ours === true ? { url, shortCircuit: true } : next(specifier, context);
    },
  });
}

/** Milliseconds of garbage collection by kind (1 scavenge, 2 minor, 4 mark-compact...). */
function watchCollector(): { reset(): void; kinds: Map<number, { count: number; ms: number }> } {
  const kinds = new Map<number, { count: number; ms: number }>();
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const kind = (entry as unknown as { detail: { kind: number } }).detail.kind;
      const known = kinds.get(kind) ?? { count: 0, ms: 0 };
      kinds.set(kind, { count: known.count + 1, ms: known.ms + entry.duration });
    }
  }).observe({ entryTypes: ['gc'] });
  return { kinds, reset: () => kinds.clear() };
}

async function profile(folder: string): Promise<void> {
  const collector = watchCollector();
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: SAMPLING_US });
  await fileExists(join(folder, 'start'));
  collector.reset();
  const startedAt = performance.now();
  const cpu = process.threadCpuUsage();
  await session.post('Profiler.start');
  await fileExists(join(folder, 'stop'));
  const { profile: result } = await session.post('Profiler.stop');
  const used = process.threadCpuUsage(cpu);
  const facts = {
    wallMs: performance.now() - startedAt,
    threadCpuMs: (used.user + used.system) / 1_000,
    collections: Object.fromEntries(collector.kinds),
    memory: process.memoryUsage(),
  };
  writeFileSync(join(folder, `thread-${threadId}.cpuprofile`), JSON.stringify(result));
  writeFileSync(join(folder, `thread-${threadId}.json`), JSON.stringify(facts, null, 2));
}

function fileExists(path: string): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (!existsSync(path)) return;
      clearInterval(timer);
      resolve();
    }, POLL_MS);
    timer.unref();
  });
}

if (!isMainThread) {
  if (process.env['TRIGGERJOB_BENCH_BLACK_HOLE'] === '1') {
    replaceModule('../action/open.ts', './black-hole.ts');
  }
  if (process.env['TRIGGERJOB_BENCH_SYNTHETIC'] === '1') {
    replaceModule('../state/http-profile-api.ts', './synthetic-profiles.ts');
  }
  const folder = process.env['TRIGGERJOB_BENCH_PROFILE'];
  if (folder !== undefined) profile(folder).catch((error: unknown) => console.error(error));
}
