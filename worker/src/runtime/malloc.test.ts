/** A pod's malloc is set as that of a local run, whose memory is what the benchmarks measure. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MALLOC_SETTINGS } from './malloc.ts';

test("the image has malloc's settings", async () => {
  const dockerfile = await readFile(new URL('../../../Dockerfile.worker', import.meta.url), 'utf8');
  const found = [...dockerfile.matchAll(/\b((?:MALLOC|GLIBC)_\w+)=(\S+)/g)].map(
    ([, name, value]) => [name, value],
  );
  assert.deepEqual(Object.fromEntries(found), MALLOC_SETTINGS);
});
