/**
 * A task's barriers: where its source stood, alignment, the synchronous part of a checkpoint (P19,
 * P21, P34). What follows the barrier's turn is the checkpointer's.
 */
import type { BarrierFrame } from '../exchange/frame.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';
import type { Checkpointer } from './checkpointer.ts';
import { compileVersion, type SlotConfig, type SlotParts, type SlotPorts } from './slot-parts.ts';
import { type CapturedVolatile, captureLedger, type VolatileRecord } from './volatile.ts';

export interface BarrierOptions {
  ports: SlotPorts;
  config: SlotConfig;
  parts: SlotParts;
  checkpointer: Checkpointer;
  /** Input accepted before a barrier while the task could not process (P17). */
  deferred: () => readonly VolatileRecord[];
  /** Channels were opened: there is input again. */
  opened: () => void;
}

export class TaskBarriers {
  readonly #options: BarrierOptions;
  /** Source positions at each barrier under way. */
  readonly #positions = new Map<number, SplitPosition[]>();
  #lastTaken = 0;
  #seen = 0;

  constructor(options: BarrierOptions) {
    this.#options = options;
  }

  /** Highest checkpoint of which this task has sent or seen a barrier; 0 = none. */
  get seen(): number {
    return this.#seen;
  }

  /** Highest checkpoint whose barriers were all there. */
  get taken(): number {
    return this.#lastTaken;
  }

  /** The JobManager triggered: the source emits the barrier in-line. */
  trigger(checkpointId: number, triggeredAt: number, script: ScriptVersion): void {
    this.#seen = Math.max(this.#seen, checkpointId);
    const positions = this.#options.parts.source.barrier(checkpointId, triggeredAt, script);
    this.#positions.set(checkpointId, positions);
  }

  /**
   * The JobManager gave the checkpoint up (P21). A task that has not taken it says so: the
   * coordinator waits for a word of every task before the next one (P7). One that has will report
   * `drained`.
   */
  abort(checkpointId: number): void {
    if (checkpointId <= this.#lastTaken) return;
    this.#cancel(checkpointId);
    this.#decline(checkpointId, 'aborted before the barrier was complete');
  }

  /** A barrier that is waited for may never come (P21). */
  inputLost(): void {
    const { pending } = this.#options.parts.aligner;
    if (pending === null) return;
    this.#cancel(pending);
    this.#decline(pending, 'an input was lost');
  }

  #cancel(checkpointId: number): void {
    this.#options.parts.aligner.cancel(checkpointId);
    this.#options.parts.pauses.cancel(checkpointId);
    this.#positions.delete(checkpointId);
    this.#options.opened();
  }

  arrived(channel: number, frame: BarrierFrame): void {
    const { ports, parts } = this.#options;
    this.#seen = Math.max(this.#seen, frame.checkpointId);
    const outcome = parts.aligner.onBarrier(channel, frame.checkpointId);
    if (outcome.kind === 'ignored') return;
    if (outcome.superseded !== null) {
      this.#positions.delete(outcome.superseded);
      this.#decline(outcome.superseded, `superseded by checkpoint ${frame.checkpointId}`);
    }
    const startDelayMs = Math.max(0, ports.env.now() - frame.triggeredAt);
    const first = parts.pauses.barrier(frame.checkpointId, startDelayMs);
    if (outcome.kind === 'aligned') this.#aligned(frame);
    else if (first) this.#limitAlignment(frame.checkpointId);
  }

  /** A leader that died after triggering some sources must not block the rest for ever (P21). */
  #limitAlignment(checkpointId: number): void {
    const { ports, parts, config } = this.#options;
    const limitMs = config.plan.checkpointing.timeoutMs;
    ports.env.timer(limitMs, () => {
      if (parts.aligner.pending !== checkpointId) return;
      this.#cancel(checkpointId);
      this.#decline(checkpointId, `not aligned within ${limitMs} ms`);
    });
  }

  #decline(checkpointId: number, reason: string): void {
    const { attempt, subtask } = this.#options.config.task;
    this.#options.ports.report({ type: 'decline', attempt, checkpointId, subtask, reason });
  }

  /** All of interval i is in, nothing of i+1: the synchronous part, by reference only. */
  #aligned({ checkpointId, script }: BarrierFrame): void {
    const { parts, config, checkpointer } = this.#options;
    const { ledger, outbox, manager, processor, pauses } = parts;
    this.#lastTaken = checkpointId;
    pauses.aligned(checkpointId);
    const parked = this.#parked();
    const capture = {
      checkpointId,
      volatile: {
        ledger: captureLedger(ledger, config.task.range),
        parked,
        outbox: outbox.snapshot(),
      },
      splits: this.#takePositions(checkpointId),
      script,
      ledger: ledger.totals(parked.length, outbox.size),
      users: manager.stats.users,
    };
    manager.freeze();
    // P34: the version the barrier carries rules from here on.
    if (script.version !== processor.filter.version) {
      processor.setFilter(compileVersion(config.plan, script));
    }
    checkpointer.begin({ ...capture, figures: pauses.synced(checkpointId) });
  }

  #takePositions(checkpointId: number): () => SplitPosition[] {
    const taken = this.#positions.get(checkpointId) ?? [];
    this.#positions.delete(checkpointId);
    // The defect `offsets-before-snapshot`: positions of the upload's end, beyond what the state
    // has seen.
    const { config, parts } = this.#options;
    return config.mutant === 'offsets-before-snapshot'
      ? () => parts.source.positions()
      : () => taken;
  }

  /** Parked for the Profile API, then deferred input: the order in which a restore handles them. */
  #parked(): CapturedVolatile['parked'] {
    const { processor } = this.#options.parts;
    const loading = processor.parkedRecords().map(({ source, split, keyGroup, ...record }) => {
      const { offset, time, timestamp } = record;
      return { split, keyGroup, offset, time, timestamp, value: source };
    });
    // Copies: a deferred record is a view on its frame, whose buffer goes back to the sender once
    // it is processed, which may be before the volatile part is encoded.
    const deferred = this.#options.deferred().map((record) => ({
      ...record,
      value: record.value === null ? null : Buffer.from(record.value),
    }));
    return [...loading, ...deferred];
  }
}
