/**
 * How V8 collects the heaps of the slot threads. A slot's heap is small and steady (the texts of
 * its users lie outside, slab-arena.ts), but what lies outside counts when V8 decides on a full
 * collection, and with its own rules for a heap of this size some 20 MB of change start one.
 *
 * - `heap-growing-percent`: each slot marked its whole heap every 0.6 s, a third of the
 *   TaskManager's CPU (bench, setting a: 37,400 events per CPU-second before, 50,600 with it). The
 *   limit of the heap stays the plan's (slot-worker.ts), halfway to which V8 collects in any case.
 * - `no-parallel-scavenge`: few young objects survive; sharing them out among threads costs more
 *   than copying them, and the slots' threads fill the cores.
 * - `no-allocation-site-pretenuring`: while users are fetched, records wait for them and outlive
 *   several collections, so V8 made every later record in the old space at once: 345 bytes of
 *   garbage per event there, and all that it refers to was copied over. Without it 15 remain
 *   (`bench -- slot-path`: 7.4 us per event between checkpoints before, 6.5 after).
 *
 * `single-threaded-gc` was tried: the same throughput, and pauses of 100 ms, since marking then
 * stops the slot.
 */
import { setFlagsFromString } from 'node:v8';

const FLAGS = [
  '--heap-growing-percent=300',
  '--no-parallel-scavenge',
  '--no-allocation-site-pretenuring',
];

/** Before the first slot's thread is started. */
export function setHeapFlags(): void {
  for (const flag of FLAGS) setFlagsFromString(flag);
}
