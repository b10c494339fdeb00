import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyGroupOf } from '../exchange/key-groups.ts';
import type { TapRequest, TapStage } from '../rpc/inspection.ts';
import { realEnv } from '../runtime/env.ts';
import { RecordTaps, TAP_RECORDS_PER_SECOND } from './record-tap.ts';

const GROUPS = 16;

function tapsOf() {
  const clock = { ms: 0 };
  const taps = new RecordTaps({ ...realEnv, monotonic: () => clock.ms }, GROUPS);
  let made = 0;
  const pass = (
    stage: TapStage,
    userId: string,
    options: { known?: boolean; chars?: number } = {},
  ) => {
    const { known = true, chars = 10 } = options;
    taps.pass(stage, keyGroupOf(userId, GROUPS), known ? userId : null, () => {
      made++;
      const rest = { at: 0, topic: 't', partition: 0, offset: made, subtask: 0 };
      if (userId === 'bad') throw new RangeError('too deep');
      const event = JSON.stringify('x'.repeat(chars));
      return { ...rest, stage, userId, event, verdict: null, reason: null };
    });
  };
  return { taps, clock, pass, made: () => made };
}

const ask = (id: string, stage: TapStage, userId: string | null = null): TapRequest => ({
  id,
  stage,
  userId,
});

test('a tap takes its stage and its user; nothing is made for nobody', () => {
  const { taps, pass, made } = tapsOf();
  assert.equal(taps.open.keyed, false);
  pass('keyed', 'a');
  assert.equal(made(), 0);
  taps.fetch(ask('1', 'keyed'));
  taps.fetch(ask('2', 'keyed', 'b'));
  taps.fetch(ask('3', 'source', 'b'));
  assert.deepEqual([taps.open.keyed, taps.open.source, taps.open.fired], [true, true, false]);
  for (const user of ['a', 'b', 'c']) pass('keyed', user);
  for (const user of ['a', 'b', 'c']) pass('source', user, { known: false });
  const users = (id: string, stage: TapStage, userId: string | null = null) =>
    taps.fetch(ask(id, stage, userId)).records.map((record) => record.userId);
  assert.deepEqual(users('1', 'keyed'), ['a', 'b', 'c']);
  assert.deepEqual(users('1', 'keyed'), [], 'each is fetched once');
  assert.deepEqual(users('2', 'keyed', 'b'), ['b']);
  assert.deepEqual(users('3', 'source', 'b'), ['b']);
  pass('keyed', 'bad');
  assert.deepEqual(taps.fetch(ask('1', 'keyed')), { records: [], skipped: 1 });
  taps.close('1');
  taps.close('2');
  assert.deepEqual([taps.open.keyed, taps.open.source], [false, true]);
});

test('what comes too fast, or is not fetched, is counted; the queue is bounded', () => {
  const { taps, clock, pass, made } = tapsOf();
  taps.fetch(ask('1', 'keyed'));
  for (let n = 0; n < 1_000; n++) pass('keyed', 'a');
  assert.equal(made(), TAP_RECORDS_PER_SECOND);
  const first = taps.fetch(ask('1', 'keyed'));
  assert.equal(first.records.length, TAP_RECORDS_PER_SECOND);
  assert.equal(first.skipped, 1_000 - TAP_RECORDS_PER_SECOND);
  for (let second = 0; second < 9; second++) {
    clock.ms += 1_000;
    for (let n = 0; n < 1_000; n++) pass('keyed', 'a');
  }
  const second = taps.fetch(ask('1', 'keyed'));
  assert.equal(second.records.length, 100, 'more do not wait');
  assert.equal(second.skipped, 8_900);
  clock.ms += 1_000;
  for (let n = 0; n < 50; n++) pass('keyed', 'a', { chars: 100_000 });
  assert.equal(taps.fetch(ask('1', 'keyed')).records.length, 6, 'by their size neither');
});

test('a tap that nobody fetches from ends; too many are not opened', () => {
  const { taps, clock, pass, made } = tapsOf();
  taps.fetch(ask('1', 'keyed'));
  clock.ms += 11_000;
  pass('keyed', 'a');
  assert.equal(made(), 0);
  assert.equal(taps.open.keyed, false);
  for (let n = 0; n < 20; n++) taps.fetch(ask(`${n}`, 'keyed'));
  pass('keyed', 'a');
  const taken = (n: number) => taps.fetch(ask(`${n}`, 'keyed')).records.length;
  assert.deepEqual([taken(11), taken(12)], [1, 0]);
  clock.ms += 11_000;
  taps.fetch(ask('late', 'matched'));
  assert.deepEqual([taps.open.keyed, taps.open.matched], [false, true]);
});
