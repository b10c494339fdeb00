import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SAVEPOINT_METADATA } from '../checkpoint/paths.ts';
import type { JobPlan, SourcePlan } from '../plan/job-plan.ts';
import { FakeTaskManager } from './fake-task-manager.ts';
import { TestCluster, testPlan, until as untilWithin } from './test-cluster.ts';

/** Ten times what a step takes, and more. */
const WATCHDOG_STEPS = 2_000;

const until = (what: string, done: () => boolean) => untilWithin(what, done, WATCHDOG_STEPS);

async function running(t: TestContext, plan: JobPlan = testPlan()) {
  const cluster = new TestCluster();
  t.after(() => cluster.close());
  const manager = await cluster.start({ plan });
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  return { cluster, manager, tm };
}

const types = (tm: FakeTaskManager) =>
  tm.commands.map((command) =>
    command.type === 'hold-sources' ? `${command.type} ${command.held}` : command.type,
  );

const complete = (cluster: TestCluster, location: string) =>
  cluster.savepoints.get(location)?.objects.has(SAVEPOINT_METADATA) === true;

test('stop: sources are held, nothing follows the barrier, the job is FINISHED', async (t) => {
  const { cluster, manager, tm } = await running(t, testPlan({ intervalMs: 40 }));
  const { location, checkpointId } = await manager.stopWithSavepoint({
    drain: false,
    as: 'finished',
  });
  assert.deepEqual(await manager.done, { kind: 'finished' });
  assert.equal(manager.view().status, 'FINISHED');
  assert.ok(complete(cluster, location));
  const after = types(tm).slice(types(tm).indexOf('hold-sources true'));
  assert.deepEqual(
    after.filter((type) => type !== 'notify'),
    ['hold-sources true', 'trigger', 'shutdown'],
  );
  const { latestCompleted, latestSavepoint } = manager.view().checkpoints;
  assert.equal(latestCompleted?.id, checkpointId);
  assert.equal(latestSavepoint?.kind, 'stop');
});

test('a stop that fails lets sources and checkpoints go on; the next one ends it', async (t) => {
  const { cluster, manager, tm } = await running(t);
  tm.onTrigger = 'decline';
  const request = { drain: false, as: 'finished' } as const;
  await assert.rejects(manager.stopWithSavepoint(request), { code: 'CHECKPOINT_DECLINED' });
  tm.onTrigger = 'ack';
  // The checkpoint succeeds, its copy does not.
  cluster.refuse = /broken/;
  const broken = manager.stopWithSavepoint({ ...request, directory: 'memory://broken' });
  await assert.rejects(manager.stopWithSavepoint(request), { code: 'CHECKPOINT_STOPPING' });
  await assert.rejects(broken, /refused/);
  const held = () => types(tm).filter((type) => type.startsWith('hold'));
  await until('both to be let go', () => held().length === 4);
  assert.deepEqual(
    held(),
    [1, 2].flatMap(() => ['hold-sources true', 'hold-sources false']),
  );
  assert.equal(manager.view().status, 'RUNNING');
  assert.ok((await manager.checkpoint()) > 0, 'checkpoints go on');
  await manager.stopWithSavepoint({ ...request, as: 'canceled' });
  assert.deepEqual(await manager.done, { kind: 'canceled' });
});

test('drain waits for what is parked or undelivered, and gives up by its limit', async (t) => {
  const { manager, tm } = await running(t, testPlan({ timeoutMs: 1_200 }));
  tm.inOutbox = 3;
  const request = { drain: true, as: 'finished' } as const;
  await assert.rejects(manager.stopWithSavepoint(request), {
    code: 'DRAIN_TIMEOUT',
    message: /^6 events/,
  });
  assert.equal(manager.view().status, 'RUNNING');
  const stopping = manager.stopWithSavepoint(request);
  await until('two looks', () => types(tm).filter((type) => type === 'trigger').length >= 6);
  tm.inOutbox = 0;
  await stopping;
  assert.deepEqual(await manager.done, { kind: 'finished' });
});

test('a restart while the copy runs is told: the job goes on, the savepoint is good', async (t) => {
  const { cluster, manager, tm } = await running(t);
  const gate = Promise.withResolvers<void>();
  cluster.opening = gate.promise;
  const stopping = manager.stopWithSavepoint({ drain: false, as: 'finished' });
  stopping.catch(() => undefined);
  await until('the checkpoint', () => manager.view().checkpoints.counts.completed === 1);
  tm.fail(0, 'BROKEN');
  await until('the restart', () => manager.view().attempt === 2);
  gate.resolve();
  await assert.rejects(stopping, {
    code: 'SAVEPOINT_JOB_RESTARTED',
    message: /taken at memory:.*goes on/,
  });
  await until('RUNNING', () => manager.view().status === 'RUNNING');
});

test('a signal during a stop waits for it instead of taking another checkpoint', async (t) => {
  const { manager } = await running(t);
  const stopping = manager.stopWithSavepoint({ drain: false, as: 'finished' });
  await manager.stop({ finalCheckpoint: true });
  await stopping;
  assert.deepEqual(await manager.done, { kind: 'finished' });
  assert.equal(manager.view().checkpoints.counts.total, 1);
});

test('periodic savepoints: only its own are retired, and only by count', async (t) => {
  const plan = { ...testPlan(), periodicSavepoints: { everyMs: 30, maxCount: 2 } };
  const { cluster, manager } = await running(t, plan);
  const { location: mine } = await manager.savepoint();
  const taken = () => [...cluster.savepoints.keys()].filter((url) => url !== mine);
  await until('five of them', () => taken().length >= 6);
  await manager.cancel();
  await delay(20);
  const left = taken().filter((location) => complete(cluster, location));
  assert.ok(left.length >= 2 && left.length <= 3, `${left.length} of ${taken().length} are left`);
  assert.ok(complete(cluster, mine));
});

test('unfit or damaged savepoints are refused by name, and nothing is begun (I6)', async (t) => {
  const { cluster, manager, tm } = await running(t);
  const bytes = Buffer.from('rows');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  tm.object = { name: 'segments/1/1-0-delta-0-x', bytes: bytes.length, sha256 };
  await cluster.store.put(tm.object.name, bytes);
  const { location } = await manager.savepoint();
  const restored = { ...testPlan(), restoreSavepoint: location };
  const file: SourcePlan = { kind: 'file', paths: ['/x'], maxRecordBytes: 1 };
  const { source } = testPlan();
  assert.ok(source.kind === 'kafka');
  const cases: [JobPlan, string][] = [
    [{ ...restored, maxParallelism: 16 }, 'MAX_PARALLELISM_CHANGED'],
    [{ ...restored, keyBy: 'account' }, 'KEY_BY_CHANGED'],
    [{ ...restored, source: file }, 'SOURCE_CHANGED'],
    [{ ...restored, source: { ...source, topic: 'other' } }, 'SOURCE_CHANGED'],
    [{ ...restored, restoreSavepoint: 'memory://none' }, 'SAVEPOINT_MISSING'],
  ];
  const fresh = () => {
    const made = new TestCluster();
    t.after(() => made.close());
    made.savepoints.set(location, cluster.savepoints.get(location)!);
    return made;
  };
  for (const [plan, code] of cases) {
    const made = fresh();
    await assert.rejects(made.start({ plan }), { code }, code);
    assert.equal(made.store.objects.size, 0, `${code}: nothing was written`);
  }
  const store = cluster.savepoints.get(location)!;
  const object = [...store.objects.keys()].find((name) => name.startsWith('objects/'))!;
  const { content } = store.objects.get(object)!;
  store.objects.delete(object);
  const missing = fresh();
  await assert.rejects(missing.start({ plan: restored }), { code: 'SAVEPOINT_CORRUPT' });
  assert.equal(missing.store.objects.size, 0);
  // Damage that only reading it all can find: refused by the copy, and no state is restored.
  const damaged = Buffer.from(content);
  damaged[0] = damaged[0]! ^ 1;
  await store.put(object, damaged);
  const begun = fresh();
  await assert.rejects(begun.start({ plan: restored }), { code: 'SEGMENT_CORRUPT' });
  await assert.rejects(begun.start(), { code: 'SEGMENT_CORRUPT' }, 'never fresh after that');
  await store.put(object, content);
  assert.equal((await begun.start({ plan: restored })).jobId, manager.jobId);
});
