/**
 * The delta of one interval (P11): the final image, or tombstone, of every row that reached RocksDB
 * with a value that arose in it. Rows are copied as they come, outside of V8's heap; above a memory
 * limit they go to a spool file as one run, beside event processing; a later run wins (P12).
 *
 * Memory: one run grows while at most one other is packed, which takes as long as compressing it,
 * so `bytes` stays near the limit plus what arrives meanwhile. If the disk is slower than that it
 * grows; whoever adds rows slows his input by `bytes` (P17). Beyond `bytes` a run that is packed
 * needs about 2 MiB for blocks and zstd. An interval that waits for the store holds
 * MEMORY_RUN_BYTES at most, and one segment while that is being stored; the rest is on disk.
 */
import type { FinishedSegment } from '../checkpoint/segment.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { invariant } from '../runtime/errors.ts';
import { type PackedRun, packRun, type RunPace } from './delta-run.ts';
import { RowSlabs, SlabPool } from './row-slabs.ts';
import type { UserRow } from './rows.ts';

/** Up to here the last run of an interval is packed into memory: a file costs more. */
const MEMORY_RUN_BYTES = 1024 * 1024;
/** Of the limit: with more in memory a run is packed as fast as it can be. */
const URGENT_SHARE = 1.25;

export interface DeltaLogOptions {
  range: KeyGroupRange;
  limitBytes: number;
  /** Prefix of spool files; null keeps everything in memory (simulation). */
  spoolPath: string | null;
  /** Shared by the intervals of one task, which then hand their slabs on. */
  slabs?: SlabPool;
  /** Makes the pace of a run (pack-pace.ts); absent: as fast as it can be. */
  pace?: () => RunPace;
}

export class DeltaLog {
  readonly #options: DeltaLogOptions;
  readonly #pool: SlabPool;
  #rows: RowSlabs;
  /** Runs under way, one after the other: one, or two when the interval ends. */
  readonly #packing: RowSlabs[] = [];
  #packed: Promise<unknown> = Promise.resolve();
  /** In order; runs that are stored leave in front. */
  readonly #runs: Promise<PackedRun>[] = [];
  #cuts = 0;
  #stored = 0;
  /** Packed runs in memory, and the segment that is being stored. */
  #packedBytes = 0;
  #segmentBytes = 0;
  #closed = false;

  constructor(options: DeltaLogOptions) {
    this.#options = options;
    this.#pool = options.slabs ?? new SlabPool(options.limitBytes);
    this.#rows = new RowSlabs(options.range, this.#pool);
  }

  /** Memory held: rows with their index, packed runs that are not on disk, the segment in hand. */
  get bytes(): number {
    let bytes = this.#rows.heldBytes + this.#packedBytes + this.#segmentBytes;
    for (const rows of this.#packing) bytes += rows.heldBytes;
    return bytes;
  }

  /** Copies the row: its buffers may be overwritten afterwards. */
  add(keyGroup: number, row: UserRow): void {
    invariant(!this.#closed, 'a row was added to an interval that is over');
    this.#rows.add(keyGroup, row);
    if (this.#rows.full) this.#cut(this.#options.spoolPath);
    else this.#cutDue();
  }

  /** One run at a time: one that is overdue waits for the end of the last one. */
  #cutDue(): void {
    const { limitBytes, spoolPath } = this.#options;
    if (spoolPath === null || this.#packing.length > 0) return;
    if (this.#rows.usedBytes > limitBytes) this.#cut(spoolPath);
  }

  /** The interval is over and its frozen set out: its last run is packed from now on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#rows.usedBytes === 0) return;
    this.#cut(this.#rows.usedBytes > MEMORY_RUN_BYTES ? this.#options.spoolPath : null);
  }

  /**
   * Closes the log; its segments in run order, each made when it is asked for; none: nothing
   * changed. To ask for the next one is to say that the last one is stored: only then its run goes.
   * Left early, the next call begins with the segment it was left at, under the same run number
   * (P16). One call at a time. Throws if a run could not be packed or read back.
   */
  async *seal(from: number, to: number): AsyncGenerator<FinishedSegment, void, void> {
    this.close();
    while (this.#runs.length > 0) {
      const run = await this.#runs[0]!;
      const header = { kind: 'delta', from, to, run: this.#stored, epoch: 0 } as const;
      const segment = await run.seal({ ...header, range: this.#options.range });
      this.#segmentBytes = segment.bytes;
      try {
        yield segment;
      } finally {
        this.#segmentBytes = 0;
      }
      this.#runs.splice(0, 1);
      this.#stored++;
      this.#packedBytes -= run.heldBytes;
      await run.discard();
    }
  }

  /** The rows so far become a run; those that follow go into fresh slabs. */
  #cut(spoolPath: string | null): void {
    const rows = this.#rows;
    this.#rows = new RowSlabs(this.#options.range, this.#pool);
    const file = spoolPath === null ? null : `${spoolPath}-${this.#cuts}.run`;
    this.#cuts++;
    this.#packing.push(rows);
    const run = this.#packed.then(() => this.#pack(rows, file));
    // Reported by seal(); without this an early failure would count as unhandled.
    run.catch(() => {});
    this.#packed = run;
    this.#runs.push(run);
  }

  /** After a failure nothing more is packed: the delta is lost, and seal() must say so. */
  async #pack(rows: RowSlabs, file: string | null): Promise<PackedRun> {
    const { range, pace } = this.#options;
    const run = await packRun(rows, range, file, this.#unlessUrgent(pace?.()));
    this.#packing.shift();
    rows.release();
    this.#packedBytes += run.heldBytes;
    // Not left to the next row: for these bytes the task may have stopped its input (P17), and then
    // none would come until the next barrier.
    if (!this.#closed) this.#cutDue();
    return run;
  }

  #unlessUrgent(pace: RunPace | undefined): RunPace {
    const urgentBytes = this.#options.limitBytes * URGENT_SHARE;
    return async (bytes) => {
      if (pace !== undefined && this.bytes <= urgentBytes) await pace(bytes);
    };
  }
}
