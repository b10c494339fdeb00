import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { realEnv } from '../runtime/env.ts';
import { FakeTaskManager } from './fake-task-manager.ts';
import { FrontDoor } from './front-door.ts';
import { TestCluster } from './test-cluster.ts';

test('a standby tells where the leader is; once it leads, connections go to the job', async (t) => {
  let leader: string | null = null;
  const door = await FrontDoor.open({
    env: realEnv,
    log: pino({ level: 'silent' }),
    keys: null,
    host: '127.0.0.1',
    port: 0,
    leader: () => leader,
  });
  t.after(() => door.close());
  const unknown = await (await FakeTaskManager.connect(door.port, 1)).next('refused');
  assert.deepEqual([unknown.code, unknown.leader], ['standby', null]);
  leader = '10.0.0.1:6123';
  const known = await (await FakeTaskManager.connect(door.port, 1)).next('refused');
  assert.equal(known.leader, leader);
  const cluster = new TestCluster();
  t.after(() => cluster.close());
  const manager = await cluster.start({ listen: door.listen });
  assert.equal(manager.rpcPort, door.port);
  const tm = await FakeTaskManager.connect(door.port, 2);
  await tm.next('deploy');
});
