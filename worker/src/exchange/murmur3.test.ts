import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { murmur3, murmur3Bytes, murmur3Range } from './murmur3.ts';

// Vectors of MurmurHash3_x86_32 as published with the reference implementation's ports.
const VECTORS: [string, number, number][] = [
  ['', 0, 0],
  ['', 1, 0x514e28b7],
  ['', 0xffffffff, 0x81f16f39],
  ['a', 0x9747b28c, 0x7fa09ea6],
  ['aa', 0x9747b28c, 0x5d211726],
  ['aaa', 0x9747b28c, 0x283e0130],
  ['aaaa', 0x9747b28c, 0x5a97808a],
  ['abc', 0, 0xb3dd93fa],
  ['abcd', 0x9747b28c, 0xf0478627],
  ['Hello, world!', 0x9747b28c, 0x24884cba],
  ['ππππππππ', 0x9747b28c, 0xd58063c1],
  ['The quick brown fox jumps over the lazy dog', 0x9747b28c, 0x2fa826cd],
];

for (const [text, seed, expected] of VECTORS) {
  test(`murmur3 of ${JSON.stringify(text)} with seed ${seed.toString(16)}`, () => {
    assert.equal(murmur3Bytes(Buffer.from(text), seed), expected);
    if (seed === 0) assert.equal(murmur3(text), expected);
  });
}

test('the string form equals the byte form for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
      const bytes = Buffer.from(text);
      assert.equal(murmur3(text), murmur3Bytes(bytes));
      const inside = Buffer.concat([Buffer.from('#'), bytes, Buffer.from('#####')]);
      const view = new DataView(inside.buffer, inside.byteOffset, inside.length);
      assert.equal(murmur3Range(view, 1, 1 + bytes.length), murmur3(text));
    }),
    { seed: 7, numRuns: 2000 },
  );
});
