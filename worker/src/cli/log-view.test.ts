import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import { LogFile, LogView, parseLogLine } from './log-view.ts';
import { Terminal } from './terminal.ts';

describe('logs of the children', () => {
  it('tells log lines from output', () => {
    const line =
      '{"level":50,"time":1,"pid":2,"err":{"message":"no route"},"msg":"webhook failed"}';
    assert.deepEqual(parseLogLine(line), { level: 50, message: 'webhook failed: no route' });
    assert.deepEqual(parseLogLine('{"level":30,"msg":"up"}'), { level: 30, message: 'up' });
    for (const other of ['DEBUG EVENT', '{"event":{"level":50}}', '{"level":', '{"level":"x"}']) {
      assert.equal(parseLogLine(other), null, other);
    }
  });

  it('shows warnings and errors, a repeated one once per ten seconds', () => {
    const shown: string[] = [];
    const stream = { write: (text: string | Uint8Array) => shown.push(String(text)) > 0 };
    let now = 0;
    const view = new LogView(new Terminal(stream, stream, {}), {
      ...realEnv,
      monotonic: () => now,
    });
    view.show('taskmanager', { level: 30, message: 'fine' });
    for (now = 0; now < 10_000; now += 100)
      view.show('taskmanager', { level: 40, message: 'slow' });
    view.show('taskmanager', { level: 40, message: 'slow' });
    view.show('jobmanager', { level: 50, message: 'broken' });
    assert.deepEqual(shown, [
      'warning taskmanager: slow\n',
      'warning taskmanager: slow (and 99 times before)\n',
      'error jobmanager: broken\n',
    ]);
  });

  it('bounds a log file to twice its limit', () => {
    const folder = mkdtempSync(join(tmpdir(), 'logs-'));
    try {
      const path = join(folder, 'x.log');
      const log = new LogFile(path);
      const megabyte = 'x'.repeat(1024 * 1024 - 1);
      for (let count = 0; count < 40; count += 1) log.write(megabyte);
      log.write('last');
      log.close();
      assert.equal(statSync(`${path}.1`).size, 16 * 1024 * 1024);
      assert.equal(statSync(path).size, 8 * 1024 * 1024 + 5);
      assert.ok(readFileSync(path, 'utf8').endsWith('last\n'));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
