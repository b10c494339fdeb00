/**
 * Prometheus' text format, of figures that are kept elsewhere: prom-client counts by itself, and
 * the totals of a job come in heartbeats.
 */
import type { HistogramCounts } from '../runtime/histogram.ts';

export type Labels = Readonly<Record<string, string>>;

type MetricType = 'counter' | 'gauge' | 'histogram';

/** Of one answer: aliases of 200 subtasks are 50,000 lines (I7). */
const MAX_SAMPLES = 60_000;

export class PrometheusText {
  readonly #families = new Map<string, string[]>();
  readonly #common: Labels;
  #samples = 0;
  #leftOut = 0;

  /** `common`: labels of every sample but those that are added bare. */
  constructor(common: Labels) {
    this.#common = common;
  }

  has(name: string): boolean {
    return this.#families.has(name);
  }

  /** Samples that found no room. */
  get leftOut(): number {
    return this.#leftOut;
  }

  gauge(name: string, help: string, value: number, labels: Labels = {}): void {
    this.#add(name, 'gauge', help, name, value, { ...labels, ...this.#common });
  }

  counter(name: string, help: string, value: number, labels: Labels = {}): void {
    this.#add(name, 'counter', help, name, Math.max(0, value), { ...labels, ...this.#common });
  }

  /** With these labels alone. */
  bare(name: string, help: string, value: number, labels: Labels): void {
    this.#add(name, 'gauge', help, name, value, labels);
  }

  histogram(
    name: string,
    help: string,
    bounds: readonly number[],
    { counts, sum }: HistogramCounts,
    labels: Labels = {},
  ): void {
    const own = { ...labels, ...this.#common };
    let below = 0;
    counts.forEach((count, bucket) => {
      below += count;
      const le = bucket < bounds.length ? String(bounds[bucket]) : '+Inf';
      this.#add(name, 'histogram', help, `${name}_bucket`, below, { le, ...own });
    });
    this.#add(name, 'histogram', help, `${name}_sum`, sum, own);
    this.#add(name, 'histogram', help, `${name}_count`, below, own);
  }

  toString(): string {
    return `${[...this.#families.values()].map((lines) => lines.join('\n')).join('\n')}\n`;
  }

  #add(
    family: string,
    type: MetricType,
    help: string,
    name: string,
    value: number,
    labels: Labels,
  ): void {
    if (this.#samples >= MAX_SAMPLES) {
      this.#leftOut++;
      return;
    }
    this.#samples++;
    let lines = this.#families.get(family);
    if (lines === undefined) {
      lines = [`# HELP ${family} ${help}`, `# TYPE ${family} ${type}`];
      this.#families.set(family, lines);
    }
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
    lines.push(`${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`);
  }
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
