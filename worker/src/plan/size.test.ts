import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatSize, parseFlinkSize, parseSize } from './size.ts';

const MEBI = 1024 ** 2;

describe('sizes in the spec are Kubernetes quantities', () => {
  const good: [string | number, number][] = [
    ['16Mi', 16 * MEBI],
    ['4Gi', 4096 * MEBI],
    ['1Ti', 1024 ** 4],
    ['1.5Gi', 1536 * MEBI],
    ['100M', 100_000_000],
    ['5k', 5000],
    ['2G', 2_000_000_000],
    ['1024', 1024],
    [1024, 1024],
    ['1.1Ki', 1126],
  ];
  for (const [text, expected] of good) {
    it(`${text} is ${expected} bytes`, () => assert.equal(parseSize(text), expected));
  }
  for (const text of [
    '',
    '4g',
    '64mb',
    '16MiB',
    '-1Gi',
    '1Pi',
    'Mi',
    '400m',
    '1 Gi',
    -1,
    1.5e300,
  ]) {
    it(`${JSON.stringify(text)} is none`, () => assert.equal(parseSize(text), null));
  }
});

describe('sizes in Flink keys are powers of 1024, whatever the case', () => {
  const good: [string | number, number][] = [
    ['4g', 4096 * MEBI],
    ['4G', 4096 * MEBI],
    ['64mb', 64 * MEBI],
    ['64 MB', 64 * MEBI],
    ['100M', 100 * MEBI],
    ['4Gi', 4096 * MEBI],
    ['32kb', 32_768],
    ['10 bytes', 10],
    ['1024', 1024],
    [1024, 1024],
    ['1 tb', 1024 ** 4],
  ];
  for (const [text, expected] of good) {
    it(`${text} is ${expected} bytes`, () => assert.equal(parseFlinkSize(text), expected));
  }
  for (const text of ['', 'g', '4x', '-4g', '4 g b']) {
    it(`${JSON.stringify(text)} is none`, () => assert.equal(parseFlinkSize(text), null));
  }
});

it('sizes in messages are exact where a unit divides them', () => {
  assert.equal(formatSize(4096 * MEBI), '4Gi');
  assert.equal(formatSize(1536 * MEBI), '1536Mi');
  assert.equal(formatSize(1500), '1.5Ki');
  assert.equal(formatSize(10), '10');
});
