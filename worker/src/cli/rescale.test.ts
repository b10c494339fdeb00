import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { FakeTaskManager } from '../jobmanager/fake-task-manager.ts';
import { TestCluster, testPlan } from '../jobmanager/test-cluster.ts';
import { startRest } from '../rest/rest-server.ts';
import { realEnv } from '../runtime/env.ts';
import { rescaleJob } from './rescale.ts';
import { Terminal } from './terminal.ts';

test('rescale asks the running job, and says what there is until then', async (t) => {
  const cluster = new TestCluster();
  t.after(() => cluster.close());
  const manager = await cluster.start();
  await FakeTaskManager.connect(manager.rpcPort, 2);
  while (manager.view().status !== 'RUNNING') await delay(2);
  const options = { plan: testPlan(), jobManager: manager, bindAddress: '127.0.0.1' };
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
