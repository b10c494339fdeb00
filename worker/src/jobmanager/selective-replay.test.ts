import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { decodeRecord } from '../checkpoint/log-record.ts';
import { FakeTaskManager, runningOf } from './fake-task-manager.ts';
import { SCRIPT, TestCluster, testPlan, until } from './test-cluster.ts';

/** `a` has subtasks 0 and 3, `b` 1 and 4, `c` 2; `more` is over their plan. */
async function threeTaskManagers(t: TestContext, more: { timeoutMs?: number } = {}) {
  const made = new TestCluster();
  t.after(() => made.close());
  const plan = { ...testPlan(more), parallelism: 5, selectiveReplay: true };
  const manager = await made.start({ plan });
  const connect = (id: string) => FakeTaskManager.connect(manager.rpcPort, 2, id);
  const a = await connect('a');
  const b = await connect('b');
  const c = await connect('c');
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  const log = () =>
    [...made.store.objects]
      .filter(([name]) => name.startsWith('log/'))
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([, { content }], index) => decodeRecord(content, index));
  return { made, plan, manager, connect, log, a, b, c };
}

const countOf = (tm: FakeTaskManager, type: string) =>
  tm.commands.filter((command) => command.type === type).length;

test('a lost TaskManager: its tasks alone are deployed again, after the record', async (t) => {
  const { manager, connect, log, a, b, c } = await threeTaskManagers(t);
  const id = await manager.checkpoint();
  a.accepted = [117, 111];
  b.accepted = [115, 119];
  c.accepted = [999];
  c.close();
  const detach = await b.next('detach');
  assert.deepEqual(detach.subtasks, [2]);
  await a.next('detach');
  // a and b have no slot free.
  const d = await connect('d');
  const deploy = await d.next('deploy');
  assert.deepEqual(deploy.attempts, [1, 1, 2, 1, 1]);
  assert.equal(deploy.attempt, 2);
  const [task, ...others] = deploy.tasks;
  assert.deepEqual(others, []);
  assert.deepEqual([task?.subtask, task?.attempt, task?.replaces], [2, 2, true]);
  assert.equal(task?.restoredId, id);
  assert.deepEqual(
    task?.splits.map(({ split, offset }) => [split.index, offset]),
    [[2, 110]],
  );
  const restore = log().at(-1);
  assert.ok(restore?.kind === 'restore' && restore.checkpointId === id);
  const replace = await a.next('replace');
  assert.deepEqual(replace.tasks, []);
  assert.deepEqual(
    replace.members.map(({ taskManagerId, subtasks }) => [taskManagerId, subtasks]),
    [
      ['a', [0, 3]],
      ['b', [1, 4]],
      ['d', [2]],
    ],
  );
  const replay = await b.next('replay');
  assert.deepEqual(replay.goals, [
    { split: 0, offset: 117 },
    { split: 1, offset: 119 },
  ]);
  assert.deepEqual(
    replay.positions.map(({ split, offset }) => [split.index, offset]),
    [
      [0, 110],
      [1, 110],
      [2, 110],
    ],
  );
  const next = await manager.checkpoint();
  assert.ok(next > id);
  for (const tm of [a, b]) {
    assert.deepEqual([countOf(tm, 'deploy'), countOf(tm, 'cancel')], [1, 0]);
  }
  const { restarts, status, attempt } = manager.view();
  assert.deepEqual([restarts, status, attempt], [0, 'RUNNING', 2]);
});

test('a free slot of a TaskManager that runs on will do', async (t) => {
  const { manager, a, b, c } = await threeTaskManagers(t);
  const d = await FakeTaskManager.connect(manager.rpcPort, 1, 'd');
  c.close();
  const deploy = await d.next('deploy');
  assert.deepEqual(
    deploy.tasks.map(({ subtask, slot }) => [subtask, slot]),
    [[2, 0]],
  );
  await manager.checkpoint();
  d.close();
  const e = await FakeTaskManager.connect(manager.rpcPort, 2, 'e');
  await e.next('deploy', ({ attempt }) => attempt === 3);
  await manager.checkpoint();
  a.close();
  // e has one free slot, a had two tasks.
  const f = await FakeTaskManager.connect(manager.rpcPort, 1, 'f');
  const more = await e.next('replace', ({ attempt }) => attempt === 4);
  const rest = await f.next('deploy');
  assert.deepEqual([...more.tasks, ...rest.tasks].map(({ subtask }) => subtask).sort(), [0, 3]);
  await manager.checkpoint();
  assert.deepEqual([countOf(b, 'deploy'), manager.view().restarts], [1, 0]);
});

test('P55: a second loss restarts everything from the last checkpoint', async (t) => {
  const { manager, connect, a, b, c } = await threeTaskManagers(t);
  const id = await manager.checkpoint();
  c.close();
  await b.next('detach');
  b.close();
  await a.next('cancel');
  const d = await connect('d');
  const e = await connect('e');
  const again = await Promise.all(
    [a, d, e].map((tm) => tm.next('deploy', ({ tasks }) => tasks[0]!.attempt > 1)),
  );
  for (const { tasks, attempts } of again) {
    assert.equal(new Set(attempts).size, 1);
    assert.ok(tasks.every((task) => task.restoredId === id && !task.replaces));
  }
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  assert.equal(manager.view().restarts, 1);
});

test('P55: what takes longer than its limit restarts everything', async (t) => {
  const { manager, connect, a, b, c } = await threeTaskManagers(t, { timeoutMs: 300 });
  a.catchesUp = false;
  c.close();
  const d = await connect('d');
  await b.next('replay');
  await a.next('cancel');
  await d.next('deploy', ({ attempts }) => new Set(attempts).size === 1);
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  const { exceptions, restarts } = manager.view();
  assert.equal(restarts, 1);
  assert.match(exceptions.entries[0]?.message ?? '', /not replaced alone: .*waited for/);
});

test('a checkpoint under way is aborted, and settled before the next one (P7)', async (t) => {
  const { manager, connect, a, b, c } = await threeTaskManagers(t);
  for (const tm of [a, b, c]) tm.onTrigger = 'ignore';
  const failed = assert.rejects(manager.checkpoint(), /TASK_LOST/);
  const { checkpointId } = await a.next('trigger');
  c.close();
  await failed;
  await a.next('abort');
  const d = await connect('d');
  await d.next('replay');
  for (const tm of [a, b]) tm.onTrigger = 'ack';
  const next = manager.checkpoint();
  await delay(50);
  assert.equal(countOf(a, 'trigger'), 1);
  for (const tm of [a, b]) {
    for (const { subtask, attempt } of tm.tasks.values()) {
      tm.send({ type: 'drained', taskManagerId: tm.id, attempt, checkpointId, subtask });
    }
  }
  assert.ok((await next) > checkpointId);
});

test('a broken connection between two that live restarts everything, after a moment', async (t) => {
  const { manager, a, b, c } = await threeTaskManagers(t);
  const code = 'LINK_RESET';
  b.send({ type: 'peer-lost', taskManagerId: 'b', attempt: 1, peer: 'c', code, error: 'reset' });
  for (const tm of [a, b, c]) await tm.next('deploy', ({ attempt }) => attempt === 2);
  assert.equal(countOf(a, 'detach'), 0);
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  assert.equal(manager.view().restarts, 1);
});

test("P34: a successor begins with its checkpoint's script, not with the attempt's", async (t) => {
  const { manager, connect, c } = await threeTaskManagers(t);
  const { language } = SCRIPT;
  manager.changeScript({ version: 'v2', text: 'false', language });
  await manager.checkpoint();
  manager.changeScript({ version: 'v3', text: 'true', language });
  c.close();
  const d = await connect('d');
  const { script } = await d.next('deploy');
  assert.equal(script.version, 'v2');
  await manager.checkpoint();
  const { script: next } = await d.next('trigger');
  assert.equal(next.version, 'v3');
});

test('a job that is being stopped with a savepoint restarts whole: sources are held', async (t) => {
  const { manager, a, b, c } = await threeTaskManagers(t);
  for (const tm of [a, b, c]) tm.onTrigger = 'ignore';
  const stopped = assert.rejects(manager.stopWithSavepoint({ drain: false, as: 'finished' }));
  await a.next('hold-sources');
  c.close();
  await a.next('cancel');
  assert.equal(countOf(a, 'detach'), 0);
  await stopped;
  await b.next('cancel');
});

/** The same three under the next leader, which adopts their tasks. */
async function adoptedTaskManagers(t: TestContext) {
  const { made, plan, manager, log, a, b, c } = await threeTaskManagers(t);
  const id = await manager.checkpoint();
  const second = await made.start({ plan });
  const connect = (name: string) => FakeTaskManager.connect(second.rpcPort, 2, name);
  const deploy = await a.next('deploy');
  const again = [];
  for (const tm of [a, b, c]) {
    const own = await tm.next('deploy');
    const at = { seen: id, taken: id };
    const running = runningOf(own, (task) => ({ ...task, ...at }));
    const one = await FakeTaskManager.connect(second.rpcPort, 2, tm.id, { running });
    for (const task of own.tasks) one.tasks.set(task.subtask, task);
    again.push(one);
  }
  await until('RUNNING', () => second.view().status === 'RUNNING');
  const [a2, b2, c2] = again as [FakeTaskManager, FakeTaskManager, FakeTaskManager];
  return { made, plan, second, connect, log, deploy, id, a: a2, b: b2, c: c2 };
}

test('P45, P52: of an adopted attempt the lost tasks alone are replaced', async (t) => {
  const { second, connect, log, deploy: first, id, a, b, c } = await adoptedTaskManagers(t);
  c.close();
  assert.deepEqual((await a.next('detach')).subtasks, [2]);
  const d = await connect('d');
  const deploy = await d.next('deploy');
  const attempt = first.attempt + 1;
  assert.deepEqual(deploy.attempts, [1, 1, attempt, 1, 1]);
  assert.equal(deploy.secret, first.secret, 'its peers let it in');
  assert.equal(deploy.tasks[0]?.restoredId, id);
  const restore = log().findLast((one) => one.kind === 'restore');
  assert.deepEqual(restore?.deployment, { attempt, parallelism: 5, restarts: 0 });
  await b.next('replay');
  assert.ok((await second.checkpoint()) > id);
  assert.deepEqual([countOf(a, 'cancel'), second.view().restarts], [0, 0]);
});

test('P45: tasks of several attempts are not adopted, all restart', async (t) => {
  const { made, plan, second, connect, a, b, c } = await adoptedTaskManagers(t);
  c.close();
  const d = await connect('d');
  const successor = await d.next('deploy');
  const id = await second.checkpoint();
  const third = await made.start({ plan });
  const again = [];
  for (const tm of [a, b, d]) {
    const tasks = [...tm.tasks.values()];
    const running = runningOf({ ...successor, tasks });
    again.push(await FakeTaskManager.connect(third.rpcPort, 2, tm.id, { running }));
  }
  for (const tm of again) {
    await tm.next('cancel');
    const { attempts, tasks } = await tm.next('deploy');
    assert.equal(new Set(attempts).size, 1);
    assert.ok(attempts[0]! > successor.attempt);
    assert.ok(tasks.every((task) => task.restoredId === id && !task.replaces));
  }
  await until('RUNNING', () => third.view().status === 'RUNNING');
  assert.equal(third.view().restarts, 1);
});
