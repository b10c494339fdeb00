import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RateBins } from './rate-bins.ts';

/** 10 per bin of 100 ms from 0 to 10 s, but `slow` from 4 s to 6 s. */
function bins(slow: number): RateBins {
  const rate = new RateBins();
  for (let at = 0; at < 10_000; at += 100) {
    rate.add(at, at + 100, at >= 4_000 && at < 6_000 ? slow : 10);
  }
  return rate;
}

const WINDOW = { from: 0, to: 10_000 };
const SPANS = [{ from: 3_990, to: 6_010 }];

describe('rate while a checkpoint runs', () => {
  it('is compared with the rate outside of it, by whole bins', () => {
    assert.equal(bins(10).dipPercent(WINDOW, SPANS), 0);
    assert.equal(bins(8).dipPercent(WINDOW, SPANS).toFixed(3), '20.000');
    const { within, outside } = bins(8).split(WINDOW, SPANS);
    // A bin at either edge belongs to neither side.
    assert.deepEqual([within.length, outside.length], [20, 78]);
  });

  it('takes nothing from outside of the window', () => {
    const { within, outside } = bins(8).split({ from: 4_450, to: 5_950 }, SPANS);
    assert.deepEqual([within.length, outside.length], [14, 0]);
  });

  it('says nothing of a handful of bins, on either side', () => {
    assert.ok(Number.isNaN(bins(8).dipPercent(WINDOW, [{ from: 4_000, to: 4_700 }])));
    assert.ok(Number.isNaN(bins(8).dipPercent({ from: 3_500, to: 6_000 }, SPANS)));
  });

  it('counts a bin in which nothing was handled', () => {
    const rate = new RateBins();
    for (let at = 0; at < 4_000; at += 100) rate.add(at, at, 5);
    assert.equal(rate.dipPercent({ from: 0, to: 6_000 }, [{ from: 4_000, to: 6_000 }]), 100);
  });

  it('spreads an amount over the bins that it was handled in', () => {
    const rate = new RateBins();
    rate.add(50, 250, 20);
    assert.deepEqual(rate.split({ from: 0, to: 300 }, []).outside, [5, 10, 5]);
  });
});
