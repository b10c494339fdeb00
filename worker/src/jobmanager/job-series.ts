/**
 * The job's figures over the last hour, for charts that survive a reload and for the diagnosis:
 * rates and quantiles of each step, not totals. Kept by the leading JobManager alone: a new leader
 * begins anew, and who needs more than an hour has Prometheus.
 */
import type { Tallies } from '../rpc/figures.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { type Histograms, histogramSince, quantileOf } from '../runtime/histogram.ts';
import type { Counters } from './job-totals.ts';
import type { JobView } from './job-view.ts';

export const STEP_SECONDS = 5;
const MAX_SAMPLES = 3600 / STEP_SECONDS;

/** null: not known, or nothing to measure in that step. */
export interface Sample {
  /** Wall time, seconds. */
  at: number;
  eventsPerSecond: number | null;
  matchedPerSecond: number | null;
  deliveredPerSecond: number | null;
  lagRecords: number | null;
  latencyP50Seconds: number | null;
  latencyP99Seconds: number | null;
  /** Shares of the tasks' time. */
  busyRatio: number | null;
  backPressuredRatio: number | null;
  checkpointSeconds: number | null;
  stateBytes: number | null;
  restarts: number;
  cacheHitRatio: number | null;
  rssBytes: number | null;
  webhookP99Seconds: number | null;
  /** Share of the webhook's attempts that failed; of the Profile API's. */
  webhookErrorRatio: number | null;
  profileP99Seconds: number | null;
  profileErrorRatio: number | null;
}

/** What a step's rates are made of: the totals at its end. */
interface Totals {
  at: number;
  counters: Counters;
  tallies: Tallies;
  histograms: Histograms;
}

export class JobSeries {
  readonly #samples: Sample[] = [];
  #before: Totals | null = null;
  #timer: Timer | null = null;

  start(env: Env, view: () => JobView): void {
    this.#timer = env.timer(STEP_SECONDS * 1000, () => {
      this.start(env, view);
      this.add(view(), env.monotonic());
    });
  }

  close(): void {
    this.#timer?.cancel();
  }

  /** `monotonic`: ms. */
  add(view: JobView, monotonic: number): void {
    const { counters, tallies, histograms } = view;
    const totals = { at: monotonic, counters, tallies, histograms };
    this.#samples.push(sampleOf(view, totals, this.#before));
    this.#before = totals;
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
  }

  /** Oldest first. */
  last(minutes: number): readonly Sample[] {
    return this.#samples.slice(-Math.ceil((minutes * 60) / STEP_SECONDS));
  }
}

function sampleOf(view: JobView, now: Totals, before: Totals | null): Sample {
  const running = view.tasks.length > 0;
  const rss = view.taskManagers.reduce((sum, { metrics }) => sum + (metrics?.rssBytes ?? 0), 0);
  return {
    at: Math.round(view.now / 1000),
    ...ratesOf(now, before),
    lagRecords: view.lag,
    checkpointSeconds: secondsOf(view.checkpoints.latestCompleted?.durationMs),
    stateBytes: running ? view.gauges.stateBytes : null,
    restarts: view.restarts,
    rssBytes: running ? rss : null,
  };
}

type Rates = Omit<
  Sample,
  'at' | 'lagRecords' | 'checkpointSeconds' | 'stateBytes' | 'restarts' | 'rssBytes'
>;

function ratesOf(now: Totals, before: Totals | null): Rates {
  const grown = (name: keyof Counters) =>
    before === null ? 0 : now.counters[name] - before.counters[name];
  const tallied = (names: readonly (keyof Tallies)[]) =>
    before === null
      ? 0
      : names.reduce((sum, name) => sum + now.tallies[name] - before.tallies[name], 0);
  const seconds = before === null ? 0 : (now.at - before.at) / 1000;
  const perSecond = (name: keyof Counters) => ratio(grown(name), seconds);
  const quantile = (name: keyof Histograms, share: number) =>
    before === null
      ? null
      : quantileOf(name, histogramSince(now.histograms[name], before.histograms[name]), share);
  const time = grown('busyMs') + grown('backPressuredMs') + grown('idleMs');
  const failed = tallied(WEBHOOK_FAULTS);
  return {
    eventsPerSecond: perSecond('recordsProcessed'),
    matchedPerSecond: perSecond('matched'),
    deliveredPerSecond: perSecond('delivered'),
    latencyP50Seconds: quantile('endToEndSeconds', 0.5),
    latencyP99Seconds: quantile('endToEndSeconds', 0.99),
    busyRatio: ratio(grown('busyMs'), time),
    backPressuredRatio: ratio(grown('backPressuredMs'), time),
    cacheHitRatio: ratio(grown('cacheHits'), grown('cacheHits') + grown('cacheMisses')),
    webhookP99Seconds: quantile('webhookSeconds', 0.99),
    webhookErrorRatio: ratio(failed, failed + tallied(['webhook2xx'])),
    profileP99Seconds: quantile('profileSeconds', 0.99),
    profileErrorRatio: ratio(grown('profileErrors') * PARTS, grown('profileRequests')),
  };
}

const WEBHOOK_FAULTS = [
  'webhook3xx',
  'webhook4xx',
  'webhook5xx',
  'webhookTimeout',
  'webhookNetwork',
  'webhookRefused',
] as const;

/** A user is asked for by three requests and fails as a whole. */
const PARTS = 3;

function ratio(part: number, whole: number): number | null {
  return whole > 0 ? part / whole : null;
}

function secondsOf(ms: number | undefined): number | null {
  return ms === undefined ? null : ms / 1000;
}
