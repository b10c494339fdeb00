import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChannelSender } from '../exchange/channel-sender.ts';
import { realEnv } from '../runtime/env.ts';
import { RecordColumns } from '../source/record-columns.ts';
import type { SplitPosition } from '../source/source.ts';
import { RecordRouter, type RecordRouterOptions } from './record-router.ts';
import { RecordTaps } from './record-tap.ts';

const WALL_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const SKEW_MS = 1_000;

/** `wallMs`, `elapsedMs`: what the clocks say when a record of `timestamp` is routed. */
function clockAfter(
  timestamp: number,
  wallMs: number,
  elapsedMs: number,
  inspection: RecordRouterOptions['inspection'] = null,
): number {
  let [wall, monotonic] = [WALL_MS, 77];
  const router = new RecordRouter({
    env: {
      now: () => wall,
      monotonic: () => monotonic,
      random: () => 0,
      id: () => '',
      timer: () => ({ cancel: () => undefined }),
    },
    senders: [new ChannelSender({ bufferBytes: 4096, credit: 2, send: () => undefined })],
    owners: new Uint16Array([0]),
    keyBy: 'user_id',
    maxParallelism: 1,
    allowedSkewMs: SKEW_MS,
    inspection,
  });
  [wall, monotonic] = [wallMs, 77 + elapsedMs];
  const value = Buffer.from('{"user_id":"u1"}');
  const records = RecordColumns.of([{ offset: 0, timestamp, value }]);
  const split = { index: 0, id: 'events-0', sourceId: 'topic', partition: 0 };
  const position: SplitPosition = { split, offset: 0, clock: -1 };
  assert.equal(router.route(position, records, 0, 1, null), 1);
  return position.clock;
}

test("a record's time is capped at now and the skew (P36)", () => {
  const now = WALL_MS + 60_000;
  assert.equal(clockAfter(now - 10, now, 60_000), now - 10);
  assert.equal(clockAfter(now + HOUR_MS, now, 60_000), now + SKEW_MS);
});

test('a wall clock that is set back does not make what is read now older', () => {
  const now = WALL_MS + 60_000;
  assert.equal(clockAfter(now, now - HOUR_MS, 60_000), now);
  assert.equal(clockAfter(now + HOUR_MS, now - HOUR_MS, 60_000), now + SKEW_MS);
});

test('who taps the source sees each record with its place; nobody, and nothing is asked', () => {
  const seen: [string, number, number, string][] = [];
  const taps = new RecordTaps(realEnv, 1);
  const inspection: RecordRouterOptions['inspection'] = {
    taps,
    tapSource: (split, keyGroup, { bytes, starts, ends }, row) => {
      seen.push([split.id, keyGroup, row, bytes.toString('utf8', starts[row], ends[row])]);
    },
  };
  clockAfter(WALL_MS, WALL_MS, 0, inspection);
  assert.deepEqual(seen, []);
  taps.fetch({ id: '1', stage: 'source', userId: null });
  clockAfter(WALL_MS, WALL_MS, 0, inspection);
  assert.deepEqual(seen, [['events-0', 0, 0, '{"user_id":"u1"}']]);
});
