/**
 * The main thread's end of one slot's thread: gives it its task, asks it, ends it. What the thread
 * says is the owner's matter (taskmanager.ts), but for its metrics and its answers, which are kept
 * here.
 */
import { rm } from 'node:fs/promises';
import type { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { RunningTask, SubtaskMetrics } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf } from '../runtime/errors.ts';
import { slotFolder } from './local-state.ts';
import type { SlotCommand, SlotMessage, SlotStart } from './slot-protocol.ts';

/** A slot that does not close by itself by then is terminated. */
const CLOSE_LIMIT_MS = 5000;
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

  /** `thread`: one that waits (slot-pool.ts). */
  constructor(thread: Worker, start: SlotStart, events: SlotWorkerEvents) {
    const { task, lineage, localStateDir, peers } = start;
    this.subtask = task.subtask;
    this.attempt = task.attempt;
    this.#folder = slotFolder(localStateDir, { lineage, ...task });
    this.#worker = thread;
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
    this.#worker.postMessage(
      start,
      peers.filter((port) => port !== null),
    );
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
