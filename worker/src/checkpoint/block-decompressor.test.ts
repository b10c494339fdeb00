import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { decompressBlock } from './block-decompressor.ts';

const texts = [1, 300, 20_000].map((repeats) => Buffer.from('{"a":1,"b":[2,3]},'.repeat(repeats)));

const check = () => {
  for (const raw of texts)
    assert.ok(decompressBlock(zstdCompressSync(raw), raw.length).equals(raw));
};

test('frames one after the other, each on its own', check);

test('into scratch memory where it has room, and its last bytes are not touched', () => {
  const raw = texts[1]!;
  const scratch = Buffer.alloc(raw.length + 1_000, 0xee);
  const out = decompressBlock(zstdCompressSync(raw), raw.length, scratch);
  assert.ok(out.equals(raw));
  assert.equal(out.buffer, scratch.buffer);
  assert.ok(scratch.subarray(-900).every((byte) => byte === 0xee));
  const small = decompressBlock(zstdCompressSync(raw), raw.length, Buffer.alloc(10));
  assert.ok(small.equals(raw), 'else into memory of its own');
});

test('what is damaged, cut off, longer or followed by more throws, and the next is read', () => {
  const raw = texts[2]!;
  const whole = zstdCompressSync(raw);
  const flipped = Buffer.from(whole);
  flipped[2]! ^= 0xff;
  const faults: [string, Buffer, number][] = [
    ['no frame', Buffer.from('no frame at all'), 100],
    ['a flipped byte', flipped, raw.length],
    ['cut off', whole.subarray(0, whole.length - 10), raw.length],
    ['nothing', Buffer.alloc(0), raw.length],
    ['more than it should hold', whole, raw.length - 1],
    ['much more', whole, 10],
    ['less', whole, raw.length + 1],
    ['followed by another', Buffer.concat([whole, whole]), raw.length],
  ];
  for (const [name, stored, rawBytes] of faults) {
    assert.throws(() => decompressBlock(stored, rawBytes), Error, name);
    check();
  }
});
