/** The parallelism follows the slots and the user's wish, at the real JobManager. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { JobPlan, ScalingPlan } from '../plan/job-plan.ts';
import { FakeTaskManager } from './fake-task-manager.ts';
import type { JobManager } from './job-view.ts';
import { clusterOf, recordsOf, type TestCluster, testPlan, until } from './test-cluster.ts';

const QUICK: ScalingPlan = { resourceWaitMs: 60, stabilizationMs: 10, minIntervalMs: 0 };

function planOf(parallelism: number, scaling: Partial<ScalingPlan> = {}): JobPlan {
  return { ...testPlan(), parallelism, scaling: { ...QUICK, ...scaling } };
}

const runsWith = (manager: JobManager, parallelism: number) =>
  until(`RUNNING with ${parallelism}`, () => {
    const view = manager.view();
    return view.status === 'RUNNING' && view.parallelism === parallelism;
  });

/** The order of what a TaskManager was told, without repetition of other things. */
function told(tm: FakeTaskManager): string[] {
  const kinds = ['deploy', 'trigger', 'notify', 'cancel'];
  return tm.commands.map(({ type }) => type).filter((type) => kinds.includes(type));
}

async function pair(made: TestCluster, plan: JobPlan) {
  const manager = await made.start({ plan });
  const connect = (id: string) => FakeTaskManager.connect(manager.rpcPort, 2, id);
  const a = await connect('a');
  const b = await connect('b');
  await runsWith(manager, 4);
  return { manager, connect, a, b };
}

test('a lost TaskManager stays away: fewer subtasks, then all again by a rescale', async (t) => {
  const made = clusterOf(t);
  // One restart is allowed: the rescale must not use it up, nor be refused for it.
  const plan = planOf(4);
  plan.restartStrategy = { type: 'fixed-delay', attempts: 1, delayMs: 1 };
  const { manager, connect, a, b } = await pair(made, plan);
  b.close();
  await runsWith(manager, 2);
  const degraded = await a.next('deploy', ({ tasks }) => tasks[0]?.attempt === 2);
  assert.deepEqual(degraded.ranges, [
    { first: 0, last: 3 },
    { first: 4, last: 7 },
  ]);
  const { restarts, scaling, tasks } = manager.view();
  assert.deepEqual([restarts, scaling.wanted, scaling.rescales, tasks.length], [1, 4, 0, 2]);
  assert.equal(scaling.events[0]?.kind, 'degraded');
  const id = await manager.checkpoint();
  await a.next('notify', ({ checkpointId }) => checkpointId === id);
  const before = told(a).length;

  const again = await connect('b');
  await runsWith(manager, 4);
  assert.deepEqual(told(a).slice(before), ['trigger', 'notify', 'cancel', 'deploy']);
  const { tasks: deployed } = await again.next('deploy');
  assert.deepEqual(
    deployed.map(({ subtask, range, restoredId }) => [subtask, range.first, restoredId > id]),
    [
      [1, 2, true],
      [3, 6, true],
    ],
  );
  const after = manager.view();
  assert.deepEqual([after.restarts, after.scaling.rescales], [1, 1]);
  assert.equal(after.exceptions.entries.length, 1, 'a rescale is no failure');
  const restore = recordsOf(made).at(-1);
  assert.ok(restore?.kind === 'restore');
  assert.equal(restore.reason, 'rescale from 2 to 4 subtasks, 4 are wanted');
  // And the checkpoints of the new parallelism are whole.
  await manager.checkpoint();
});

test('a replacement in time: the job waits for it and keeps its parallelism', async (t) => {
  const { manager, connect, b } = await pair(clusterOf(t), planOf(4, { resourceWaitMs: 60_000 }));
  b.close();
  await until('the wait for slots', () => manager.view().status === 'CREATED');
  await connect('c');
  await runsWith(manager, 4);
  assert.deepEqual(manager.view().scaling.events, []);
});

test('the first start takes what is there after the wait, not before', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start({ plan: planOf(4) });
  assert.equal(manager.view().status, 'CREATED');
  await FakeTaskManager.connect(manager.rpcPort, 1, 'a');
  await runsWith(manager, 1);
  assert.equal(manager.view().scaling.events[0]?.kind, 'degraded');
});

test('another parallelism is asked for: fewer at once, more when the slots come', async (t) => {
  const made = clusterOf(t);
  const { manager, connect } = await pair(made, planOf(4));
  await manager.rescale(3);
  await runsWith(manager, 3);
  assert.equal(manager.view().restarts, 0);
  await manager.rescale(6);
  await delay(20);
  await connect('c');
  await runsWith(manager, 6);
  assert.equal(manager.view().scaling.wanted, 6);
  for (const impossible of [0, 9]) {
    await assert.rejects(manager.rescale(impossible), { code: 'PARALLELISM' });
  }
  assert.equal(manager.view().scaling.wanted, 6);
});

test('what was asked for outlives the JobManager; a spec that changes ends it', async (t) => {
  const made = clusterOf(t);
  const { manager } = await pair(made, planOf(4));
  await manager.rescale(3);
  await runsWith(manager, 3);
  await manager.close();

  const second = await made.start({ plan: planOf(4) });
  assert.equal(second.view().scaling.wanted, 3);
  await FakeTaskManager.connect(second.rpcPort, 4);
  await runsWith(second, 3);
  // Every record tells it, so that a leader who reads the tail alone knows it.
  const asked = { asked: 3, planned: 4 };
  const since = recordsOf(made).findIndex(({ kind }) => kind === 'rescale');
  for (const record of recordsOf(made).slice(since)) {
    assert.deepEqual(record.wantedParallelism, asked);
  }
  await second.close();

  const third = await made.start({ plan: planOf(2) });
  assert.equal(third.view().scaling.wanted, 2);
  await third.close();
  // It does not come back with the old spec.
  const fourth = await made.start({ plan: planOf(4) });
  assert.equal(fourth.view().scaling.wanted, 4);
});

test('back to what the spec says: nothing is asked for any more', async (t) => {
  const made = clusterOf(t);
  const { manager } = await pair(made, planOf(4));
  await manager.rescale(3);
  await manager.rescale(4);
  assert.equal(recordsOf(made).at(-1)?.wantedParallelism, null);
  await manager.close();
  const second = await made.start({ plan: planOf(4) });
  assert.equal(second.view().scaling.wanted, 4);
});

test('no rescale without its checkpoint: the job goes on as it is, and tries again', async (t) => {
  const { manager, a, b } = await pair(clusterOf(t), planOf(4));
  for (const tm of [a, b]) tm.onTrigger = 'decline';
  await manager.rescale(2);
  await until('the declined one', () => manager.view().checkpoints.counts.failed === 1);
  assert.deepEqual([manager.view().status, manager.view().parallelism], ['RUNNING', 4]);
  for (const tm of [a, b]) tm.onTrigger = 'ack';
  await runsWith(manager, 2);
  assert.equal(manager.view().restarts, 0);
});

test('a rescale waits behind a checkpoint that somebody asked for', async (t) => {
  const { manager, a, b } = await pair(clusterOf(t), planOf(4));
  for (const tm of [a, b]) tm.onTrigger = 'ignore';
  await manager.rescale(2);
  const [{ checkpointId, script }] = await Promise.all([a.next('trigger'), b.next('trigger')]);
  const savepoint = manager.savepoint();
  for (const tm of [a, b]) {
    tm.onTrigger = 'ack';
    for (const subtask of tm.tasks.keys()) tm.ack(subtask, checkpointId, script);
  }
  // Ended for the rescale, its attempt would have taken the savepoint with it.
  await savepoint;
  await runsWith(manager, 2);
});

test('slots that come and go cost nothing; soon after a rescale there is none', async (t) => {
  const scaling = { stabilizationMs: 40, minIntervalMs: 600_000 };
  const { manager, connect, b } = await pair(clusterOf(t), planOf(4, scaling));
  b.close();
  await runsWith(manager, 2);
  (await connect('c')).close();
  await delay(80);
  assert.equal(manager.view().scaling.rescales, 0);
  const d = await connect('d');
  await runsWith(manager, 4);
  assert.equal(manager.view().scaling.rescales, 1);
  d.close();
  await runsWith(manager, 2);
  await connect('e');
  await delay(80);
  assert.deepEqual([manager.view().parallelism, manager.view().scaling.rescales], [2, 1]);
  // What the user asks for is no thrashing.
  await manager.rescale(3);
  await runsWith(manager, 3);
});
