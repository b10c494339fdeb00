import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { Manifest } from '../checkpoint/snapshot.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { FakeTaskManager } from './fake-task-manager.ts';
import type { JobManager } from './job-view.ts';
import { clusterOf, recordsOf, SCRIPT, type TestCluster, testPlan, until } from './test-cluster.ts';

const running = (manager: JobManager) =>
  until('RUNNING', () => manager.view().status === 'RUNNING');

function newestManifest(made: TestCluster): Manifest {
  const record = recordsOf(made).findLast((known) => known.kind === 'checkpoint');
  assert.ok(record?.kind === 'checkpoint');
  const content = made.store.objects.get(record.manifest.name)?.content;
  return JSON.parse(String(content)) as Manifest;
}

test('P25: a first start stores its initial manifest before anything is deployed', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  assert.deepEqual(
    recordsOf(made).map((record) => record.kind),
    ['genesis', 'takeover', 'checkpoint'],
  );
  const manifest = newestManifest(made);
  assert.equal(manifest.kind, 'initial');
  assert.deepEqual(
    manifest.splits.map((position) => position.offset),
    [100, 100, 100],
  );
  assert.equal(manager.view().status, 'CREATED');
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  const deploy = await tm.next('deploy');
  assert.deepEqual(
    deploy.tasks.map(({ subtask, attempt, restoredId, restore, splits }) => ({
      subtask,
      attempt,
      restoredId,
      restore,
      splits: splits.map((position) => position.split.index),
    })),
    [
      { subtask: 0, attempt: 1, restoredId: 0, restore: [], splits: [0, 2] },
      { subtask: 1, attempt: 1, restoredId: 0, restore: [], splits: [1] },
    ],
  );
  await running(manager);
  assert.equal(manager.jobId, manifest.lineage.slice(0, 32));
});

test('a checkpoint: manifest, log record, notify, then group offsets', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  assert.equal(made.enumerator.commits.length, 0);
  const id = await manager.checkpoint();
  await tm.next('notify', (command) => command.checkpointId === id);
  const manifest = newestManifest(made);
  assert.equal(manifest.checkpointId, id);
  assert.equal(manifest.subtasks.length, 2);
  assert.deepEqual(
    manifest.splits.map((position) => position.offset),
    [110, 110, 110],
  );
  assert.deepEqual(
    made.enumerator.commits[0]?.map((position) => position.offset),
    [110, 110, 110],
  );
  const { latestCompleted, counts } = manager.view().checkpoints;
  assert.equal(latestCompleted?.stateBytes, 2000);
  assert.equal(counts.completed, 1);
});

test('a lost TaskManager: restore record, higher attempt, newest checkpoint', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const first = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  const id = await manager.checkpoint();
  first.close();
  await until('RESTARTING', () => manager.view().status !== 'RUNNING');
  const second = await FakeTaskManager.connect(manager.rpcPort, 2, 'tm-2');
  const deploy = await second.next('deploy');
  assert.deepEqual(
    deploy.tasks.map(({ attempt, restoredId, splits }) => [attempt, restoredId, splits[0]?.offset]),
    [
      [2, id, 110],
      [2, id, 110],
    ],
  );
  const last = recordsOf(made).at(-1);
  assert.ok(last?.kind === 'restore' && last.checkpointId === id);
  await running(manager);
  const view = manager.view();
  assert.equal(view.restarts, 1);
  assert.match(view.exceptions.entries[0]?.message ?? '', /tm-1 .* is lost/);
  assert.equal(await manager.checkpoint(), id + 1);
});

test('a failed task: the others are canceled before anything is deployed again', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const one = await FakeTaskManager.connect(manager.rpcPort, 1, 'a');
  const two = await FakeTaskManager.connect(manager.rpcPort, 1, 'b');
  await running(manager);
  one.fail(0, 'OUT_OF_MEMORY');
  for (const tm of [one, two]) {
    await tm.next('deploy', (command) => command.tasks[0]?.attempt === 2);
    const kinds = tm.commands.map((command) => command.type);
    assert.deepEqual(
      kinds.filter((kind) => kind === 'cancel' || kind === 'deploy'),
      ['deploy', 'cancel', 'deploy'],
    );
  }
  await running(manager);
  assert.equal(manager.view().exceptions.first?.code, 'OUT_OF_MEMORY');
});

async function threeTaskManagers(made: TestCluster) {
  const manager = await made.start({ plan: { ...testPlan(), parallelism: 5 } });
  const connect = (id: string) => FakeTaskManager.connect(manager.rpcPort, 2, id);
  // Not in the order of their names.
  const c = await connect('c');
  const a = await connect('a');
  const b = await connect('b');
  return { manager, connect, a, b, c };
}

const ofAttempt =
  (attempt: number) =>
  (command: { tasks: { attempt: number }[] }): boolean =>
    command.tasks[0]?.attempt === attempt;

test('several TaskManagers: each is told where all subtasks run, and one secret', async (t) => {
  const { manager, a, b, c } = await threeTaskManagers(clusterOf(t));
  const deploys = await Promise.all([a, b, c].map((tm) => tm.next('deploy')));
  await running(manager);
  const address = { host: '127.0.0.1', port: 1 };
  for (const { members, secret } of deploys) {
    assert.deepEqual(members, [
      { taskManagerId: 'a', ...address, subtasks: [0, 3] },
      { taskManagerId: 'b', ...address, subtasks: [1, 4] },
      { taskManagerId: 'c', ...address, subtasks: [2] },
    ]);
    assert.equal(secret, deploys[0]?.secret);
    assert.match(secret, /^[0-9a-f]{32}$/);
  }
  assert.deepEqual(
    deploys.map(({ tasks }) => tasks.map(({ subtask, slot }) => [subtask, slot])),
    [
      [
        [0, 0],
        [3, 1],
      ],
      [
        [1, 0],
        [4, 1],
      ],
      [[2, 0]],
    ],
  );
  const id = await manager.checkpoint();
  for (const tm of [a, b, c]) await tm.next('notify', (command) => command.checkpointId === id);
});

test('one of several is lost: the others are canceled, kept, and deployed again', async (t) => {
  const { manager, connect, a, b, c } = await threeTaskManagers(clusterOf(t));
  await running(manager);
  const id = await manager.checkpoint();
  c.close();
  for (const tm of [a, b]) await tm.next('cancel');
  await until('the wait for slots', () => manager.view().status === 'CREATED');
  assert.equal(a.commands.filter(({ type }) => type === 'deploy').length, 1);
  const replacement = await connect('c');
  const again = await Promise.all([a, b, replacement].map((tm) => tm.next('deploy', ofAttempt(2))));
  const first = await a.next('deploy');
  assert.notEqual(again[0]?.secret, first.secret);
  for (const { tasks } of again) {
    assert.ok(tasks.every(({ restoredId, attempt }) => restoredId === id && attempt === 2));
  }
  await running(manager);
  assert.equal(manager.view().restarts, 1);
});

test('a broken connection between two TaskManagers restarts the job once (P51)', async (t) => {
  const { manager, a, b, c } = await threeTaskManagers(clusterOf(t));
  await running(manager);
  const lost = (tm: FakeTaskManager, peer: string, attempt: number) => {
    const facts = { taskManagerId: tm.id, attempt, peer };
    tm.send({ type: 'peer-lost', ...facts, code: 'LINK_RESET', error: 'connection reset' });
  };
  lost(b, 'c', 1);
  lost(c, 'b', 1);
  for (const tm of [a, b, c]) await tm.next('deploy', ofAttempt(2));
  await running(manager);
  // A late word of the attempt that is over.
  lost(a, 'c', 1);
  await manager.checkpoint();
  const { restarts, exceptions } = manager.view();
  assert.equal(restarts, 1);
  const [newest] = exceptions.entries;
  assert.deepEqual([newest?.code, newest?.taskManagerId], ['LINK_RESET', 'c']);
  assert.match(newest?.message ?? '', /b lost its connection with c: connection reset/);
});

test('lost records fail the job instead of restarting it', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  tm.fail(1, 'SOURCE_OFFSET_OUT_OF_RANGE');
  assert.deepEqual(await manager.done, {
    kind: 'failed',
    code: 'SOURCE_OFFSET_OUT_OF_RANGE',
    message: 'it broke',
  });
  assert.equal(manager.view().status, 'FAILED');
});

test('a checkpoint that times out is aborted at the tasks and recorded in the log', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start({ plan: testPlan({ timeoutMs: 50 }) });
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  tm.onTrigger = 'ignore';
  await assert.rejects(manager.checkpoint(), { code: 'CHECKPOINT_EXPIRED' });
  const aborted = await tm.next('abort');
  await until('abort record', () => recordsOf(made).at(-1)?.kind === 'abort');
  // P7: the next one waits for `drained` of the aborted one.
  tm.onTrigger = 'ack';
  const next = manager.checkpoint();
  assert.equal(tm.commands.filter((command) => command.type === 'trigger').length, 1);
  for (const subtask of [0, 1]) {
    const { attempt, checkpointId } = aborted;
    tm.send({ type: 'drained', taskManagerId: tm.id, attempt, checkpointId, subtask });
  }
  assert.equal(await next, aborted.checkpointId + 1);
});

test('stale acknowledgements are refused: another attempt, an aborted checkpoint', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  tm.onTrigger = 'ignore';
  const checkpoint = manager.checkpoint();
  const { checkpointId } = await tm.next('trigger');
  tm.ack(0, checkpointId, SCRIPT, 99);
  tm.ack(1, checkpointId, SCRIPT, 99);
  tm.heartbeat({ subtask: 0, attempt: 1, matched: 3 });
  await until('the heartbeat after the acks', () => manager.view().counters.matched === 3);
  assert.equal(manager.view().checkpoints.find(checkpointId)?.acks.length, 0);
  const before = recordsOf(made).length;
  tm.fail(0, 'X');
  await assert.rejects(checkpoint, { code: 'CHECKPOINT_JOB_RESTARTING' });
  await running(manager);
  assert.equal(newestManifest(made).kind, 'initial');
  assert.deepEqual(
    recordsOf(made)
      .slice(before)
      .map((record) => record.kind),
    ['abort', 'restore'],
  );
});

test('counters survive attempts', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  tm.heartbeat({ subtask: 0, attempt: 1, delivered: 7, users: 4 });
  await until('first heartbeat', () => manager.view().counters.delivered === 7);
  tm.fail(0, 'X');
  await tm.next('deploy', (command) => command.tasks[0]?.attempt === 2);
  tm.heartbeat({ subtask: 0, attempt: 1, delivered: 8 });
  tm.heartbeat({ subtask: 0, attempt: 2, delivered: 2, users: 5 });
  await until('second heartbeat', () => manager.view().gauges.users === 5);
  // 7 of the first attempt and 2 of the second; the late word of the first changes nothing.
  assert.equal(manager.view().counters.delivered, 9);
});

test('a savepoint lies in a folder of its own and starts another job, once (P43)', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  const { location, checkpointId } = await manager.savepoint({ directory: 'memory://elsewhere/' });
  assert.match(location, /^memory:\/\/elsewhere\/savepoint-/);
  assert.ok(made.savepoints.get(location)?.objects.has('_metadata.json'));
  assert.equal(manager.view().checkpoints.latestSavepoint?.externalPath, location);

  const copy = clusterOf(t);
  copy.savepoints.set(location, made.savepoints.get(location)!);
  const plan = { ...testPlan(), restoreSavepoint: location };
  const second = await copy.start({ plan });
  assert.equal(second.jobId, manager.jobId);
  const tm = await FakeTaskManager.connect(second.rpcPort, 2);
  assert.equal((await tm.next('deploy')).tasks[0]?.restoredId, checkpointId);
  assert.equal(copy.enumerator.startingCalls, 0);
  await running(second);
  const later = await second.checkpoint();
  await second.close();
  const third = await copy.start({ plan });
  const tm3 = await FakeTaskManager.connect(third.rpcPort, 2);
  assert.equal((await tm3.next('deploy')).tasks[0]?.restoredId, later);
});

test('P34: a changed script comes with the next barrier, the stored one is deployed', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  const changed: ScriptVersion = { version: 'v2', text: 'false', language: 'aviator' };
  manager.changeScript(changed);
  assert.equal(manager.view().filter.version, 'v1');
  const id = await manager.checkpoint();
  const trigger = await tm.next('trigger', (command) => command.checkpointId === id);
  assert.equal(trigger.script.version, 'v2');
  assert.equal(manager.view().filter.version, 'v2');
  await manager.close();
  // The next leader starts with a plan that still says v1: replay needs v2, v1 follows at a
  // barrier.
  const second = await made.start();
  const tm2 = await FakeTaskManager.connect(second.rpcPort, 2);
  assert.equal((await tm2.next('deploy')).script.version, 'v2');
  await running(second);
  await second.checkpoint();
  assert.equal((await tm2.next('trigger')).script.version, 'v1');
});

test('a broken script is refused by name, a repaired one taken', async (t) => {
  const made = clusterOf(t);
  const dir = mkdtempSync(join(tmpdir(), 'jobmanager-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'job.yaml');
  writeFileSync(file, 'a');
  let answer: () => Promise<ScriptVersion | null> = () => Promise.resolve(SCRIPT);
  const manager = await made.start({ watchFiles: [file], loadScript: () => answer() });
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  answer = () => Promise.reject(new Error('line 1: nonsense'));
  writeFileSync(file, 'broken');
  await until('refusal', () => manager.view().filter.refused === 'line 1: nonsense');
  answer = () => Promise.resolve({ ...SCRIPT, version: 'v2' });
  writeFileSync(file, 'fixed it');
  await until('acceptance', () => manager.view().filter.refused === null);
  await manager.checkpoint();
  assert.equal((await tm.next('trigger')).script.version, 'v2');
});

test('P26: a split found later is in the manifest, held until a checkpoint', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start();
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  made.enumerator.partitions = 4;
  await until('discovery', () => manager.view().splits.held === 1);
  // Told at once, held: while it waits, nobody who moved to it may be purged (P37).
  const told = await tm.next('add-splits');
  assert.deepEqual([told.splits[0]?.split.index, told.splits[0]?.held], [3, true]);
  // The older splits end at 110; this checkpoint acknowledges 110.
  await manager.checkpoint();
  const added = await tm.next('add-splits', ({ splits }) => splits[0]?.held !== true);
  assert.deepEqual(
    [added.subtask, added.splits[0]?.split.index, added.splits[0]?.offset],
    [1, 3, 4],
  );
  const held = newestManifest(made).splits[3];
  assert.deepEqual([held?.offset, held?.held], [4, true]);
});

test('stop takes a final checkpoint; the next start resumes from it', async (t) => {
  const made = clusterOf(t);
  const warnings: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => warnings.push(line) });
  const manager = await made.start({ log });
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  await manager.stop({ finalCheckpoint: true });
  assert.deepEqual(await manager.done, { kind: 'finished' });
  const kinds = tm.commands.map((command) => command.type);
  assert.ok(kinds.indexOf('notify') < kinds.indexOf('shutdown'));
  assert.deepEqual(warnings, [], 'a TaskManager that was told to end is not lost');
  const final = newestManifest(made);
  assert.equal(final.kind, 'checkpoint');
  await manager.close();
  const second = await made.start();
  const tm2 = await FakeTaskManager.connect(second.rpcPort, 2);
  const deploy = await tm2.next('deploy');
  assert.equal(deploy.tasks[0]?.restoredId, final.checkpointId);
  assert.ok((deploy.tasks[0]?.attempt ?? 0) > final.attempt);
  await running(second);
  assert.equal(second.view().checkpoints.restored?.id, final.checkpointId);
});

test('--from: offsets only without state, ids only of this job', async (t) => {
  const made = clusterOf(t);
  const manager = await made.start({ from: 'latest' });
  await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  const first = await manager.checkpoint();
  await manager.checkpoint();
  await manager.close();
  await assert.rejects(made.start({ from: 'earliest' }), { code: 'START_OFFSETS_WITH_STATE' });
  await assert.rejects(made.start({ from: 77 }), { code: 'CHECKPOINT_NOT_FOUND' });
  const back = await made.start({ from: first });
  const tm = await FakeTaskManager.connect(back.rpcPort, 2);
  assert.equal((await tm.next('deploy')).tasks[0]?.restoredId, first);
  const last = recordsOf(made).at(-1);
  assert.ok(last?.kind === 'restore' && last.checkpointId === first);
});

test('a leader whose log was taken over ends at its next record (P39)', async (t) => {
  const made = clusterOf(t);
  const old = await made.start();
  await FakeTaskManager.connect(old.rpcPort, 2);
  await running(old);
  await made.start();
  old.checkpoint().catch(() => undefined);
  await assert.rejects(old.done, { code: 'LEADERSHIP_LOST' });
});

test('phases are announced in order, once each', async (t) => {
  const made = clusterOf(t);
  const phases: string[] = [];
  const manager = await made.start({
    hooks: {
      phase: (name, id) => {
        phases.push(`${name} ${id}`);
        return delay(5);
      },
    },
  });
  await FakeTaskManager.connect(manager.rpcPort, 2);
  await running(manager);
  const id = await manager.checkpoint();
  assert.deepEqual(phases, [
    `barrier ${id}`,
    `upload ${id}`,
    `manifest ${id}`,
    `before-notify ${id}`,
  ]);
});
