/** Files as the kubelet mounts them: links into `..data`, which is swapped as a whole. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { SecretFile } from '../rpc/transport-secret.ts';
import { realEnv } from '../runtime/env.ts';
import { ScriptWatch } from './script-watch.ts';
import { until } from './test-cluster.ts';

/** A volume with one file; `swap` replaces its content as the kubelet's atomic writer does. */
function volume(t: TestContext, name: string, mode: number) {
  const dir = mkdtempSync(join(tmpdir(), 'volume-'));
  t.after(() => rmSync(dir, { recursive: true }));
  let version = 0;
  const swap = (text: string) => {
    const before = `..${version}`;
    const next = `..${++version}`;
    mkdirSync(join(dir, next));
    writeFileSync(join(dir, next, name), text, { mode });
    symlinkSync(next, join(dir, '..data_tmp'));
    renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
    rmSync(join(dir, before), { recursive: true, force: true });
  };
  return {
    path: join(dir, name),
    link: () => symlinkSync(`..data/${name}`, join(dir, name)),
    swap,
  };
}

test('a mounted Secret of mode 0440 is read, and read again once it is swapped', (t) => {
  const { path, link, swap } = volume(t, 'transport', 0o440);
  swap('a'.repeat(64));
  link();
  let now = 0;
  const faults: string[] = [];
  const env = { ...realEnv, monotonic: () => now };
  const secret = new SecretFile(path, env, (fault) => faults.push(fault));
  const first = secret.own('rpc').identity;
  swap(`${'a'.repeat(64)}\n${'b'.repeat(64)}`);
  now += 1_000;
  assert.equal(secret.own('rpc').identity, first, 'the first line calls');
  swap(`${'b'.repeat(64)}\n${'a'.repeat(64)}`);
  now += 1_000;
  assert.notEqual(secret.own('rpc').identity, first);
  assert.ok(secret.find('rpc', first), 'who still calls by the old one is let in');
  swap('b'.repeat(64));
  now += 1_000;
  assert.equal(secret.find('rpc', first), null);
  assert.deepEqual(faults, []);
});

test('a script in a mounted ConfigMap is seen when that is swapped', async (t) => {
  const { path, link, swap } = volume(t, 'script.av', 0o644);
  swap('one');
  link();
  const seen: number[] = [];
  const watch = new ScriptWatch({
    env: { ...realEnv, timer: (_delayMs, fn) => realEnv.timer(5, fn) },
    log: pino({ level: 'silent' }),
    files: [path],
    loadScript: () => {
      seen.push(seen.length);
      return Promise.resolve(null);
    },
    onScript: () => undefined,
    onRefused: (refused) => assert.fail(refused.fault),
  });
  t.after(() => watch.close());
  await until('the first look', () => seen.length === 1);
  swap('two');
  await until('the swap', () => seen.length === 2);
  swap('six');
  await until('the next swap', () => seen.length === 3);
});
