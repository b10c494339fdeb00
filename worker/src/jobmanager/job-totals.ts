/**
 * The job's counters. A task counts from its attempt's start, a user asks since the job's: totals
 * of ended attempts are kept here and the running ones added. Gauges are the running tasks' alone.
 * What a task counted after its last heartbeat before it died is not known and not guessed.
 */
import { noTallies, TALLIES, type Tallies } from '../rpc/figures.ts';
import type { SubtaskMetrics } from '../rpc/messages.ts';
import { addHistograms, type Histograms, noHistograms } from '../runtime/histogram.ts';
import { TaskRates } from './task-rates.ts';

const COUNTERS = [
  'cpuSeconds',
  'recordsRead',
  'recordsProcessed',
  'bytesRead',
  'matched',
  'delivered',
  'deadLettered',
  'filterErrors',
  'profileRequests',
  'profileErrors',
  'cacheHits',
  'cacheMisses',
  'expired',
  'truncatedEvents',
  'divergent',
  'pauseCount',
  'busyMs',
  'backPressuredMs',
  'idleMs',
] as const satisfies readonly (keyof SubtaskMetrics)[];

const GAUGES = [
  'parked',
  'outbox',
  'outboxBytes',
  'usersCached',
  'users',
  'stateBytes',
  'cacheBytes',
  'ledgerImbalance',
] as const satisfies readonly (keyof SubtaskMetrics)[];

export type CounterName = (typeof COUNTERS)[number];
export type GaugeName = (typeof GAUGES)[number];
export type Counters = Record<CounterName, number>;
export type Gauges = Record<GaugeName, number>;

/** Events per second is measured over the last samples within this time. */
const RATE_WINDOW_MS = 5_000;
const MAX_SAMPLES = 64;
/** Samples lie at least this far apart: 200 heartbeats a second must not fill them in a third. */
const SAMPLE_STEP_MS = RATE_WINDOW_MS / MAX_SAMPLES;
const SAME_HEARTBEAT_MS = 1;

export class JobTotals {
  readonly #ended: Counters = zeros(COUNTERS);
  readonly #endedTallies: Tallies = noTallies();
  readonly #endedHistograms: Histograms = noHistograms();
  readonly #running = new Map<number, SubtaskMetrics>();
  readonly #rates = new TaskRates(COUNTERS);
  /** Heartbeats under way when an attempt ended must not count it a second time. */
  #endedAttempt = 0;
  /** `counters().recordsProcessed`, kept along: summing it up per heartbeat is quadratic. */
  #processed = 0;
  readonly #samples: { at: number; processed: number }[] = [];

  /**
   * One task's figures of a heartbeat; `now` is monotonic, ms. Those of an older attempt are
   * ignored.
   */
  update(metrics: SubtaskMetrics, now: number): void {
    if (metrics.attempt <= this.#endedAttempt) return;
    const before = this.#running.get(metrics.subtask);
    if (before !== undefined && before.attempt > metrics.attempt) return;
    if (before !== undefined && before.attempt < metrics.attempt) this.#end(before);
    this.#running.set(metrics.subtask, metrics);
    this.#rates.add(metrics, metrics, now);
    const counted = before?.attempt === metrics.attempt ? before.recordsProcessed : 0;
    this.#processed += metrics.recordsProcessed - counted;
    this.#sample(now);
  }

  /** The tasks of all attempts up to `attempt` are gone: their gauges no longer hold. */
  endAttempt(attempt: number): void {
    this.#endedAttempt = Math.max(this.#endedAttempt, attempt);
    for (const [subtask, metrics] of this.#running) {
      if (metrics.attempt > attempt) continue;
      this.#end(metrics);
      this.#running.delete(subtask);
      this.#rates.remove(subtask);
    }
  }

  counters(): Counters {
    const sum = { ...this.#ended };
    for (const metrics of this.#running.values()) {
      for (const name of COUNTERS) sum[name] += metrics[name];
    }
    return sum;
  }

  tallies(): Tallies {
    const sum = { ...this.#endedTallies };
    for (const { tallies } of this.#running.values()) {
      for (const name of TALLIES) sum[name] += tallies[name];
    }
    return sum;
  }

  histograms(): Histograms {
    const sum = noHistograms();
    addHistograms(sum, this.#endedHistograms);
    for (const { histograms } of this.#running.values()) addHistograms(sum, histograms);
    return sum;
  }

  gauges(): Gauges {
    const sum = zeros(GAUGES);
    for (const metrics of this.#running.values()) {
      for (const name of GAUGES) sum[name] += metrics[name];
    }
    return sum;
  }

  /**
   * Records still to read; null while a task does not know or has not said, since a part of a sum
   * is no lag.
   */
  lag(parallelism: number): number | null {
    if (this.#running.size < parallelism) return null;
    let lag = 0;
    for (const metrics of this.#running.values()) {
      if (metrics.pendingRecords < 0) return null;
      lag += metrics.pendingRecords;
    }
    return lag;
  }

  eventsPerSecond(now: number): number {
    const recent = this.#samples.filter((sample) => now - sample.at <= RATE_WINDOW_MS);
    const first = recent[0];
    const last = recent.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return 0;
    return ((last.processed - first.processed) * 1000) / (last.at - first.at);
  }

  /** Per second, of a running task; null before its second heartbeat. */
  ratesOf(subtask: number): Counters | null {
    return this.#rates.of(subtask);
  }

  /** Running tasks, by subtask. */
  subtasks(): SubtaskMetrics[] {
    return [...this.#running.values()].sort((a, b) => a.subtask - b.subtask);
  }

  /**
   * The newest sample moves along until it is one step from the one before it, and takes in what
   * the same heartbeat says of other tasks: a window must not begin between two of them.
   */
  #sample(now: number): void {
    const newest = this.#samples.at(-1)?.at ?? Number.NEGATIVE_INFINITY;
    const previous = this.#samples.at(-2)?.at ?? Number.NEGATIVE_INFINITY;
    if (now - newest < SAME_HEARTBEAT_MS || newest - previous < SAMPLE_STEP_MS) this.#samples.pop();
    this.#samples.push({ at: now, processed: this.#processed });
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
  }

  #end(metrics: SubtaskMetrics): void {
    for (const name of COUNTERS) this.#ended[name] += metrics[name];
    for (const name of TALLIES) this.#endedTallies[name] += metrics.tallies[name];
    addHistograms(this.#endedHistograms, metrics.histograms);
  }
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
}
