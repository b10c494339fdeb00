import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatDuration, parseDuration, parseFlinkDuration } from './duration.ts';

describe('durations', () => {
  const good: [string, number][] = [
    ['0', 0],
    ['0s', 0],
    ['500ms', 500],
    ['60s', 60_000],
    ['10m', 600_000],
    ['1h30m', 5_400_000],
    ['1h 30m', 5_400_000],
    ['24h', 86_400_000],
    ['2d', 172_800_000],
    ['10 min', 600_000],
    ['60 s', 60_000],
    ['3 seconds', 3000],
    ['1 day', 86_400_000],
    [' 5m ', 300_000],
  ];
  for (const [text, expected] of good) {
    it(`${text} is ${expected} ms`, () => assert.equal(parseDuration(text), expected));
  }

  const bad = ['', '60', '-1s', '1.5h', '10x', 's', '5 m x', 'PT10M', '1e3s', '9999999999999999d'];
  for (const text of bad) {
    it(`${JSON.stringify(text)} is none`, () => assert.equal(parseDuration(text), null));
  }

  it('a bare number has a unit only in Flink keys: milliseconds', () => {
    assert.equal(parseFlinkDuration('60000'), 60_000);
    assert.equal(parseFlinkDuration(60_000), 60_000);
    assert.equal(parseFlinkDuration('10 min'), 600_000);
    assert.equal(parseFlinkDuration(-1), null);
    assert.equal(parseFlinkDuration('99999999999999999999'), null);
  });

  it('what is formatted is read back as the same duration', () => {
    fc.assert(
      fc.property(fc.nat(), (ms) => assert.equal(parseDuration(formatDuration(ms)), ms)),
      { seed: 1 },
    );
    assert.equal(formatDuration(0), '0ms');
    assert.equal(formatDuration(90_000), '90s');
    assert.equal(formatDuration(7_200_000), '2h');
  });
});
