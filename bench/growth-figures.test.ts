import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { growthFigures } from './growth-figures.ts';

const size = (name: string, ...eventsPerCpuSecond: number[]) => ({ name, eventsPerCpuSecond });
const values = (...sizes: Parameters<typeof growthFigures>[1]) =>
  growthFigures('users', sizes).map(({ value }) => value);

describe('growth', () => {
  it('is the spread of the medians, whichever size is the slowest', () => {
    const found = values(size('1 K', 90, 100, 500), size('10 K', 80), size('100 K', 95));
    assert.deepEqual(found.slice(0, 3), [100, 80, 95]);
    assert.deepEqual(found.slice(3, 5), [0.8, 0.95]);
    assert.equal(found[5]?.toFixed(3), '20.000');
  });

  it('has no spread if a size has no figure', () => {
    assert.ok(Number.isNaN(values(size('1 K', 100), size('10 K')).at(-1)));
  });
});
