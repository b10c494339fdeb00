import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Env, realEnv } from '../runtime/env.ts';
import { awaitPorts } from './port-file.ts';

/** Its time passes only by waiting; `waits` is called before each wait. */
function steppingEnv(waits: (number: number) => void): Env {
  let now = 0;
  let number = 0;
  return {
    ...realEnv,
    monotonic: () => now,
    timer: (delayMs, fn) => {
      waits(number++);
      now += delayMs;
      setImmediate(fn);
      return { cancel: () => undefined };
    },
  };
}

test('a port file is waited for until it is there as a whole', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'port-file-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'jobmanager.json');
  const contents = ['', '{"rpcPort": 4711', '{"rpcPort": 4711}', '[]'];
  const env = steppingEnv((number) => {
    writeFileSync(path, contents[number] ?? '{"rpcPort": 4711, "restPort": 4712, "pid": 1}');
  });
  assert.deepEqual(await awaitPorts(env, path, 60_000), { rpcPort: 4711, restPort: 4712 });
});

test('the wait ends with its limit, or with what the check throws', async () => {
  const env = steppingEnv(() => undefined);
  assert.equal(await awaitPorts(env, '/nowhere/jobmanager.json', 60_000), null);
  const check = () => {
    throw new Error('the JobManager has ended');
  };
  await assert.rejects(awaitPorts(env, '/nowhere/jobmanager.json', 60_000, check), /has ended/);
});
