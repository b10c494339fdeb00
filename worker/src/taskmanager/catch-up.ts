/**
 * Reads the splits of one source once more, from a checkpoint's positions on, for the key groups
 * that were lost with their tasks (P53). It lives in the thread of the live source and fills the
 * same channels, so the handover of a split is a turn and not a message: until then the live source
 * passes these key groups over; when nothing is left before the live position, the live source
 * sends them again from exactly there. No gap, no repeat, and nothing has to wait in between.
 *
 *   catch-up   P ---------------------> H |
 *   live             Q -> (skips) ------> H -> (sends)        H: the live position of that turn
 */
import type { SourceBatch, SplitPosition, SplitReader } from '../source/source.ts';
import type { RecordRouter, Targets } from './record-router.ts';

export interface CatchUpOptions {
  reader: SplitReader;
  router: RecordRouter;
  /** Where each split starts: the checkpoint's positions. */
  from: readonly SplitPosition[];
  /** The lost subtasks. */
  targets: Targets;
  /** The live source's own position of a split; it moves. */
  live(splitIndex: number): SplitPosition;
  /** In the turn in which nothing is left before the live position. */
  handOver(splitIndex: number, position: SplitPosition): void;
  /** So many records were passed on or over: buffers may want to be sent in due time. */
  routed(records: number): void;
  /** A deliberate defect, for tests of the checkers only. */
  mutant: string | null;
}

const POLL_MS = 20;
/** Rows between two turns of the event loop: source and state stage share the thread. */
const TURN_RECORDS = 512;

export class CatchUp {
  readonly #options: CatchUpOptions;
  readonly #open = new Map<number, SplitPosition>();
  #wake: (() => void) | null = null;
  #closed = false;

  constructor(options: CatchUpOptions) {
    this.#options = options;
    for (const position of options.from) {
      this.#open.set(position.split.index, { ...position });
    }
  }

  /** Resolves when every split is handed over, or after `close`. Rejects as the reader does. */
  async run(): Promise<void> {
    const { reader } = this.#options;
    for (const index of [...this.#open.keys()]) this.#settle(index);
    reader.assign([...this.#open.values()].map((position) => ({ ...position })));
    while (this.#open.size > 0 && !this.#closed) {
      const batch = await reader.poll(POLL_MS);
      if (batch !== null && this.#open.has(batch.splitIndex)) await this.#emit(batch);
      // The live source may have waited for records that there are not.
      for (const index of [...this.#open.keys()]) this.#settle(index);
    }
    await this.close();
  }

  /** Credit came back. */
  resume(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.resume();
    await this.#options.reader.close();
  }

  async #emit(batch: SourceBatch): Promise<void> {
    const { router, targets, routed, live } = this.#options;
    const { records, splitIndex, nextOffset } = batch;
    const position = this.#open.get(splitIndex)!;
    for (let row = 0; !this.#closed; ) {
      const until = this.#rowsBefore(batch, row);
      const next = router.route(position, records, row, until, targets);
      if (next > row) routed(next - row);
      row = next;
      const { offset } = live(splitIndex);
      // Beyond control records and gaps, as the live source.
      if (row === records.count) position.offset = Math.max(position.offset, nextOffset);
      else if (records.offsets[row]! >= offset) position.offset = Math.max(position.offset, offset);
      if (this.#settle(splitIndex) || row === records.count) return;
      if (row < until) await this.#blocked();
      else await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  /** Rows of the batch that lie before the live position of this turn, at least `row`. */
  #rowsBefore({ records, splitIndex }: SourceBatch, row: number): number {
    const limit = this.#options.live(splitIndex).offset;
    const { offsets, count } = records;
    let until = row;
    while (until < count && until < row + TURN_RECORDS && offsets[until]! < limit) until++;
    return until;
  }

  /** Hands the split over if nothing is left for us; true if it is. */
  #settle(splitIndex: number): boolean {
    const position = this.#open.get(splitIndex);
    if (position === undefined) return true;
    const { live, handOver } = this.#options;
    if (this.#closed || !this.#reached(position, live(splitIndex))) return false;
    this.#open.delete(splitIndex);
    handOver(splitIndex, position);
    return true;
  }

  #reached(position: SplitPosition, live: SplitPosition): boolean {
    const short = this.#options.mutant === 'handover-off-by-one' ? 1 : 0;
    return position.offset >= live.offset - short;
  }

  async #blocked(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}
