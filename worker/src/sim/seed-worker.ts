/** A thread of seeds.ts: runs the next seed that no other has taken, until none is left. */
import './quiet-zstd.ts';
import { parentPort, workerData } from 'node:worker_threads';
import { Hits } from '../rehearsal/seeded.ts';
import { messageOf } from '../runtime/errors.ts';
import type { SeedsEnd, SeedsStart } from './seeds.ts';
import { runSeed } from './world.ts';

const { seeds, taken } = workerData as SeedsStart;
const counter = new Int32Array(taken);
const hits = new Hits();
let failed: SeedsEnd['failed'] = null;
for (let seed = next(); seed <= seeds && failed === null; seed = next()) {
  try {
    await runSeed(seed, hits);
  } catch (fault) {
    failed = { seed, message: messageOf(fault) };
    // The others need not go on.
    Atomics.store(counter, 0, seeds);
  }
}
parentPort?.postMessage({ hits: [...hits.counts], failed } satisfies SeedsEnd);

function next(): number {
  return Atomics.add(counter, 0, 1) + 1;
}
