import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type SplitProgress, sourceLag } from './source-lag.ts';

const split = (offset: number, more: Partial<SplitProgress> = {}): SplitProgress => ({
  position: { offset },
  endOffset: 100,
  finished: false,
  emitLagMs: null,
  ...more,
});

describe('the lag of a source', () => {
  it('is the sum over its splits, and the one that is furthest behind', () => {
    assert.deepEqual(sourceLag([split(40, { emitLagMs: 20 }), split(90, { emitLagMs: 500 })]), {
      openSplits: 2,
      pendingRecords: 70,
      recordsLagMax: 60,
      emitEventTimeLagMs: 500,
    });
  });

  it('is of open splits that tell where they end', () => {
    const splits = [split(0, { endOffset: -1 }), split(0, { finished: true, emitLagMs: 9_000 })];
    assert.deepEqual(sourceLag(splits), {
      openSplits: 1,
      pendingRecords: 0,
      recordsLagMax: 0,
      emitEventTimeLagMs: -1,
    });
  });

  it('is not negative when records are read that the last answer did not know', () => {
    assert.equal(sourceLag([split(120)]).recordsLagMax, 0);
  });
});
