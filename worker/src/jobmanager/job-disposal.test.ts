/** A TriggerJob that is deleted with all that it stored, and the next one under its name. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { JobLog } from '../checkpoint/log.ts';
import { SAVEPOINT_METADATA } from '../checkpoint/paths.ts';
import type { RunClaim } from '../checkpoint/run-claim.ts';
import { realEnv } from '../runtime/env.ts';
import { endedJob } from './ended-job.ts';
import { FakeTaskManager } from './fake-task-manager.ts';
import { disposeStored } from './job-disposal.ts';
import type { JobManager } from './job-view.ts';
import { standingOf } from './standing.ts';
import { clusterOf, recordsOf, type TestCluster, testPlan, until } from './test-cluster.ts';

const run = (number: number, rest: Partial<RunClaim> = {}): RunClaim => ({
  number,
  start: null,
  jobCreatedAt: 1_000,
  ...rest,
});
const AGAIN = { jobCreatedAt: 2_000 };

async function runs(manager: JobManager): Promise<FakeTaskManager> {
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2, `tm-${realEnv.id()}`);
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  return tm;
}

const kept = ({ store }: TestCluster) =>
  [...store.objects.keys()].filter((name) => !name.startsWith('log/'));
const savepointsIn = ({ savepoints }: TestCluster) =>
  [...savepoints].filter(([, store]) => store.objects.has(SAVEPOINT_METADATA)).map(([url]) => url);
const depsOf = ({ store, openStore }: TestCluster, claim: RunClaim) => ({
  env: realEnv,
  plan: testPlan(),
  store,
  openStore,
  run: claim,
});

async function running(t: TestContext, claim = run(1)) {
  const made = clusterOf(t);
  const manager = await made.start({ run: claim });
  await runs(manager);
  await manager.checkpoint();
  await manager.savepoint();
  return { made, manager };
}

test('a running job ends, and of its state nothing is left but its log', async (t) => {
  const { made, manager } = await running(t);
  const other = await made.openStore('memory://savepoints/savepoint-other');
  await other.put('objects/0-x', Buffer.from('another job'));
  assert.notEqual(kept(made).length, 0);
  const { deleted, savepoints, left } = await manager.dispose();
  assert.ok(deleted > 0);
  assert.deepEqual([savepoints, left], [1, []]);
  assert.deepEqual(kept(made), []);
  assert.deepEqual(savepointsIn(made), []);
  assert.equal((await other.list('')).length, 1, "another job's stays");
  assert.equal(manager.view().status, 'CANCELED');
  assert.equal(recordsOf(made).at(-1)?.kind, 'disposed');
});

test('it is asked for again, of another JobManager of the run, and says the same', async (t) => {
  const { made, manager } = await running(t);
  await manager.dispose();
  await made.store.put('segments/1/1-0-delta-1-late', Buffer.from('of a task that was lost'));
  const standing = await standingOf(made.store, realEnv, run(1));
  assert.ok(standing.kind === 'ended');
  const control = await endedJob(depsOf(made, run(1)), standing);
  assert.deepEqual(await control.dispose(), { deleted: 1, savepoints: 0, left: [] });
  assert.deepEqual(kept(made), []);
  const records = recordsOf(made).filter(({ kind }) => kind === 'disposed');
  assert.equal(records.length, 1);
  await assert.rejects(made.start({ run: run(1) }), { code: 'RUN_ENDED' });
  await assert.rejects(made.start({ run: run(2) }), { code: 'STATE_MISSING' });
});

test('a leader that slept through it can write nothing any more', async (t) => {
  const { made } = await running(t);
  const { store } = made;
  const asleep = new JobLog({ store, env: realEnv, writer: 'old', retained: 2, run: run(1) });
  await asleep.takeover({ lineage: 'unused', restoredFrom: null });
  const log = new JobLog({ store, env: realEnv, writer: 'new', retained: 2, run: run(1) });
  await log.dispose({ run: 1 });
  const ref = { name: 'manifests/9-1-x.json', bytes: 1, sha256: 'a'.repeat(64) };
  const late = asleep.append({ kind: 'checkpoint', checkpointId: 9, manifest: ref });
  await assert.rejects(late, { code: 'LEADERSHIP_LOST' });
});

test('a job that is made again under its name begins anew, and restarts as itself', async (t) => {
  const { made, manager } = await running(t, run(3, { first: true }));
  const { lineage } = manager.view();
  await manager.dispose();
  const again = await made.start({ run: run(1, AGAIN) });
  const tm = await runs(again);
  const deploy = await tm.next('deploy');
  assert.ok(deploy.tasks.every(({ restore }) => restore.length === 0));
  assert.notEqual(again.view().lineage, lineage);
  for (let i = 0; i < 100; i++) await again.checkpoint();
  const restarted = await made.start({ run: run(1, AGAIN) });
  await runs(restarted);
  assert.equal(restarted.view().lineage, again.view().lineage, 'beyond a tail of the log');
  await assert.rejects(made.start({ run: run(4) }), { code: 'RUN_SUPERSEDED' });
});

for (const [operation, prefix, batches] of [
  ['list', 'manifests/', 0],
  ['list', 'segments/', 0],
  ['list', 'leader/', 0],
  ['delete', 'manifests/', 1],
] as const) {
  test(`the next job begins at ${operation} ${prefix}: nothing of it is deleted`, async (t) => {
    const { made, manager } = await running(t);
    await manager.cancel();
    const { store } = made;
    await store.put('segments/1/1-0-delta-0-old', Buffer.from('old'));
    const [before, taken] = [kept(made), savepointsIn(made)];
    const own = ['manifests/1-9-next.json', 'segments/9/1-0-delta-0-next', 'leader/00000009'];
    store.onCall = async (call) => {
      if (call.operation !== operation || !call.name.startsWith(prefix)) return;
      store.onCall = null;
      const log = new JobLog({
        store,
        env: realEnv,
        writer: 'next',
        retained: 2,
        run: run(1, AGAIN),
      });
      await log.takeover({ lineage: 'next', restoredFrom: null });
      for (const name of own) await store.put(name, Buffer.from('next'));
    };
    await assert.rejects(disposeStored(depsOf(made, run(1))), { code: 'RUN_SUPERSEDED' });
    assert.equal(store.onCall, null);
    const gone = before.filter((name) => !store.objects.has(name));
    if (batches === 0) assert.deepEqual([gone, savepointsIn(made)], [[], taken]);
    assert.ok(
      gone.every((name) => name.startsWith('manifests/')),
      'at most the batch under way',
    );
    assert.deepEqual(
      own.filter((name) => !store.objects.has(name)),
      [],
    );
  });
}

test('a start that was planned for a job deleted meanwhile is planned again', async (t) => {
  const { made, manager } = await running(t);
  const { lineage } = manager.view();
  const { store } = made;
  store.onCall = async ({ operation, name }) => {
    if (operation !== 'get' || !name.startsWith('leader/')) return;
    store.onCall = null;
    await disposeStored(depsOf(made, run(1)));
  };
  await assert.rejects(made.start({ run: run(1, AGAIN) }), { code: 'CLAIM_LOST' });
  assert.equal(recordsOf(made).at(-1)?.kind, 'disposed', 'nothing was begun');
  const again = await made.start({ run: run(1, AGAIN) });
  assert.ok(again.view().lineage.length > 0 && again.view().lineage !== lineage);
  assert.deepEqual(
    recordsOf(made)
      .slice(-3)
      .map(({ kind }) => kind),
    ['genesis', 'takeover', 'checkpoint'],
  );
});

test('what was retained is gone on from, however many runs the job before had', async (t) => {
  const { made, manager } = await running(t, run(3, { first: true }));
  const newest = await manager.checkpoint();
  await manager.cancel();
  const again = await made.start({ run: run(1, AGAIN) });
  const tm = await runs(again);
  assert.equal((await tm.next('deploy')).tasks[0]?.restoredId, newest);
});

test('I6: a later run does not begin where nothing is stored, unless that is said', async (t) => {
  const lost = async (claim: RunClaim) => clusterOf(t).start({ run: claim });
  await assert.rejects(lost(run(2)), (error: Error & { code: string }) => {
    assert.equal(error.code, 'STATE_MISSING');
    assert.match(error.message, /memory:\/\/job holds none.*upgradeMode: stateless/);
    return true;
  });
  await lost(run(1));
  await lost(run(2, { start: { kind: 'stateless' } }));
  await lost(run(2, { first: true }));
});

test('without runs it is refused, and the job goes on', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  await runs(manager);
  await assert.rejects(manager.dispose(), { code: 'RUN_MISSING' });
  assert.equal(manager.view().status, 'RUNNING');
});
