import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import { lockStateDir, StateDir } from './state-dir.ts';

describe('lock of a state directory', () => {
  let dir: StateDir;
  beforeEach(() => {
    dir = new StateDir(mkdtempSync(join(tmpdir(), 'state-dir-')));
  });
  afterEach(() => rmSync(dir.root, { recursive: true, force: true }));
  const lockFile = () => dir.file('lock');
  const leftovers = () => readdirSync(dir.root).filter((name) => name !== 'lock');

  it('keeps a second run out until it is given back', () => {
    const unlock = lockStateDir(dir, realEnv);
    const holder = new RegExp(`used by process ${process.pid} on ${hostname()}`);
    assert.throws(() => lockStateDir(dir, realEnv), { code: 'STATE_DIR_IN_USE', message: holder });
    unlock();
    lockStateDir(dir, realEnv)();
    assert.deepEqual(readdirSync(dir.root), []);
  });

  it('takes over from a holder that is gone', () => {
    const gone = spawnSync(process.execPath, ['-e', '']).pid;
    const dead = { pid: gone, host: hostname(), started: '1' };
    for (const content of [JSON.stringify(dead), '', '{"pid":']) {
      writeFileSync(lockFile(), content);
      const unlock = lockStateDir(dir, realEnv);
      assert.deepEqual(leftovers(), []);
      assert.equal(JSON.parse(readFileSync(lockFile(), 'utf8')).pid, process.pid);
      unlock();
    }
  });

  it('does not take a reused pid for the holder', () => {
    const reused = { pid: process.pid, host: hostname(), started: 'another time' };
    writeFileSync(lockFile(), JSON.stringify(reused));
    lockStateDir(dir, realEnv)();
  });

  it('cannot judge a holder on another host and leaves it alone', () => {
    const other = JSON.stringify({ pid: 1, host: 'elsewhere.example', started: '1' });
    writeFileSync(lockFile(), other);
    assert.throws(() => lockStateDir(dir, realEnv), { code: 'STATE_DIR_IN_USE' });
    assert.equal(readFileSync(lockFile(), 'utf8'), other);
  });

  it('gives back only its own lock', () => {
    const unlock = lockStateDir(dir, realEnv);
    writeFileSync(lockFile(), 'of another');
    unlock();
    assert.equal(readFileSync(lockFile(), 'utf8'), 'of another');
  });
});
