import assert from 'node:assert/strict';
import { it } from 'node:test';
import { nearest } from './did-you-mean.ts';

const KNOWN = ['parallelism', 'maxParallelism', 'keyBy', 'ttl', 'checkpointing', 'taskManager'];

const pairs: [string, string | null][] = [
  ['paralelism', 'parallelism'],
  ['parallelsim', 'parallelism'],
  ['max_parallelism', 'maxParallelism'],
  ['keyby', 'keyBy'],
  ['tll', 'ttl'],
  ['checkpoint', 'checkpointing'],
  ['taskmanager', 'taskManager'],
  ['zzz', null],
  ['', null],
  ['x'.repeat(10_000), null],
];
for (const [name, expected] of pairs) {
  it(`${name.slice(0, 20)} -> ${expected}`, () => assert.equal(nearest(name, KNOWN), expected));
}
