/** What a browser on this machine may ask of a JobManager without tokens, for which pages. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import { foreignRequest } from './loopback.ts';
import { startRest } from './rest-server.ts';
import { RestTokens } from './rest-tokens.ts';
import { serveJob } from './test-rest.ts';

test('own are the names of loopback, with any port, and pages that come from there', () => {
  const own = (host?: string, origin?: string) =>
    foreignRequest({ ...(host && { host }), ...(origin && { origin }) }) === null;
  for (const host of ['localhost', 'LOCALHOST:80', '127.0.0.1:8081', '127.1.2.3', '[::1]:9']) {
    assert.ok(own(host), host);
    assert.ok(own(host, `http://${host}`), host);
    assert.ok(!own(host, 'null'), host);
    assert.ok(!own(host, 'http://evil.example:8081'), host);
    assert.ok(!own(host, 'http://localhost:1'), host);
  }
  for (const host of [
    'evil.example:8081',
    '127.0.0.1.evil.example',
    '127.evil',
    '10.0.0.1',
    '::1',
  ]) {
    assert.ok(!own(host), host);
  }
  assert.ok(!own());
});

async function ask(
  port: number,
  path: string,
  headers: Record<string, string>,
  method = 'GET',
): Promise<[number, string]> {
  const { promise, resolve, reject } = Promise.withResolvers<[number, string]>();
  const asked = request({ host: '127.0.0.1', port, path, method, headers }, (answer) => {
    text(answer).then((body) => resolve([answer.statusCode ?? 0, body]), reject);
  });
  asked.on('error', reject).end(method === 'GET' ? undefined : '{}');
  return await promise;
}

test('without tokens no page of another site reads or changes, nor by a standby', async (t) => {
  const { manager, rest, options } = await serveJob<object>(t);
  const leader = () => `http://127.0.0.1:${rest.port}`;
  const standby = await startRest({ ...options, port: 0, jobManager: () => null, leader });
  t.after(() => standby.close());
  const job = `/jobs/${manager.jobId}`;
  for (const { port } of [rest, standby]) {
    const own = { host: `localhost:${port}` };
    const status = async (...[path, headers, method]: [string, Record<string, string>, string?]) =>
      (await ask(port, path, { ...own, ...headers }, method))[0];
    const evil = { host: `evil.example:${port}` };
    const [refused, why] = await ask(port, job, evil);
    assert.deepEqual(
      [refused, /not as evil\.example:\d+;.*--rest-token/.test(why)],
      [403, true],
      why,
    );
    assert.equal(await status('/', evil), 403);
    assert.equal(await status('/healthz', evil), 200);
    const page = { origin: 'http://evil.example' };
    const [posted, text] = await ask(port, `${job}/checkpoints`, { ...own, ...page }, 'POST');
    assert.deepEqual([posted, /Origin is http:\/\/evil/.test(text)], [403, true], text);
    assert.equal(await status(`${job}/yarn-cancel`, { 'sec-fetch-site': 'cross-site' }), 403);
    assert.equal(await status(job, { 'sec-fetch-site': 'cross-site' }), 200, 'a link');
    const ui = { origin: `http://localhost:${port}`, 'sec-fetch-site': 'same-origin' };
    assert.equal(await status(`${job}/checkpoints`, ui, 'POST'), 202);
    assert.equal(await status(`${job}/checkpoints`, {}, 'POST'), 202, 'no browser');
  }
  assert.equal(manager.view().status, 'RUNNING');
});

test('with tokens, or beyond loopback, any name will do', async (t) => {
  const { options } = await serveJob<object>(t);
  const dir = mkdtempSync(join(tmpdir(), 'loopback-'));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'token'), 'a'.repeat(32));
  const tokens = new RestTokens(join(dir, 'token'), realEnv, () => undefined);
  const guarded = await startRest({ ...options, port: 0, tokens });
  const wide = await startRest({ ...options, port: 0, bindAddress: '0.0.0.0' });
  t.after(() => Promise.all([guarded.close(), wide.close()]));
  for (const { port } of [guarded, wide]) {
    assert.equal((await ask(port, '/overview', { host: 'jobs.example' }))[0], 200);
  }
});
