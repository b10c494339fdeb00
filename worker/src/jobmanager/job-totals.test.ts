import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { noTallies } from '../rpc/figures.ts';
import type { SubtaskMetrics } from '../rpc/messages.ts';
import { noHistograms } from '../runtime/histogram.ts';
import { JobTotals } from './job-totals.ts';

/** What the totals read of a heartbeat; every other figure is 0. */
function beat(subtask: number, attempt: number, recordsProcessed: number): SubtaskMetrics {
  const histograms = noHistograms();
  histograms.endToEndSeconds.counts[1] = recordsProcessed;
  histograms.endToEndSeconds.sum = recordsProcessed / 100;
  const tallies = { ...noTallies(), webhook2xx: recordsProcessed };
  const of = { subtask, attempt, recordsProcessed, tallies, histograms };
  const facts: Record<string, unknown> = { ...of, extra: {} };
  return new Proxy(facts, {
    get: (target, name) => target[String(name)] ?? 0,
  }) as unknown as SubtaskMetrics;
}

test('the rate is of what all tasks processed, over attempts and late heartbeats', () => {
  const step = fc.record({
    subtask: fc.integer({ min: 0, max: 3 }),
    attempt: fc.integer({ min: 1, max: 3 }),
    processed: fc.integer({ min: 0, max: 50 }),
    ends: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const totals = new JobTotals();
      let now = 0;
      totals.update(beat(9, 1, 0), now);
      for (const { subtask, attempt, processed, ends } of steps) {
        now += 10;
        totals.update(beat(subtask, attempt, processed), now);
        if (ends) totals.endAttempt(attempt);
        // All kinds of counters are one: nothing of an ended attempt is lost or counted twice.
        const { recordsProcessed } = totals.counters();
        assert.equal(totals.tallies().webhook2xx, recordsProcessed);
        const { counts, sum } = totals.histograms().endToEndSeconds;
        assert.equal(counts[1], recordsProcessed);
        assert.ok(Math.abs(sum - recordsProcessed / 100) < 1e-6);
      }
      // One more heartbeat a step later than all others: the newest sample is of now.
      now += 1_000;
      totals.update(beat(9, 4, 0), now);
      const expected = (totals.counters().recordsProcessed * 1_000) / now;
      assert.ok(Math.abs(totals.eventsPerSecond(now) - expected) < 1e-6);
    }),
    { seed: 3, numRuns: 300 },
  );
});

test('200 heartbeats a second leave a window of five seconds, not of 64 heartbeats', () => {
  const totals = new JobTotals();
  // 1,000 events/s for 5 s, then none for 2.5 s: half of the window has events.
  for (let now = 0; now <= 7_500; now += 5) {
    totals.update(beat(0, 1, Math.min(now, 5_000)), now);
  }
  const rate = totals.eventsPerSecond(7_500);
  assert.ok(rate > 400 && rate < 600, `${rate} events/s`);
});

test('the tasks of one heartbeat are one sample: the rate is not above what passes', () => {
  const totals = new JobTotals();
  // 300 events/s over four tasks, told in turn.
  for (let second = 0; second <= 20; second += 1) {
    const now = second * 1_000;
    for (let subtask = 0; subtask < 4; subtask += 1) {
      totals.update(beat(subtask, 1, second * 75), now + subtask / 10);
    }
  }
  assert.equal(Math.round(totals.eventsPerSecond(20_000)), 300);
});
