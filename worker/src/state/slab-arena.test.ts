import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Block, NO_BLOCK, SlabArena } from './slab-arena.ts';

const MEBIBYTE = 1024 * 1024;

/** Sizes of small, common and rare blocks, those with a slab of their own included. */
const size = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 5_000 }) },
  { weight: 2, arbitrary: fc.integer({ min: 5_000, max: 300_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 300_000, max: 3_000_000 }) },
);
const step = fc.oneof(
  { weight: 3, arbitrary: size.map((bytes) => ({ bytes, victim: -1 })) },
  { weight: 2, arbitrary: fc.nat().map((victim) => ({ bytes: -1, victim })) },
);
/** Of a user in a dump, of a small cache, of any other. */
const cacheBytes = fc.constantFrom(0, 1_000_000, 64 * MEBIBYTE);

test('live blocks never overlap, keep their bytes, and all memory comes back', () => {
  fc.assert(
    fc.property(cacheBytes, fc.array(step, { maxLength: 200 }), (bytes, steps) => {
      const arena = new SlabArena(bytes);
      const live: { block: Block; bytes: number; fill: number }[] = [];
      const check = ({ block, bytes, fill }: (typeof live)[number]) => {
        const at = arena.offset(block);
        const held = arena.buffer(block).subarray(at, at + bytes);
        assert.ok(held.length === bytes && held.every((byte) => byte === fill), 'bytes changed');
      };
      steps.forEach(({ bytes, victim }, n) => {
        if (bytes >= 0) {
          const block = arena.allocate(bytes);
          assert.notEqual(block, NO_BLOCK);
          assert.ok(arena.capacity(block) >= bytes);
          const at = arena.offset(block);
          // Its whole capacity: a neighbour would lose bytes to an overlap.
          arena.buffer(block).fill(n & 0xff, at, at + arena.capacity(block));
          live.push({ block, bytes: arena.capacity(block), fill: n & 0xff });
        } else if (live.length > 0) {
          const [gone] = live.splice(victim % live.length, 1);
          check(gone!);
          arena.free(gone!.block);
        }
      });
      live.forEach(check);
      for (const { block } of live) arena.free(block);
      // At most one empty slab per size class, and those only of classes that were used.
      assert.ok(arena.bytes <= 44 * MEBIBYTE);
    }),
    { seed: 4, numRuns: 100 },
  );
});

test('blocks of one size fill their slab, and freed ones are used again', () => {
  const arena = new SlabArena();
  const blocks = Array.from({ length: 3 * 1024 }, () => arena.allocate(1024));
  assert.equal(arena.bytes, 3 * MEBIBYTE);
  assert.equal(new Set(blocks).size, blocks.length);
  for (const block of blocks.slice(0, 1024)) arena.free(block);
  for (let n = 0; n < 1024; n++) arena.allocate(1000);
  assert.equal(arena.bytes, 3 * MEBIBYTE);
});

test('an empty slab goes back, but for one that the next block needs', () => {
  const arena = new SlabArena();
  const blocks = Array.from({ length: 4 * 1024 }, () => arena.allocate(1024));
  for (const block of blocks) arena.free(block);
  assert.equal(arena.bytes, MEBIBYTE);
  const big = arena.allocate(5 * MEBIBYTE);
  assert.equal(arena.bytes, 6 * MEBIBYTE);
  arena.free(big);
  assert.equal(arena.bytes, MEBIBYTE);
});

test('a small cache has small slabs: what it holds beside its blocks is bounded by it', () => {
  const arena = new SlabArena(MEBIBYTE);
  for (let bytes = 64; bytes < 4_096; bytes += 64) arena.allocate(bytes);
  assert.ok(arena.bytes <= MEBIBYTE, `${arena.bytes}`);
});

test('a block is wasted by less than a third', () => {
  const arena = new SlabArena();
  for (let bytes = 256; bytes < 400_000; bytes += 97) {
    const capacity = arena.capacity(arena.allocate(bytes));
    assert.ok(capacity >= bytes && capacity < bytes * 1.34 + 64, `${bytes}: ${capacity}`);
  }
});

test('a second free is refused once it can be seen', () => {
  const arena = new SlabArena();
  const big = arena.allocate(MEBIBYTE);
  arena.free(big);
  assert.throws(() => arena.free(big), { code: 'INVARIANT' });
  const small = arena.allocate(10);
  arena.free(small);
  assert.throws(() => arena.free(small), { code: 'INVARIANT' });
});
