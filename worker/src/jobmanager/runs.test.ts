/** Runs, the operator's count of deployments: what one begins with, and that its end is the end. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { JobLog } from '../checkpoint/log.ts';
import { SAVEPOINT_METADATA } from '../checkpoint/paths.ts';
import type { RunClaim } from '../checkpoint/run-claim.ts';
import type { RunStart } from '../checkpoint/snapshot.ts';
import { realEnv } from '../runtime/env.ts';
import { endedJob } from './ended-job.ts';
import { FakeTaskManager } from './fake-task-manager.ts';
import type { JobManager } from './job-view.ts';
import { standingOf } from './standing.ts';
import { clusterOf, recordsOf, type TestCluster, testPlan, until } from './test-cluster.ts';

const run = (number: number, start: RunStart | null = null): RunClaim => ({ number, start });
const STATELESS: RunStart = { kind: 'stateless' };
const STOP = { drain: false, as: 'finished' } as const;

async function runs(manager: JobManager): Promise<FakeTaskManager> {
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2, `tm-${realEnv.id()}`);
  await until('RUNNING', () => manager.view().status === 'RUNNING');
  return tm;
}

/** A leader of `claim` that dies right behind its claim. */
async function diesBehindClaim({ store }: TestCluster, claim: RunClaim): Promise<void> {
  const log = new JobLog({ store, env: realEnv, writer: 'dead', retained: 2, run: claim });
  await log.takeover({ lineage: 'unused', restoredFrom: null });
}

/** The next record of an end does not reach the store until `gate` is called. */
function holdEnd({ store }: TestCluster) {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const create = store.create.bind(store);
  store.create = async (name, content) => {
    if (name.startsWith('log/') && content.includes('"kind":"end"')) {
      reached.resolve();
      await gate.promise;
    }
    return create(name, content);
  };
  return { gate: gate.resolve, reached: reached.promise };
}

const partsOf = ({ store, openStore }: TestCluster) => {
  return { env: realEnv, plan: testPlan(), store, openStore, run: run(1) };
};

const kinds = (made: TestCluster) => recordsOf(made).map(({ kind }) => kind);
const restored = (made: TestCluster) =>
  recordsOf(made).flatMap((record) => (record.kind === 'restore' ? [record.checkpointId] : []));
const savepointsIn = ({ savepoints }: TestCluster) =>
  [...savepoints].filter(([, store]) => store.objects.has(SAVEPOINT_METADATA)).map(([url]) => url);

/** A job whose run 1 has stopped with a savepoint. */
async function stopped(t: TestContext) {
  const made = clusterOf(t);
  const first = await made.start({ run: run(1) });
  await runs(first);
  await first.checkpoint();
  const taken = await first.stopWithSavepoint({ ...STOP, triggerId: 'stop-1' });
  await first.done;
  return { made, first, taken };
}

test('an ended run is never started again; the next one goes on from its stop', async (t) => {
  const { made, first, taken } = await stopped(t);
  assert.equal(kinds(made).at(-1), 'end');
  assert.deepEqual(first.view().ended?.savepoint, { ...taken, triggerId: 'stop-1' });
  const before = recordsOf(made).length;
  await assert.rejects(made.start({ run: run(1) }), { code: 'RUN_ENDED' });
  assert.equal(recordsOf(made).length, before, 'a refused claim leaves nothing behind');
  const second = await made.start({ run: run(2) });
  await runs(second);
  assert.equal(restored(made).at(-1), taken.checkpointId);
  await assert.rejects(made.start({ run: run(1) }), { code: 'RUN_SUPERSEDED' });
  assert.equal((await standingOf(made.store, realEnv, run(1))).kind, 'superseded');
  assert.equal((await standingOf(made.store, realEnv, run(2))).kind, 'free');
});

test('a JobManager that finds its run ended shows how', async (t) => {
  const { made, taken } = await stopped(t);
  const standing = await standingOf(made.store, realEnv, run(1));
  assert.ok(standing.kind === 'ended');
  const deps = partsOf(made);
  const control = await endedJob(deps, standing);
  const view = control.view();
  assert.deepEqual([view.status, view.run, view.terminal], ['FINISHED', 1, true]);
  assert.equal(view.checkpoints.latestSavepoint?.externalPath, taken.location);
  assert.equal(view.checkpoints.inherited?.id, taken.checkpointId);
  assert.equal((await control.findSavepoint('stop-1'))?.location, taken.location);
  assert.equal(await control.findSavepoint('other'), null);
  await assert.rejects(control.savepoint(), { code: 'JOB_ENDED' });
});

test('cancelled and failed jobs are ended too, each with its outcome', async (t) => {
  const made = clusterOf(t);
  const first = await made.start({ run: run(1) });
  await runs(first);
  await first.cancel();
  const restartStrategy = { type: 'none' } as const;
  const second = await made.start({ run: run(2), plan: { ...testPlan(), restartStrategy } });
  const tm = await runs(second);
  tm.close();
  assert.equal((await second.done).kind, 'failed');
  const ends = recordsOf(made).flatMap((record) => (record.kind === 'end' ? [record] : []));
  assert.deepEqual(
    ends.map((end) => [end.run, end.outcome.kind, end.savepoint]),
    [
      [1, 'canceled', null],
      [2, 'failed', null],
    ],
  );
  const standing = await standingOf(made.store, realEnv, run(2));
  assert.ok(standing.kind === 'ended');
  const deps = partsOf(made);
  const { status, exceptions } = (await endedJob(deps, standing)).view();
  assert.equal(status, 'FAILED');
  assert.match(exceptions.entries[0]?.code ?? '', /./);
});

test('without runs nothing is recorded, and a stopped job may go on', async (t) => {
  const made = clusterOf(t);
  const first = await made.start();
  await runs(first);
  await first.stopWithSavepoint(STOP);
  await first.done;
  assert.ok(!kinds(made).includes('end'));
  await runs(await made.start());
});

test('dead between savepoint and record: the job goes on, the stop is done again', async (t) => {
  const made = clusterOf(t);
  const first = await made.start({ run: run(1) });
  await runs(first);
  const { gate, reached } = holdEnd(made);
  const stop = first.stopWithSavepoint({ ...STOP, triggerId: 'stop-1' });
  const lost = assert.rejects(stop, { code: 'LEADERSHIP_LOST' });
  await reached;
  const second = await made.start({ run: run(1) });
  gate();
  await lost;
  const untold = savepointsIn(made);
  assert.equal(untold.length, 1, 'complete, but not the end');
  assert.ok(!kinds(made).includes('end'), 'the record did not get there: the job goes on');
  await runs(second);
  assert.equal(await second.findSavepoint('stop-1'), null, 'nobody is told that it has stopped');
  const later = await second.checkpoint();
  const taken = await second.stopWithSavepoint({ ...STOP, triggerId: 'stop-1' });
  assert.ok(taken.checkpointId > later, 'where it really stopped');
  assert.deepEqual(savepointsIn(made), [taken.location], 'one savepoint for one request');
  assert.equal(kinds(made).at(-1), 'end');
});

test('a trigger id makes one savepoint, whoever leads', async (t) => {
  const made = clusterOf(t);
  const first = await made.start({ run: run(1) });
  await runs(first);
  assert.equal(await first.findSavepoint('daily'), null);
  const taken = await first.savepoint({ triggerId: 'daily' });
  const second = await made.start({ run: run(1) });
  await runs(second);
  assert.deepEqual(await second.findSavepoint('daily'), taken);
  assert.deepEqual(await second.savepoint({ triggerId: 'daily' }), taken);
  const other = await second.savepoint({ triggerId: 'weekly' });
  assert.deepEqual(savepointsIn(made).toSorted(), [taken.location, other.location].toSorted());
});

test('a stateless run is emptied once, by its claim, and keeps its own checkpoints', async (t) => {
  const { made } = await stopped(t);
  const attemptBefore = Math.max(...recordsOf(made).map(({ logIndex }) => logIndex));
  await diesBehindClaim(made, run(2, STATELESS));
  const second = await made.start({ run: run(2, STATELESS) });
  const tm = await runs(second);
  const deploy = await tm.next('deploy');
  assert.ok(
    deploy.tasks.every(({ restore }) => restore.length === 0),
    'empty state',
  );
  assert.ok(second.view().attempt > attemptBefore, 'no attempt of before is named again');
  assert.equal(made.enumerator.startingCalls, 2, 'offsets of a first start');
  const own = await second.checkpoint();
  const third = await made.start({ run: run(2, STATELESS) });
  const next = await (await FakeTaskManager.connect(third.rpcPort, 2, 'tm-new')).next('deploy');
  assert.equal(next.tasks[0]?.restoredId, own);
  const emptied = recordsOf(made).filter((one) => one.kind === 'takeover' && one.start);
  assert.equal(emptied.length, 1);
});

test('a run that older releases began is the same one once its TriggerJob is told', async (t) => {
  const { made } = await stopped(t);
  const told = (number: number, at: number, start: RunStart | null = null) => ({
    ...run(number, start),
    jobCreatedAt: at,
  });
  await assert.rejects(made.start({ run: told(1, 1_000) }), { code: 'RUN_ENDED' });
  const second = await made.start({ run: run(2, STATELESS) });
  await runs(second);
  const own = await second.checkpoint();
  const upgraded = await made.start({ run: told(2, 1_000, STATELESS) });
  await runs(upgraded);
  assert.equal(restored(made).at(-1), own, 'it is not emptied again');
  const emptied = recordsOf(made).filter((one) => one.kind === 'takeover' && one.start);
  assert.equal(emptied.length, 1);
  await assert.rejects(made.start({ run: run(1) }), { code: 'RUN_SUPERSEDED' });
  const standing = async (claim: RunClaim) => (await standingOf(made.store, realEnv, claim)).kind;
  assert.equal(await standing(told(1, 1_000)), 'superseded');
  assert.equal(await standing(told(1, 2_000)), 'free', 'from then on the log tells it too');
});

test('a run begins with the savepoint it names, also with one that was used before', async (t) => {
  const { made, taken } = await stopped(t);
  const { location } = taken;
  const begin = run(2, { kind: 'savepoint', location });
  await diesBehindClaim(made, begin);
  const second = await made.start({ run: begin });
  await runs(second);
  const reasons = () =>
    recordsOf(made).flatMap((one) => (one.kind === 'restore' && one.savepoint ? [one.reason] : []));
  assert.deepEqual(reasons(), [`savepoint ${location}`]);
  await second.checkpoint();
  await runs(await made.start({ run: begin }));
  assert.equal(reasons().length, 1, 'a restart within the run does not go back to it');
  await runs(await made.start({ run: run(3, { kind: 'savepoint', location }) }));
  assert.equal(reasons().length, 2, 'the next run may');
});

test('a missing savepoint is refused before the claim; a later run forgets it', async (t) => {
  const { made } = await stopped(t);
  const before = recordsOf(made).length;
  const nowhere = run(2, { kind: 'savepoint', location: 'memory://nowhere' });
  await assert.rejects(made.start({ run: nowhere }), { code: 'SAVEPOINT_MISSING' });
  assert.equal(recordsOf(made).length, before);
  // It vanished between the claim and the restore.
  await diesBehindClaim(made, nowhere);
  await assert.rejects(made.start({ run: nowhere }), { code: 'SAVEPOINT_MISSING' });
  const third = await made.start({ run: run(3) });
  await runs(third);
});

test('two wishes for one start are refused by name', async (t) => {
  const { made, taken } = await stopped(t);
  const plan = { ...testPlan(), restoreSavepoint: taken.location };
  await assert.rejects(made.start({ plan, run: run(2, STATELESS) }), { code: 'START_CONFLICT' });
  await runs(await made.start({ plan, run: run(2) }));
  await runs(await made.start({ plan, run: run(3, STATELESS) }));
});

test('P43: a savepoint is used once, however many checkpoints came since', async (t) => {
  const { made, taken } = await stopped(t);
  const plan = { ...testPlan(), restoreSavepoint: taken.location };
  const second = await made.start({ plan, run: run(2) });
  await runs(second);
  for (let i = 0; i < 150; i++) await second.checkpoint();
  const before = restored(made).length;
  await runs(await made.start({ plan, run: run(2) }));
  const since = recordsOf(made).flatMap((one) => (one.kind === 'restore' ? [one.savepoint] : []));
  assert.deepEqual(since.slice(before), [null]);
});
