import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noTallies } from '../rpc/figures.ts';
import { HISTOGRAM_BOUNDS, Histogram, noHistograms, quantileOf } from '../runtime/histogram.ts';
import { CheckpointHistory } from './checkpoint-history.ts';
import { JobSeries, STEP_SECONDS } from './job-series.ts';
import { JobTotals } from './job-totals.ts';
import type { JobView } from './job-view.ts';

/** After `events`, one of ten delivered after 0.2 s, and half of the time busy. */
function viewAfter(events: number, now: number): JobView {
  const totals = new JobTotals();
  const latency = new Histogram(HISTOGRAM_BOUNDS.endToEndSeconds);
  for (let i = 0; i < events / 10; i++) latency.observe(0.2);
  return {
    now,
    tasks: [],
    taskManagers: [],
    counters: {
      ...totals.counters(),
      recordsProcessed: events,
      delivered: events / 10,
      busyMs: now / 2,
      idleMs: now / 2,
      cacheHits: events,
    },
    gauges: totals.gauges(),
    tallies: { ...noTallies(), webhook2xx: events / 10 },
    histograms: { ...noHistograms(), endToEndSeconds: latency },
    lag: null,
    checkpoints: new CheckpointHistory(),
    restarts: 0,
  } as unknown as JobView;
}

test('a sample is of its step, not of the time before', () => {
  const series = new JobSeries();
  series.add(viewAfter(1_000_000, 0), 0);
  series.add(viewAfter(1_005_000, 5_000), 5_000);
  const [first, second] = series.last(1);
  assert.equal(first?.eventsPerSecond, null);
  assert.equal(second?.eventsPerSecond, 1_000);
  assert.equal(second?.deliveredPerSecond, 100);
  assert.equal(second?.busyRatio, 0.5);
  assert.equal(second?.cacheHitRatio, 1);
  assert.equal(second?.webhookErrorRatio, 0);
  assert.equal(second?.lagRecords, null);
  assert.equal(second?.webhookP99Seconds, null);
  const p50 = second?.latencyP50Seconds ?? 0;
  assert.ok(p50 > 0.1 && p50 <= 0.25, `${p50} s`);
});

test('an hour is kept, and as much is given as is asked for', () => {
  const series = new JobSeries();
  for (let i = 0; i < 1_000; i++) series.add(viewAfter(i, i * 5_000), i * 5_000);
  assert.equal(series.last(60).length, 3600 / STEP_SECONDS);
  assert.equal(series.last(1).length, 60 / STEP_SECONDS);
  assert.equal(series.last(1).at(-1)?.at, 999 * 5);
});

test('a quantile lies in the bucket that holds it', () => {
  const histogram = new Histogram(HISTOGRAM_BOUNDS.profileSeconds);
  assert.equal(quantileOf('profileSeconds', histogram, 0.99), null);
  for (const seconds of [0.005, 0.3, 0.3, 100]) histogram.observe(seconds);
  assert.equal(quantileOf('profileSeconds', histogram, 0.25), 0.005);
  assert.equal(quantileOf('profileSeconds', histogram, 0.75), 0.5);
  assert.equal(quantileOf('profileSeconds', histogram, 1), 30, 'what is beyond has the last bound');
});
