import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { FakeTaskManager } from '../jobmanager/fake-task-manager.ts';
import { TestCluster } from '../jobmanager/test-cluster.ts';
import { startRest } from '../rest/rest-server.ts';
import { realEnv } from '../runtime/env.ts';
import { rescaleJob } from './rescale.ts';
import { callRest } from './rest-client.ts';
import { Terminal } from './terminal.ts';

test('a command bears the token of its environment', async (t) => {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await callRest(realEnv, url, { method: 'PUT', body: {} });
  process.env['TRIGGERJOB_REST_TOKEN'] = 'secret\n';
  t.after(() => delete process.env['TRIGGERJOB_REST_TOKEN']);
  await callRest(realEnv, url);
  assert.deepEqual(seen, [undefined, 'Bearer secret']);
});

test('rescale asks the running job, and says what there is until then', async (t) => {
  const cluster = new TestCluster();
  t.after(() => cluster.close());
  const manager = await cluster.start();
  await FakeTaskManager.connect(manager.rpcPort, 2);
  while (manager.view().status !== 'RUNNING') await delay(2);
  const options = { jobManager: () => manager, leader: () => null, bindAddress: '127.0.0.1' };
  const rest = await startRest({ ...options, port: 0, env: realEnv });
  t.after(() => rest.close());
  const lines: string[] = [];
  const stream = { isTTY: false, columns: 80, write: (text: string) => lines.push(text) > 0 };
  const at = {
    env: realEnv,
    terminal: new Terminal(stream, stream, {}),
    rest: `http://127.0.0.1:${rest.port}`,
  };
  await rescaleJob(at, 5);
  assert.equal(manager.view().scaling.wanted, 5);
  assert.deepEqual(lines, [
    'asked for 5 subtasks; the job has 2, and 2 slots\n',
    'the rest comes with the slots that are missing\n',
  ]);
  await assert.rejects(rescaleJob(at, 99), {
    code: 'REST_REFUSED',
    message: /400 parallelism 99 is not possible: .*maxParallelism \(8\)/,
  });
});
