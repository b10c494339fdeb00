/**
 * A task's side of a checkpoint after the barrier: frozen set out, delta sealed and stored one run
 * at a time, then the acknowledgement (P5, P11, P16, P22). Checkpoints are finished one after the
 * other; what could not be stored stays owed, where it is, and is tried again with the next one.
 * Also runs the base builder between barriers.
 */
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { segmentPath } from '../checkpoint/paths.ts';
import type { FinishedSegment } from '../checkpoint/segment.ts';
import type {
  KeyGroupRange,
  Ledger,
  ObjectRef,
  SnapshotFigures,
  SubtaskSnapshot,
} from '../checkpoint/snapshot.ts';
import type { MemoryPlan } from '../plan/job-plan.ts';
import type { Report, ScriptVersion } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { SplitPosition } from '../source/source.ts';
import type { StateBackend } from '../state/backend.ts';
import { BaseBuilder, type BuiltBase, type HeadWriter } from '../state/base-builder.ts';
import type { ChainTracker } from '../state/chain-tracker.ts';
import type { DeltaLog } from '../state/delta-log.ts';
import { type CapturedVolatile, encodeVolatile } from './volatile.ts';

/** Everything that belongs to checkpoint `checkpointId`, captured in the barrier's turn. */
export interface BarrierCapture {
  checkpointId: number;
  volatile: CapturedVolatile;
  /** Positions at the barrier; read when the acknowledgement is made. */
  splits: () => SplitPosition[];
  script: ScriptVersion;
  ledger: Ledger;
  users: number;
  figures: Pick<SnapshotFigures, 'alignmentMs' | 'syncMs' | 'startDelayMs'>;
}

export interface CheckpointerOptions {
  env: Env;
  store: ObjectStore;
  backend: StateBackend;
  chain: ChainTracker;
  heads: HeadWriter;
  range: KeyGroupRange;
  subtask: number;
  attempt: number;
  /** Stored bytes of the key groups that get a base at a time: `baseBudget`. */
  baseBudgetBytes: number;
  /** Checkpoint whose rows the chain ends with; 0 = fresh. */
  lastBarrier: number;
  report: (report: TaskReport) => void;
  onFault: (fault: unknown) => void;
}

/** A report without the TaskManager's id, which the process adds. */
export type TaskReport = Report extends infer R
  ? R extends { taskManagerId: string; attempt: number }
    ? Omit<R, 'taskManagerId'>
    : never
  : never;

/** An interval that is over and not wholly in the chain (P16). */
interface OwedInterval {
  from: number;
  to: number;
  delta: DeltaLog;
  /** Of its runs, those in the chain. */
  runs: number;
}

/** Above this a checkpoint takes seconds to store its bases; below, they are too many objects. */
const BASE_BUDGET = { mostBytes: 64 * 1024 * 1024, leastBytes: 16 * 1024 * 1024 };

/**
 * Bytes of key groups that get a fresh base per checkpoint (P15): they lie in memory until it is
 * stored, so no more than an interval's rows may. With 64 MiB whatever its memory, a TaskManager
 * of 2 GiB was 75 MiB larger than that.
 */
export function baseBudget({ slotDeltaBytes }: Pick<MemoryPlan, 'slotDeltaBytes'>): number {
  const { leastBytes, mostBytes } = BASE_BUDGET;
  return Math.max(leastBytes, Math.min(mostBytes, slotDeltaBytes));
}

/** Memory held for what is owed: beyond this the input is slowed (P16). */
export const OWED_LIMIT_BYTES = 256 * 1024 * 1024;
const NOT_STORED = 'NOT_STORED';

export class Checkpointer {
  readonly #options: CheckpointerOptions;
  #lastBarrier: number;
  #capture: BarrierCapture | null = null;
  #capturedAt = 0;
  /** One checkpoint's finishing work at a time. */
  #work: Promise<void> = Promise.resolve();
  readonly #owed: OwedInterval[] = [];
  #bases: BuiltBase[] = [];
  #builder: BaseBuilder | null = null;
  #building: Promise<void> = Promise.resolve();
  #objects = 0;
  #closed = false;

  constructor(options: CheckpointerOptions) {
    this.#options = options;
    this.#lastBarrier = options.lastBarrier;
  }

  /** The frozen set of a checkpoint is being written out. */
  get draining(): boolean {
    return this.#capture !== null;
  }

  /** Memory held by deltas and bases that are not stored; what is spooled to disk is not in it. */
  get owedBytes(): number {
    let bytes = 0;
    for (const { delta } of this.#owed) bytes += delta.bytes;
    for (const { segment } of this.#bases) bytes += segment.bytes;
    return bytes;
  }

  /** Bytes of the segments that a checkpoint of now would refer to. */
  get stateBytes(): number {
    return this.#options.chain.bytes;
  }

  /** In the barrier's turn, after `freeze`. */
  begin(capture: BarrierCapture): void {
    this.#builder?.stop();
    this.#capture = capture;
    this.#capturedAt = this.#options.env.monotonic();
  }

  /** F(i) is out: the coordinator may trigger the next one; the rest goes on beside processing. */
  drained(delta: DeltaLog): void {
    const capture = this.#capture!;
    const from = this.#lastBarrier;
    this.#capture = null;
    this.#lastBarrier = capture.checkpointId;
    const { subtask, attempt, report } = this.#options;
    report({ type: 'drained', attempt, checkpointId: capture.checkpointId, subtask });
    const startedAt = this.#capturedAt;
    this.#startBases();
    // Owed from here on, so that it is counted while it waits for a store that hangs.
    this.#owed.push({ from, to: capture.checkpointId, delta, runs: 0 });
    delta.close();
    this.#work = this.#work
      .then(() => this.#finish(capture, startedAt))
      .catch(this.#options.onFault);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#builder?.stop();
    await Promise.all([this.#work, this.#building]);
  }

  async #finish(capture: BarrierCapture, startedAt: number): Promise<void> {
    if (this.#closed) return;
    const { env, chain, subtask, attempt, range, report } = this.#options;
    const to = capture.checkpointId;
    let uploadedBytes = 0;
    let volatile: ObjectRef | null = null;
    try {
      uploadedBytes += await this.#storeOwed(to);
      if (this.#closed) return;
      uploadedBytes += await this.#storeBases(to);
      const encoded = await encodeVolatile(capture.volatile, range);
      if (encoded !== null) {
        volatile = await this.#store(to, 'volatile', encoded);
        uploadedBytes += encoded.bytes;
      }
    } catch (fault) {
      // A delta that can't be sealed is lost to every later checkpoint: the task has to end.
      if (!(fault instanceof TriggerJobError) || fault.code !== NOT_STORED) throw fault;
      report({ type: 'decline', attempt, checkpointId: to, subtask, reason: messageOf(fault) });
      return;
    }
    if (this.#closed) return;
    const snapshot: SubtaskSnapshot = {
      subtask,
      attempt,
      range,
      ...chain.snapshot(to),
      volatile,
      splits: capture.splits(),
      script: capture.script,
      ledger: capture.ledger,
      figures: {
        ...capture.figures,
        asyncMs: env.monotonic() - startedAt,
        uploadedBytes,
        stateBytes: chain.bytes + (volatile?.bytes ?? 0),
        users: capture.users,
      },
    };
    report({ type: 'ack', attempt, checkpointId: to, snapshot });
  }

  /**
   * Stores what this and earlier checkpoints owe, in order; a throw leaves the rest owed (P16). One
   * segment is in memory at a time.
   */
  async #storeOwed(checkpointId: number): Promise<number> {
    const { range, chain } = this.#options;
    let bytes = 0;
    for (;;) {
      const interval = this.#owed[0];
      if (interval === undefined || interval.to > checkpointId) return bytes;
      const { from, to, delta } = interval;
      for await (const segment of delta.seal(from, to)) {
        const object = await this.#store(to, 'delta', segment);
        chain.addDelta({ range, from, to, run: interval.runs++, object }, segment.groupBytes);
        bytes += segment.bytes;
        if (this.#closed) return bytes;
      }
      // Nothing changed; the chain still needs to know that there is no gap (P12).
      if (interval.runs === 0) {
        chain.addDelta({ range, from, to, run: 0, object: null }, new Map());
      }
      this.#owed.shift();
    }
  }

  /** P13: a base serves only checkpoints from its epoch on, so it joins the chain no earlier. */
  async #storeBases(checkpointId: number): Promise<number> {
    let bytes = 0;
    for (const base of this.#bases.filter(({ epoch }) => epoch <= checkpointId)) {
      const object = await this.#store(checkpointId, 'base', base.segment);
      this.#bases.splice(this.#bases.indexOf(base), 1);
      bytes += base.segment.bytes;
      this.#options.chain.addBase(object, base.epoch, base.groupBytes);
    }
    return bytes;
  }

  async #store(
    checkpointId: number,
    kind: 'delta' | 'base' | 'volatile',
    segment: FinishedSegment,
  ): Promise<ObjectRef> {
    const { env, store, subtask, attempt } = this.#options;
    const n = this.#objects++;
    const name = segmentPath({ attempt, checkpointId, subtask, kind, n, nonce: env.id() });
    try {
      await store.put(name, segment.content);
    } catch (cause) {
      throw new TriggerJobError(NOT_STORED, 'store', { cause });
    }
    return { name, bytes: segment.bytes, sha256: segment.sha256 };
  }

  #startBases(): void {
    // One at a time, and none before the last is in the chain: its groups would be due again.
    if (this.#builder !== null || this.#bases.length > 0 || this.#owed.length > 0) return;
    const { backend, env, range, heads, chain, baseBudgetBytes, onFault } = this.#options;
    // Soon after a restore: a scan would bring a whole key group over in one turn.
    if (backend.heldBytes() > 0) return;
    const groups = chain.due(baseBudgetBytes);
    if (groups.length === 0) return;
    const builder = new BaseBuilder(backend, env, range, heads);
    this.#builder = builder;
    this.#building = builder
      .build(groups, this.#lastBarrier + 1)
      .then((base) => {
        if (base !== null) this.#bases.push(base);
        this.#builder = null;
      })
      .catch((fault: unknown) => {
        this.#builder = null;
        if (!this.#closed) onFault(fault);
      });
  }
}
