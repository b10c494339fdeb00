import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatAge, formatBytes, formatCount } from './amounts.ts';

describe('amounts as people read them', () => {
  it('sizes', () => {
    const sizes = [0, 1023, 1024, 1536, 16 * 1024 ** 2, 3 * 1024 ** 4].map(formatBytes);
    assert.deepEqual(sizes, ['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '16.0 MiB', '3.0 TiB']);
  });

  it('ages, in at most two parts', () => {
    const ages = [-5, 999, 1_000, 59_999, 60_000, 250_000, 3_600_000, 11_100_000, 187_200_000];
    assert.deepEqual(ages.map(formatAge), [
      '0 ms',
      '999 ms',
      '1 s',
      '59 s',
      '1 min',
      '4 min 10 s',
      '1 h',
      '3 h 5 min',
      '2 d 4 h',
    ]);
  });

  it('counts', () => {
    assert.deepEqual([0, 999, 1_000, 1_234_567.6].map(formatCount), [
      '0',
      '999',
      '1,000',
      '1,234,568',
    ]);
  });
});
