/** How much was handled when, in bins of a tenth of a second; what a checkpoint takes from it. */
import { quantile } from './quantile.ts';

const BIN_MS = 100;
/** Fewer on one side tell nothing: 1 in 25 events makes 600 per bin, of which 4 % are chance. */
const LEAST_BINS = 8;

export interface Span {
  /** ms since the epoch. */
  from: number;
  to: number;
}

export class RateBins {
  readonly #amounts = new Map<number, number>();

  /** `amount` was handled from `from` to `to`: evenly. The same moment twice: then. */
  add(from: number, to: number, amount: number): void {
    const last = Math.floor(to / BIN_MS);
    for (let bin = Math.floor(from / BIN_MS); bin <= last; bin++) {
      const [start, end] = [Math.max(from, bin * BIN_MS), Math.min(to, (bin + 1) * BIN_MS)];
      const share = to > from ? (end - start) / (to - from) : 1;
      this.#amounts.set(bin, (this.#amounts.get(bin) ?? 0) + amount * share);
    }
  }

  /** Of the bins that lie wholly in the window: those that are in one of `spans`, and in none. */
  split(window: Span, spans: readonly Span[]): { within: number[]; outside: number[] } {
    const within: number[] = [];
    const outside: number[] = [];
    const end = Math.floor(window.to / BIN_MS);
    for (let bin = Math.ceil(window.from / BIN_MS); bin < end; bin++) {
      const [start, stop] = [bin * BIN_MS, (bin + 1) * BIN_MS];
      const amount = this.#amounts.get(bin) ?? 0;
      if (spans.some(({ from, to }) => from <= start && to >= stop)) within.push(amount);
      else if (spans.every(({ from, to }) => to <= start || from >= stop)) outside.push(amount);
    }
    return { within, outside };
  }

  /** By how much the median rate within the spans is below that outside; NaN: too few bins. */
  dipPercent(window: Span, spans: readonly Span[]): number {
    const { within, outside } = this.split(window, spans);
    if (Math.min(within.length, outside.length) < LEAST_BINS) return Number.NaN;
    return 100 * (1 - quantile(within, 0.5) / quantile(outside, 0.5));
  }
}
