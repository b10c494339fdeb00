/** A job with two subtasks on one TaskManager of the tests, and its REST API, for tests of that. */
import type { TestContext } from 'node:test';
import { FakeTaskManager } from '../jobmanager/fake-task-manager.ts';
import { TestCluster, until } from '../jobmanager/test-cluster.ts';
import { realEnv } from '../runtime/env.ts';
import { startRest } from './rest-server.ts';

const ownLog = () => Promise.resolve({ name: 'jm.log', modifiedAt: 5, text: 'own\n' });

/** `Answer`: what the test reads of answers; its assertions say which of it must be there. */
export async function serveJob<Answer>(t: TestContext) {
  const cluster = new TestCluster();
  t.after(() => cluster.close());
  const manager = await cluster.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await until('the job runs', () => manager.view().status === 'RUNNING');
  const options = {
    jobManager: () => manager,
    leader: () => null,
    bindAddress: '127.0.0.1',
    env: realEnv,
  };
  const rest = await startRest({ ...options, port: 0, ownLog });
  t.after(() => rest.close());
  const call = async (
    path: string,
    init?: RequestInit,
  ): Promise<{ status: number; body: Answer }> => {
    const response = await fetch(`http://127.0.0.1:${rest.port}${path}`, init);
    return { status: response.status, body: (await response.json()) as Answer };
  };
  const get = async (path: string): Promise<Answer> => (await call(path)).body;
  const post = (path: string, body: object = {}) =>
    call(path, { method: 'POST', body: JSON.stringify(body) });
  return { cluster, manager, tm, rest, call, get, post, options };
}
