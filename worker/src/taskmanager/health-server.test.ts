import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serveHealth } from './health-server.ts';

test('probes and metrics follow the registration', async (t) => {
  const health = { registered: false, slots: 4, tasks: 0 };
  const server = await serveHealth(0, () => health);
  t.after(() => server.close());
  const get = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${server.port}${path}`);
    return [answer.status, await answer.text()] as const;
  };
  assert.equal((await get('/healthz'))[0], 200);
  assert.equal((await get('/readyz'))[0], 503);
  assert.equal((await get('/'))[0], 404);
  health.registered = true;
  health.tasks = 3;
  assert.equal((await get('/readyz?verbose'))[0], 200);
  const [, metrics] = await get('/metrics');
  assert.match(metrics, /^triggerjob_taskmanager_registered 1$/m);
  assert.match(metrics, /^triggerjob_taskmanager_tasks 3$/m);
  await assert.rejects(
    serveHealth(server.port, () => health),
    { code: 'HEALTH_LISTEN' },
  );
});
