/** Runs seeds 1 to `seeds` on all cores. Which thread runs which is chance; a seed's run is not. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Hits } from '../rehearsal/seeded.ts';
import { realEnv } from '../runtime/env.ts';

const FILE = 'worker/src/sim/cluster.sim.test.ts';

export interface SeedsStart {
  seeds: number;
  /** Int32: seeds that were taken by a thread so far. */
  taken: SharedArrayBuffer;
}

export interface SeedsEnd {
  hits: [string, number][];
  failed: { seed: number; message: string } | null;
}

export interface SeedsRun {
  hits: Hits;
  seconds: number;
  /** Of this whole process meanwhile. */
  cpuSeconds: number;
}

/** Rejects with the lowest seed that failed, among those that were run. */
export async function runSeeds(seeds: number): Promise<SeedsRun> {
  const startedAt = realEnv.monotonic();
  const used = process.cpuUsage();
  const taken = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const start: SeedsStart = { seeds, taken };
  const ends = await Promise.all(Array.from({ length: availableParallelism() }, () => run(start)));
  const failures = ends.flatMap(({ failed }) => failed ?? []).toSorted((a, b) => a.seed - b.seed);
  const first = failures[0];
  if (first !== undefined) {
    const again = `TRIGGERJOB_SIM_SEED=${first.seed} npx node --test ${FILE}`;
    throw new Error(`seed ${first.seed}: ${first.message}\nagain: ${again}`);
  }
  const all = new Hits();
  for (const { hits } of ends) for (const [what, count] of hits) all.add(what, count);
  const { user, system } = process.cpuUsage(used);
  const seconds = (realEnv.monotonic() - startedAt) / 1000;
  return { hits: all, seconds, cpuSeconds: (user + system) / 1e6 };
}

function run(start: SeedsStart): Promise<SeedsEnd> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./seed-worker.ts', import.meta.url), { workerData: start });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`a thread of the seeds ended with ${code}`)));
  });
}
