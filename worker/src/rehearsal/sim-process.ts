/**
 * One operating-system process of the simulation: what it does ends with it, and stands still with
 * it. All it does begins in one of its threads, by a timer or by what comes from outside.
 */
import type { Env } from '../runtime/env.ts';
import type { Seeded } from './seeded.ts';
import type { VirtualTime } from './virtual-time.ts';

export class SimProcess {
  readonly name: string;
  readonly role: 'jobmanager' | 'taskmanager';
  readonly time: VirtualTime;
  readonly main: SimThread;
  alive = true;
  /** Now or before. */
  stoodStill = false;
  /** Its wall clock is off by this. */
  #jumpedMs = 0;
  readonly #rng: Seeded;
  readonly #stepMs: number;
  readonly #threads: SimThread[] = [];
  #frozenUntil = 0;
  #waking = false;

  /** `stepMs`: what every look at the clock costs; it stands for the work between two looks. */
  constructor(
    name: string,
    role: SimProcess['role'],
    time: VirtualTime,
    rng: Seeded,
    stepMs: number,
  ) {
    this.name = name;
    this.role = role;
    this.time = time;
    this.#rng = rng;
    this.#stepMs = stepMs;
    this.main = this.thread();
  }

  /** Of the main thread. */
  get env(): Env {
    return this.main.env;
  }

  get frozen(): boolean {
    return this.#frozenUntil > this.time.nowMs;
  }

  thread(): SimThread {
    const thread = new SimThread(this);
    this.#threads.push(thread);
    return thread;
  }

  now(): number {
    return Math.floor(this.time.nowMs + this.#jumpedMs);
  }

  monotonic(): number {
    this.time.sign();
    if (this.alive) this.time.nowMs += this.#stepMs;
    return this.time.nowMs;
  }

  random(): number {
    return this.#rng.next();
  }

  id(): string {
    return this.#rng.hex(32);
  }

  /** Somebody set its wall clock. */
  jump(byMs: number): void {
    this.#jumpedMs += byMs;
  }

  /** Somebody set it right. */
  settle(): void {
    this.#jumpedMs = 0;
  }

  /** Stopped, not dead: timers and messages wait until it is woken. */
  freeze(untilMs: number): void {
    this.stoodStill = true;
    this.#frozenUntil = Math.max(this.#frozenUntil, untilMs);
  }

  /** Does `fn` in the main thread, now or when it is woken; never if it is dead then. */
  awake(fn: () => void): void {
    this.main.awake(fn);
  }

  /** A thread has something to do. */
  wake(): void {
    if (this.#waking) return;
    this.#waking = true;
    this.time.after(this.#frozenUntil - this.time.nowMs, () => this.#step());
  }

  kill(): void {
    this.alive = false;
  }

  /** One thing that waited, of any thread: nothing orders two of them. */
  #step(): void {
    this.#waking = false;
    if (!this.alive) return;
    const waiting = this.#threads.filter((thread) => thread.waiting > 0);
    if (waiting.length === 0) return;
    if (!this.frozen) this.#rng.pick(waiting).step();
    this.wake();
  }
}

export class SimThread {
  readonly process: SimProcess;
  readonly env: Env;
  readonly #waiting: (() => void)[] = [];

  constructor(process: SimProcess) {
    this.process = process;
    this.env = {
      now: () => process.now(),
      monotonic: () => process.monotonic(),
      random: () => process.random(),
      id: () => process.id(),
      timer: (delayMs, fn) => {
        let cancelled = false;
        // Late ones wait behind each other, and may still be cancelled.
        const late = () => {
          if (!cancelled) fn();
        };
        const timer = process.time.after(delayMs, () => this.awake(late));
        return {
          cancel: () => {
            cancelled = true;
            timer.cancel();
          },
        };
      },
    };
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** In order with all else of this thread. */
  awake(fn: () => void): void {
    const { process } = this;
    if (!process.alive) return;
    if (!process.frozen && this.#waiting.length === 0) fn();
    else {
      this.#waiting.push(fn);
      process.wake();
    }
  }

  step(): void {
    this.#waiting.shift()?.();
  }
}
