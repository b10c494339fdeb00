import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { claimLocalState, processIsAlive } from './local-state.ts';

test('folders of ended processes and our own number go, those of running ones stay', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'triggerjob-local-'));
  try {
    for (const name of ['tm-10', 'tm-20', 'tm-30', 'else']) {
      await mkdir(join(folder, name));
      await writeFile(join(folder, name, 'left'), 'x');
    }
    const own = await claimLocalState(folder, 30, (pid) => pid === 20);
    assert.equal(own, join(folder, 'tm-30'));
    assert.deepEqual((await readdir(folder)).sort(), ['else', 'tm-20', 'tm-30']);
    assert.deepEqual(await readdir(own), []);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('this process is alive, an unused number is not', () => {
  assert.ok(processIsAlive(process.pid));
  assert.ok(!processIsAlive(2 ** 22 + 1));
});
