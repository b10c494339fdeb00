/**
 * The main thread's end of one slot's thread: starts it, asks it, ends it. What the thread says is
 * the owner's matter (taskmanager.ts), but for its metrics and its answers, which are kept here.
 */
import { rm } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { RunningTask, SubtaskMetrics } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf } from '../runtime/errors.ts';
import { slotFolder } from './local-state.ts';
import type { SlotCommand, SlotMessage, SlotStart } from './slot-protocol.ts';

/** A slot that does not close by itself by then is terminated. */
const CLOSE_LIMIT_MS = 5000;
/**
 * Room for young objects: with V8's 16 MB an event's objects are promoted before they die, and the
 * collector marks the whole heap of live users more often (bench/one-slot.ts).
 */
const YOUNG_MB = 64;

/** What the owner has to act on. */
export type SlotEvent = Extract<SlotMessage, { type: 'report' | 'fault' | 'answer' }>;

export interface SlotWorkerEvents {
  said(message: SlotEvent): void;
  /** The thread ended without a word. */
  failed(code: string, error: string): void;
}

export class SlotWorker {
  readonly subtask: number;
  readonly attempt: number;
  metrics: SubtaskMetrics | null = null;
  readonly #worker: Worker;
  /** Its RocksDB and spool files. */
  readonly #folder: string;
  readonly #closed = Promise.withResolvers<void>();
  /** Answers of the thread that somebody waits for. */
  readonly #described: ((task: RunningTask) => void)[] = [];

  constructor(start: SlotStart, events: SlotWorkerEvents) {
    const { plan, task, lineage, localStateDir, peers } = start;
    this.subtask = task.subtask;
    this.attempt = task.attempt;
    this.#folder = slotFolder(localStateDir, { lineage, ...task });
    this.#worker = new Worker(new URL('./slot-thread.ts', import.meta.url), {
      workerData: start,
      transferList: peers.filter((port) => port !== null),
      name: `slot-${task.slot}`,
      resourceLimits: {
        maxOldGenerationSizeMb: slotHeapMb(plan),
        maxYoungGenerationSizeMb: YOUNG_MB,
      },
    });
    this.#worker.on('message', (message: SlotMessage) => {
      if (message.type === 'closed') this.#closed.resolve();
      else if (message.type === 'metrics') this.metrics = message.metrics;
      else if (message.type === 'described') this.#described.shift()?.(message.task);
      else events.said(message);
    });
    this.#worker.on('error', (error) => events.failed('SLOT_CRASHED', String(error)));
    this.#worker.on('exit', (code) => {
      this.#closed.resolve();
      if (code !== 0) events.failed('SLOT_EXITED', `slot thread exited with ${code}`);
    });
  }

  post(command: SlotCommand): void {
    this.#worker.postMessage(command);
  }

  /** null: it ends. */
  describe(): Promise<RunningTask | null> {
    const answer = Promise.withResolvers<RunningTask>();
    this.#described.push(answer.resolve);
    this.post({ type: 'describe' });
    return Promise.race([answer.promise, this.#closed.promise.then(() => null)]);
  }

  /** Its local state goes with it. */
  async close(env: Env, log: Logger): Promise<void> {
    this.post({ type: 'close' });
    let timer: Timer | null = null;
    const limit = new Promise<void>((resolve) => {
      timer = env.timer(CLOSE_LIMIT_MS, resolve);
    });
    await Promise.race([this.#closed.promise, limit]);
    (timer as Timer | null)?.cancel();
    await this.terminate();
    await rm(this.#folder, { recursive: true, force: true }).catch((error: unknown) => {
      log.warn({ error: messageOf(error) }, 'local state stays behind');
    });
  }

  /** As it stands. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** V8's limit for one slot: its share of what the plan gives to all heaps (plan/memory.ts). */
function slotHeapMb(plan: SlotStart['plan']): number {
  return Math.ceil(plan.memory.heapBytes / plan.slotsPerTaskManager / 1024 / 1024);
}
