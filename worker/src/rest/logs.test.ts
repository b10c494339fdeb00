/** Logs over REST: the process's own, a TaskManager's through its RPCs, and who may read them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import { LogTail } from '../runtime/log-tail.ts';
import { startRest } from './rest-server.ts';
import { RestTokens } from './rest-tokens.ts';
import { serveJob } from './test-rest.ts';

test('the newest lines of JobManager and TaskManager', async (t) => {
  const { rest, call } = await serveJob<object>(t);
  const text = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${rest.port}${path}`);
    return [answer.status, answer.headers.get('content-type'), await answer.text()];
  };
  const plain = 'text/plain; charset=utf-8';
  for (const path of ['/jobmanager/log', '/jobmanager/stdout', '/jobmanager/logs/jm.log']) {
    assert.deepEqual(await text(path), [200, plain, 'own\n']);
  }
  for (const path of ['log', 'stdout', 'logs/tm.log']) {
    assert.deepEqual(await text(`/taskmanagers/tm-1/${path}`), [200, plain, 'one\ntwo\n']);
  }
  const logs = [{ name: 'tm.log', size: 8, mtime: 7 }];
  assert.deepEqual((await call('/taskmanagers/tm-1/logs')).body, { logs });
  assert.equal((await call('/jobmanager/logs/..%2Fsecret')).status, 404);
  assert.equal((await call('/taskmanagers/none/log')).status, 404);
});

test('beyond loopback without a token nothing is changed and no log is shown', async (t) => {
  const { manager, options } = await serveJob<object>(t);
  const open = await startRest({ ...options, port: 0, bindAddress: '0.0.0.0' });
  t.after(() => open.close());
  const ask = (path: string, method = 'GET') =>
    fetch(`http://127.0.0.1:${open.port}${path}`, { method });
  const job = `/jobs/${manager.jobId}`;
  assert.equal((await ask(job)).status, 200);
  for (const [path, method] of [
    [`${job}/checkpoints`, 'POST'],
    [job, 'PATCH'],
    [`${job}/resource-requirements`, 'PUT'],
    [`${job}/yarn-cancel`, 'GET'],
    ['/jobmanager/log', 'GET'],
  ] as const) {
    const answer = await ask(path, method);
    assert.equal(answer.status, 403, `${method} ${path}`);
    assert.match(await answer.text(), /--rest-token-file/);
  }
  assert.equal(manager.view().status, 'RUNNING');
});

test('with tokens a log needs one, and so does a GET that cancels', async (t) => {
  const { manager, options } = await serveJob<object>(t);
  const dir = mkdtempSync(join(tmpdir(), 'logs-'));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'token'), 'a'.repeat(32));
  const tokens = new RestTokens(join(dir, 'token'), realEnv, () => undefined);
  const guarded = await startRest({ ...options, port: 0, tokens });
  t.after(() => guarded.close());
  const statusOf = async (path: string, headers: Record<string, string> = {}) =>
    (await fetch(`http://127.0.0.1:${guarded.port}${path}`, { headers })).status;
  assert.equal(await statusOf('/taskmanagers/tm-1/log'), 401);
  assert.equal(await statusOf(`/jobs/${manager.jobId}/yarn-cancel`), 401);
  const authorization = `Bearer ${'a'.repeat(32)}`;
  assert.equal(await statusOf('/taskmanagers/tm-1/log', { authorization }), 200);
  assert.equal(manager.view().status, 'RUNNING');
});

test('every answer says what a browser may do with it; HEAD has no body', async (t) => {
  const { rest } = await serveJob<object>(t);
  for (const path of ['/overview', '/nothing', '/metrics', '/healthz']) {
    const { headers } = await fetch(`http://127.0.0.1:${rest.port}${path}`);
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  }
  const head = await fetch(`http://127.0.0.1:${rest.port}/overview`, { method: 'HEAD' });
  assert.deepEqual([head.status, await head.text()], [200, '']);
});

test('a tail is bounded: in memory by its oldest lines, of a file by whole ones', async (t) => {
  const memory = new LogTail(realEnv, 'jobmanager', null);
  for (let i = 0; i < 10_000; i += 1) memory.add(`${String(i).padStart(99)}\n`);
  const { name, text } = await memory.read();
  assert.equal(name, 'jobmanager.log');
  assert.ok(text.length <= 256 * 1024 && text.endsWith('9999\n'));
  const dir = mkdtempSync(join(tmpdir(), 'tail-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'tm.log');
  writeFileSync(path, text + text);
  const file = await new LogTail(realEnv, 'taskmanager', path).read();
  assert.equal(file.name, 'tm.log');
  assert.ok(file.text.length <= 256 * 1024 && /^ *\d+\n/.test(file.text));
  writeFileSync(path, 'short\n');
  assert.equal((await new LogTail(realEnv, 'taskmanager', path).read()).text, 'short\n');
  await assert.rejects(new LogTail(realEnv, 'taskmanager', join(dir, 'none')).read());
});

test('a TaskManager that does not answer is told of by its name', {
  timeout: 60_000,
}, async (t) => {
  const { tm, call } = await serveJob<{ errors: string[] }>(t);
  tm.log = null;
  const { status, body } = await call('/taskmanagers/tm-1/log');
  assert.equal(status, 503);
  assert.match(body.errors[0] ?? '', /tm-1 tells nothing/);
});
