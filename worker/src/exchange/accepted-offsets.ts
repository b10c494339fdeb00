/**
 * What a state task has accepted of each split: its position vector (P50). A record below it was
 * accepted before, whichever attempt of the source sends it now, and is dropped unparsed.
 */
import { cutRecords, type DataFrame, FrameCursor } from './frame.ts';

/** The offset after the last accepted record of a split, by the split's index. */
export interface AcceptedPosition {
  split: number;
  offset: number;
}

const FIRST_SPLITS = 16;

export class AcceptedOffsets {
  /** 0: nothing of this split was accepted. */
  #next = new Float64Array(FIRST_SPLITS);
  readonly #takesAll: boolean;

  /** `takesAll`: a deliberate defect, for tests of the checkers only. */
  constructor(takesAll = false) {
    this.#takesAll = takesAll;
  }

  /**
   * Takes the records of a frame in, each told by its key group; those that were accepted before
   * are cut out of it. Returns how many those were.
   */
  accept(frame: DataFrame, took: (keyGroup: number) => void): number {
    const cursor = new FrameCursor(frame);
    let repeats: Set<number> | null = null;
    for (let row = 0; cursor.next(); row++) {
      if (this.take(cursor.split, cursor.offset)) {
        took(cursor.keyGroup);
        continue;
      }
      repeats ??= new Set();
      repeats.add(row);
    }
    if (repeats !== null) cutRecords(frame, repeats);
    return repeats?.size ?? 0;
  }

  /** false: it was accepted before. */
  take(split: number, offset: number): boolean {
    if (split >= this.#next.length) this.#grow(split);
    if (offset < this.#next[split]!) return this.#takesAll;
    this.#next[split] = offset + 1;
    return true;
  }

  /** Of all splits of which something was accepted. */
  positions(): AcceptedPosition[] {
    const positions: AcceptedPosition[] = [];
    this.#next.forEach((offset, split) => {
      if (offset > 0) positions.push({ split, offset });
    });
    return positions;
  }

  #grow(split: number): void {
    const next = new Float64Array(Math.max(split + 1, 2 * this.#next.length));
    next.set(this.#next);
    this.#next = next;
  }
}
