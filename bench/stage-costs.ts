/**
 * CPU of one stage at a time, in nanoseconds per item: user and system of the whole process, since
 * compression, RocksDB and the collector work in threads of their own.
 */
import type { Table } from './comparison.ts';
import { quantile } from './quantile.ts';

/** Each of the code's tiers is reached, and what is made once is made. */
const WARM_UP_ROUNDS = 3;
const LEAST_ROUNDS = 5;

export class StageCosts {
  /** A row of the table. */
  readonly name: string;
  /** What is counted. */
  readonly per: string;
  readonly #cpuMicros: () => number;
  readonly #costs: number[] = [];
  #spent = 0;
  #rounds = 0;

  constructor(name: string, per: string, cpuMicros: () => number = processMicros) {
    this.name = name;
    this.per = per;
    this.#cpuMicros = cpuMicros;
  }

  /**
   * One round of `items`. `run` says how many it has handled: so nothing of it can be left out, by
   * a mistake here or by the compiler, whose result nobody would have asked for.
   */
  async time(items: number, run: () => number | Promise<number>): Promise<void> {
    const before = this.#cpuMicros();
    const done = run();
    // A promise would cost each of the short rounds a turn.
    const handled = typeof done === 'number' ? done : await done;
    const used = this.#cpuMicros() - before;
    if (handled !== items) throw new Error(`${this.name}: handled ${handled} of ${items}`);
    this.#rounds++;
    if (this.#rounds <= WARM_UP_ROUNDS) return;
    this.#spent += used;
    this.#costs.push((used * 1_000) / items);
  }

  /** `time` until that much CPU went into rounds that count. */
  async repeat(
    seconds: number,
    items: number,
    run: () => number | Promise<number>,
    prepare: () => void = () => undefined,
  ): Promise<void> {
    while (!this.isDone(seconds)) {
      prepare();
      await this.time(items, run);
    }
  }

  isDone(seconds: number): boolean {
    return this.#costs.length >= LEAST_ROUNDS && this.#spent >= seconds * 1e6;
  }

  get bestNs(): number {
    return Math.min(...this.#costs);
  }

  get medianNs(): number {
    return quantile(this.#costs, 0.5);
  }
}

function processMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** A stage and how often an event goes through it. */
export interface StageRow {
  costs: Pick<StageCosts, 'name' | 'per' | 'bestNs' | 'medianNs'>;
  perEvent: number;
}

/** The last line is what an event costs by all of them together. */
export function stagesTable(rows: readonly StageRow[]): Table {
  const head = ['stage', 'per', 'ns, best', 'ns, median', 'of them per event', 'ns per event'];
  const sum = rows.reduce((total, { costs, perEvent }) => total + costs.medianNs * perEvent, 0);
  return [
    head,
    ...rows.map(({ costs: { name, per, bestNs, medianNs }, perEvent }) => [
      name,
      per,
      bestNs.toFixed(0),
      medianNs.toFixed(0),
      perEvent.toFixed(3),
      (medianNs * perEvent).toFixed(0),
    ]),
    ['all', '', '', '', '', sum.toFixed(0)],
  ];
}
