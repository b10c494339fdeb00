/** A second JobManager takes over from a first one whose tasks run on (P45). */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { decodeRecord } from '../checkpoint/log-record.ts';
import type { RunningAttempt, RunningTask } from '../rpc/messages.ts';
import { FakeTaskManager, runningOf } from './fake-task-manager.ts';
import type { JobManager } from './job-view.ts';
import { TestCluster, until as untilWithin } from './test-cluster.ts';

const until = (what: string, done: () => boolean) => untilWithin(what, done, 2_000);

/** A job that runs, with one checkpoint, whose leader has gone without a word. */
async function abandoned(t: TestContext) {
  const made = new TestCluster();
  t.after(() => made.close());
  const first = await made.start();
  const tm = await FakeTaskManager.connect(first.rpcPort, 2);
  const deploy = await tm.next('deploy');
  await until('RUNNING', () => first.view().status === 'RUNNING');
  const checkpointId = await first.checkpoint();
  const { startedAt, attempt } = first.view();
  return { made, first, deploy, checkpointId, startedAt, attempt };
}

const records = ({ store }: TestCluster) =>
  [...store.objects]
    .filter(([name]) => name.startsWith('log/'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { content }], index) => decodeRecord(content, index));

const newest = (made: TestCluster) =>
  records(made)
    .slice(-1)
    .map(({ kind }) => kind);

const reconnect = (manager: JobManager, running: RunningAttempt) =>
  FakeTaskManager.connect(manager.rpcPort, 2, 'tm-1', { leaderEpoch: 1, running });

test('P45: the tasks go on under the new leader: no deployment, no restart', async (t) => {
  const { made, first, deploy, checkpointId, startedAt, attempt } = await abandoned(t);
  const second = await made.start();
  assert.equal(second.view().status, 'RECONCILING');
  assert.deepEqual(newest(made), ['takeover']);
  const at = (task: RunningTask) => ({ ...task, seen: checkpointId, taken: checkpointId });
  const tm = await reconnect(second, runningOf(deploy, at));
  await tm.next('notify', (command) => command.checkpointId === checkpointId);
  const view = second.view();
  assert.equal(view.status, 'RUNNING');
  assert.deepEqual([view.attempt, view.restarts], [attempt, 0]);
  assert.equal(view.startedAt, startedAt);
  assert.deepEqual(newest(made), ['takeover']);
  assert.equal(
    tm.commands.some(({ type }) => type === 'deploy' || type === 'cancel' || type === 'abort'),
    false,
  );
  // Its tasks are asked by hand: the fake has not got this deployment itself.
  for (const task of deploy.tasks) tm.tasks.set(task.subtask, task);
  assert.ok((await second.checkpoint()) > checkpointId);
  // The first one finds itself succeeded.
  first.checkpoint().catch(() => undefined);
  await assert.rejects(first.done, { code: 'LEADERSHIP_LOST' });
});

test('P45: a checkpoint under way is aborted, its id is never drawn again', async (t) => {
  const { made, deploy, checkpointId } = await abandoned(t);
  const second = await made.start();
  const seen = checkpointId + 3;
  const tm = await reconnect(
    second,
    runningOf(deploy, (task) => ({ ...task, seen: task.subtask === 0 ? seen : 0 })),
  );
  await tm.next('abort', (command) => command.checkpointId === seen);
  const next = second.checkpoint();
  next.catch(() => undefined);
  await delay(50);
  const triggers = () => tm.commands.filter(({ type }) => type === 'trigger');
  assert.deepEqual(triggers(), [], 'P7: before every task has settled the last one');
  for (const task of deploy.tasks) {
    tm.tasks.set(task.subtask, task);
    const { attempt, subtask } = task;
    const report = { taskManagerId: tm.id, attempt, checkpointId: seen, subtask };
    tm.send({ type: 'decline', ...report, reason: 'aborted' });
  }
  assert.ok((await next) > seen);
  await until('the abort in the log', () =>
    records(made).some((one) => one.kind === 'abort' && one.checkpointId === seen),
  );
});

test('a task that came to run or drained between registration and verdict is known', async (t) => {
  const { made, deploy } = await abandoned(t);
  const second = await made.start();
  const half = runningOf(deploy);
  half.members = ['tm-1', 'tm-2'];
  half.tasks = half.tasks.slice(0, 1).map((task) => ({ ...task, running: false }));
  const one = await FakeTaskManager.connect(second.rpcPort, 1, 'tm-1', { running: half });
  await one.next('registered');
  const { attempt } = half;
  one.send({ type: 'running', taskManagerId: 'tm-1', attempt, subtask: 0, restoreMs: 1 });
  one.heartbeat({ subtask: 0, attempt });
  await one.next('alive');
  assert.equal(second.view().status, 'RECONCILING');
  const other = { ...half, tasks: runningOf(deploy).tasks.slice(1) };
  await FakeTaskManager.connect(second.rpcPort, 1, 'tm-2', { running: other });
  await until('RUNNING', () => second.view().status === 'RUNNING');
  assert.equal(second.view().attempt, attempt);
});

test('P45: what does not fit the log is ended before anything is deployed', async (t) => {
  const { made, deploy, checkpointId } = await abandoned(t);
  const second = await made.start();
  const tm = await reconnect(second, { ...runningOf(deploy), planDigest: 'other' });
  await tm.next('cancel');
  const again = await tm.next('deploy');
  assert.ok((again.tasks[0]?.attempt ?? 0) > (deploy.tasks[0]?.attempt ?? 0));
  assert.equal(again.tasks[0]?.restoredId, checkpointId);
  assert.deepEqual(
    tm.commands.map(({ type }) => type).filter((type) => type === 'cancel' || type === 'deploy'),
    ['cancel', 'deploy'],
  );
  const record = records(made).findLast((one) => one.kind === 'restore');
  assert.equal(record?.deployment?.attempt, again.tasks[0]?.attempt);
  await until('RUNNING', () => second.view().status === 'RUNNING');
  assert.equal(second.view().restarts, 1);
});

test('an attempt that the log does not name is canceled, and its TaskManager used', async (t) => {
  const { made, deploy } = await abandoned(t);
  const second = await made.start();
  const foreign = { ...runningOf(deploy), attempt: 77 };
  const tm = await FakeTaskManager.connect(second.rpcPort, 2, 'tm-1', { running: foreign });
  const cancel = await tm.next('cancel');
  assert.equal(cancel.attempt, 77);
  await tm.next('deploy');
});

test('the attempt number rises over leaders, and the log names each', async (t) => {
  const { made, deploy } = await abandoned(t);
  const second = await made.start();
  const tm = await reconnect(second, runningOf(deploy));
  await until('RUNNING', () => second.view().status === 'RUNNING');
  tm.close();
  await until('RESTARTING', () => second.view().status !== 'RUNNING');
  const fresh = await FakeTaskManager.connect(second.rpcPort, 2, 'tm-9');
  const again = await fresh.next('deploy');
  const attempt = again.tasks[0]?.attempt ?? 0;
  assert.ok(attempt > (deploy.tasks[0]?.attempt ?? 0));
  const third = await made.start();
  await FakeTaskManager.connect(third.rpcPort, 2, 'tm-9', { running: runningOf(again) });
  await until('RUNNING', () => third.view().status === 'RUNNING');
  assert.deepEqual([third.view().attempt, third.view().restarts], [attempt, 1]);
});

test('I5: a TaskManager that knows a newer leader makes the older one look and end', async (t) => {
  const { made, first, deploy } = await abandoned(t);
  await made.start();
  const running = runningOf(deploy);
  const tm = await FakeTaskManager.connect(first.rpcPort, 2, 'tm-2', { leaderEpoch: 2, running });
  const refused = await tm.next('refused');
  assert.equal(refused.code, 'standby');
  await assert.rejects(first.done, { code: 'LEADERSHIP_LOST' });
});

test('a claim for one epoch is lost if another one has led since', async (t) => {
  const { made } = await abandoned(t);
  await assert.rejects(made.start({ after: 0 }), { code: 'CLAIM_LOST' });
  const second = await made.start({ after: 1 });
  await assert.rejects(made.start({ after: 1 }), { code: 'CLAIM_LOST' });
  assert.equal(second.view().leaderEpoch, 2);
});
