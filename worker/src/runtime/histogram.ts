/**
 * Distributions as counts in fixed buckets: they add up over subtasks and attempts, which quantiles
 * do not, and an observation is a few comparisons and one increment.
 */

/** Upper bounds of the buckets; one more bucket holds what is above the last. */
export const HISTOGRAM_BOUNDS = {
  /** From the append to the topic to the delivery: an hour behind is seen as such. */
  endToEndSeconds: [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600,
  ],
  /** One attempt at the webhook, one fetch of a user from the Profile API. */
  webhookSeconds: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
  profileSeconds: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  /** Stored bytes of a user, each time its state is written. */
  userBytes: [
    256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
  ],
} as const;

export type HistogramName = keyof typeof HISTOGRAM_BOUNDS;

export interface HistogramCounts {
  /** Of each bucket alone, not of all below. */
  counts: number[];
  /** Of all that was observed. */
  sum: number;
}

export type Histograms = Record<HistogramName, HistogramCounts>;

export class Histogram implements HistogramCounts {
  readonly counts: number[];
  sum = 0;
  readonly #bounds: readonly number[];

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    this.counts[bucket]!++;
    this.sum += value;
  }
}

export function noHistogram(name: HistogramName): HistogramCounts {
  return { counts: new Array<number>(HISTOGRAM_BOUNDS[name].length + 1).fill(0), sum: 0 };
}

export function noHistograms(): Histograms {
  const names = Object.keys(HISTOGRAM_BOUNDS) as HistogramName[];
  return Object.fromEntries(names.map((name) => [name, noHistogram(name)])) as Histograms;
}

export function addHistograms(to: Histograms, more: Histograms): void {
  for (const name of Object.keys(HISTOGRAM_BOUNDS) as HistogramName[]) {
    const { counts, sum } = more[name];
    counts.forEach((count, bucket) => {
      to[name].counts[bucket]! += count;
    });
    to[name].sum += sum;
  }
}

/** What was observed since `before`, an earlier reading of the same one. */
export function histogramSince(now: HistogramCounts, before: HistogramCounts): HistogramCounts {
  const counts = now.counts.map((count, bucket) => count - (before.counts[bucket] ?? 0));
  return { counts, sum: now.sum - before.sum };
}

/**
 * As Prometheus' histogram_quantile: linear within a bucket; above the last bound, that bound. null
 * when nothing was observed.
 */
export function quantileOf(
  name: HistogramName,
  { counts }: HistogramCounts,
  share: number,
): number | null {
  const bounds: readonly number[] = HISTOGRAM_BOUNDS[name];
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total <= 0) return null;
  const rank = share * total;
  let below = 0;
  for (const [bucket, bound] of bounds.entries()) {
    const count = counts[bucket] ?? 0;
    if (below + count >= rank && count > 0) {
      const from = bucket === 0 ? 0 : bounds[bucket - 1]!;
      return from + ((bound - from) * (rank - below)) / count;
    }
    below += count;
  }
  return bounds.at(-1)!;
}
