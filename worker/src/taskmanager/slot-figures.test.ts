import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Env } from '../runtime/env.ts';
import type { OutboxEntry, OutboxFailure } from './outbox.ts';
import { SlotFigures } from './slot-figures.ts';

const NOW = 1_000_000;
const env = { now: () => NOW } as Env;

const entry = (timestamp: number, failure: OutboxFailure | null = null): OutboxEntry =>
  ({ delivery: { timestamp }, failure }) as OutboxEntry;

test('a delivery is timed from its record, if that says when it was', () => {
  const figures = new SlotFigures(env, true);
  figures.left(entry(NOW - 200), 'delivered');
  // A producer's clock is ahead.
  figures.left(entry(NOW + 5_000), 'delivered');
  figures.left(entry(-1), 'delivered');
  const { counts, sum } = figures.endToEnd;
  assert.equal(
    counts.reduce((total, count) => total + count, 0),
    2,
  );
  assert.equal(counts[0], 1);
  assert.equal(sum, 0.2);
  const generated = new SlotFigures(env, false);
  generated.left(entry(NOW - 200), 'delivered');
  assert.equal(generated.endToEnd.sum, 0);
});

test('dead letters count by what failed, and are not timed', () => {
  const figures = new SlotFigures(env, true);
  figures.left(entry(NOW), 'deadLettered');
  figures.left(entry(NOW, { stage: 'state', error: 'no JSON', attempts: 0 }), 'deadLettered');
  figures.left(entry(NOW, { stage: 'state', error: 'HTTP 500', attempts: 1 }), 'deadLettered');
  assert.deepEqual(figures.deadLetters, { deadPoison: 1, deadProfile: 1, deadAction: 1 });
  assert.equal(figures.endToEnd.sum, 0);
});

test('idle is what is left of the time, never less than before, and owes nothing later', () => {
  const figures = new SlotFigures(env, true);
  assert.equal(figures.idleMs(1_000, 400), 600);
  assert.equal(figures.idleMs(1_000, 400), 600);
  // Busy and held up at once.
  assert.equal(figures.idleMs(2_000, 2_000), 600);
  assert.equal(figures.idleMs(2_500, 2_100), 1_000);
});
