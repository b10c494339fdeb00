import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MATCH, NO_MATCH, type Verdict } from '../filter/filter.ts';
import { DecisionLog } from './decision-log.ts';

const FAILED: Verdict = { match: false, error: 'a long is no string' };

function place(offset: number, partition = 3) {
  return { split: { partition }, offset };
}

test('decisions of a user, newest first, with what the filter said', () => {
  const log = new DecisionLog('events');
  log.now = 10;
  log.note('a', place(1), MATCH, 'v1');
  log.note('b', place(2), NO_MATCH, 'v1');
  log.now = 11;
  log.note('a', place(3), FAILED, 'v2');
  const [newest, oldest, ...more] = log.of('a', 12);
  const shared = { topic: 'events', partition: 3 };
  assert.deepEqual(newest, {
    ...{ ...shared, at: 11, offset: 3, verdict: 'error', error: FAILED.error, scriptVersion: 'v2' },
  });
  assert.deepEqual(oldest, {
    ...{ ...shared, at: 10, offset: 1, verdict: 'match', error: null, scriptVersion: 'v1' },
  });
  assert.deepEqual(more, []);
  assert.deepEqual(log.of('nobody', 12), []);
});

test('a busy slot forgets no-matches first, then matches, and not who was asked about', () => {
  const log = new DecisionLog('events');
  log.note('a', place(1), NO_MATCH, 'v1');
  log.note('a', place(2), MATCH, 'v1');
  log.of('followed', 0);
  log.note('followed', place(3), NO_MATCH, 'v1');
  for (let n = 0; n < 5_000; n++) log.note(`x${n}`, place(10 + n), NO_MATCH, 'v1');
  assert.deepEqual(
    log.of('a', 0).map(({ offset }) => offset),
    [2],
  );
  for (let n = 0; n < 5_000; n++) log.note(`x${n}`, place(9_000 + n), MATCH, 'v1');
  assert.deepEqual(log.of('b', 0), []);
  assert.deepEqual(
    log.of('followed', 0).map(({ offset }) => offset),
    [3],
  );
  for (let n = 0; n < 100; n++) log.note('followed', place(20_000 + n), NO_MATCH, 'v1');
  for (let n = 0; n < 5_000; n++) log.note(`x${n}`, place(n), NO_MATCH, 'v1');
  const offsets = log.of('followed', 0).map(({ offset }) => offset);
  assert.deepEqual(
    offsets,
    Array.from({ length: 50 }, (_, n) => 20_099 - n),
  );
});

test('who is followed is forgotten after ten minutes, and when too many others are', () => {
  const log = new DecisionLog('events');
  const long = 'u'.repeat(200);
  const isFollowed = (id: string) => {
    log.note(id, place(1), MATCH, 'v1');
    return log.of(id, log.now).length > 0;
  };
  assert.equal(isFollowed(long), false, 'a long id is not in the rings');
  assert.equal(isFollowed(long), true);
  log.now = 11 * 60_000;
  log.of('other', log.now);
  log.note(long, place(2), MATCH, 'v1');
  assert.deepEqual(log.of(long, log.now), []);
  for (let n = 0; n < 64; n++) log.of(`x${n}`, log.now);
  log.note(long, place(3), MATCH, 'v1');
  assert.deepEqual(log.of(long, log.now), []);
});
