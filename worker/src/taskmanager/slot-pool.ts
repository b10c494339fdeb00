/**
 * Slot threads that wait for a task: their code is loaded, which takes most of a slot's start and
 * needs neither leader nor plan. So it is done while the JobManager starts, and again between two
 * attempts. A thread's heap limit is given at its start and stays: one that waits with another
 * limit than a plan's is of no use to it.
 */
import { Worker } from 'node:worker_threads';
import { setHeapFlags } from './heap-flags.ts';

/**
 * Room for young objects: with V8's 16 MB an event's objects are promoted before they die, and the
 * collector marks the whole heap of live users more often (bench/one-slot.ts). V8 uses all of it
 * and gives none back, so in a small TaskManager it is a share of the slot's heap.
 */
const YOUNG = { mostMb: 64, share: 1 / 5 };

export class SlotPool {
  readonly #size: number;
  readonly #entry: URL;
  #heapMb = 0;
  #waiting: Worker[] = [];
  #closed = false;

  /** `size`: the slots of this process. `entry`: what the threads run; only tests have another. */
  constructor(size: number, entry = new URL('./slot-thread.ts', import.meta.url)) {
    setHeapFlags();
    this.#size = size;
    this.#entry = entry;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Starts threads until as many wait as there are slots. */
  fill(heapMb: number): void {
    if (this.#closed) return;
    this.#limit(heapMb);
    while (this.#waiting.length < this.#size) this.#waiting.push(this.#start());
  }

  /** One that waits, if there is one; its owner ends it. */
  take(heapMb: number): Worker {
    this.#limit(heapMb);
    const thread = this.#waiting.shift() ?? this.#start();
    thread.removeAllListeners('error').removeAllListeners('exit');
    return thread;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#drop();
  }

  #limit(heapMb: number): void {
    if (heapMb === this.#heapMb) return;
    this.#heapMb = heapMb;
    void this.#drop();
  }

  async #drop(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    await Promise.all(waiting.map((thread) => thread.terminate()));
  }

  #start(): Worker {
    const heapMb = this.#heapMb;
    const youngMb = Math.min(YOUNG.mostMb, Math.floor(heapMb * YOUNG.share));
    const thread = new Worker(this.#entry, {
      name: 'slot',
      resourceLimits: { maxOldGenerationSizeMb: heapMb, maxYoungGenerationSizeMb: youngMb },
    });
    // What fails while it waits fails again for the task that then starts one, and is told there.
    thread.on('error', () => undefined);
    thread.on('exit', () => {
      this.#waiting = this.#waiting.filter((one) => one !== thread);
    });
    return thread;
  }
}
