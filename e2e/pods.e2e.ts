/**
 * The worker's processes as pods start them: arguments, mounted files (symbolic links that are
 * swapped), a Lease of a real API server, probes. A job through its runs: leader killed, script
 * changed, savepoints by id, stopped, found ended by a restarted container, next and stateless run.
 */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { Command, freePort } from './testbed/command.ts';
import { type ControlPlane, startControlPlane } from './testbed/kubernetes/control-plane.ts';
import { leaseAccount, rotateToken } from './testbed/kubernetes/service-account.ts';

/** Ten times what each step usually takes, and more on a busy machine. */
const WATCHDOG_MS = 60_000;
const TOKEN = 'f'.repeat(64);
const LEASE = 'events-leader';

interface Status {
  run: number;
  state: string;
  numRestarts: number;
  leader: { epoch: number; address: string | null };
  taskManagers: { registered: number; slotsTotal: number };
  lastCheckpoint: { id: number; location: string } | null;
  lastSavepoint: { location: string } | null;
  stopSavepoint: { location: string; triggerId: string } | null;
  scriptVersion: {
    running: string;
    wanted: string;
    refused: { version: string; error: string } | null;
  };
  jobId: string;
}

interface Pod {
  rpc: number;
  rest: number;
  process: Command | null;
}

let folder: string;
let plane: ControlPlane;
let account: Record<string, string>;
const pods: Pod[] = [];
const taskManager = { process: null as Command | null, health: 0, shuffle: 0 };
let versions = 0;

/** As the kubelet writes a volume: the files in a folder of their own, `..data` leads to it. */
function mount(name: string, files: Record<string, string>, mode = 0o644): string {
  const volume = join(folder, name);
  const version = `..version-${versions++}`;
  mkdirSync(join(volume, version), { recursive: true });
  for (const [file, text] of Object.entries(files)) {
    writeFileSync(join(volume, version, file), text, { mode });
  }
  symlinkSync(version, join(volume, '..data_tmp'));
  renameSync(join(volume, '..data_tmp'), join(volume, '..data'));
  for (const file of Object.keys(files)) {
    try {
      symlinkSync(join('..data', file), join(volume, file));
    } catch {
      // Of the version before: the link stays, what it leads to changes.
    }
  }
  return volume;
}

const plan = (script: string) => `apiVersion: triggerjob.io/v1alpha1
kind: TriggerJob
metadata: { name: events, namespace: default }
spec:
  parallelism: 2
  maxParallelism: 16
  source: { datagen: { eventsPerSecond: 500, users: 100 } }
  keyBy: user_id
  filter: { language: aviator, script: ${JSON.stringify(script)} }
  action: { debug: {} }
  checkpointing: { interval: 1s, directory: "file://${folder}/checkpoints" }
  savepoints: { directory: "file://${folder}/savepoints" }
  jobManager:
    replicas: 2
    leaderElection: { lease: 3s, renewDeadline: 2s, retryPeriod: 250ms }
  taskManager: { replicas: 1, slots: 2, localState: { directory: ${folder}/rocksdb } }
`;

const mountPlan = (script: string) => mount('job', { 'triggerjob.yaml': plan(script) });

function startJobManager(at: number, run: number, more: string[] = []): void {
  const pod = pods[at]!;
  const secret = join(folder, 'secret');
  pod.process = new Command(
    [
      ...['jobmanager', '--plan', join(folder, 'job/triggerjob.yaml')],
      ...['--rpc-port', String(pod.rpc), '--rest-port', String(pod.rest)],
      ...['--advertise-host', '127.0.0.1', '--on-sigterm', 'release', '--on-end', 'stay'],
      ...['--run', String(run), '--secret-file', join(secret, 'transport')],
      ...['--rest-token-file', join(secret, 'rest-token')],
      ...['--leader-election', 'kubernetes', '--lease', LEASE, ...more],
    ],
    account,
  );
}

/** As its pod does: whenever it has ended it is started again. */
function startTaskManager(): void {
  const addresses = pods.map(({ rpc }) => `127.0.0.1:${rpc}`).join(',');
  const started = new Command([
    ...['taskmanager', '--jobmanager', addresses, '--slots', '2', '--id', 'tm-0'],
    ...['--local-state-dir', join(folder, 'rocksdb'), '--shuffle-host', '127.0.0.1'],
    ...['--shuffle-port', String(taskManager.shuffle)],
    ...['--health-port', String(taskManager.health)],
    ...['--secret-file', join(folder, 'secret/transport')],
  ]);
  taskManager.process = started;
  started.child.once('exit', () => {
    if (taskManager.process === started) startTaskManager();
  });
}

async function kill(command: Command | null, signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL') {
  command?.child.kill(signal);
  await command?.exit();
}

const url = (at: number, path: string) => `http://127.0.0.1:${pods[at]!.rest}${path}`;

async function get<T>(at: number, path: string): Promise<T | null> {
  const answer = await fetch(url(at, path), { signal: AbortSignal.timeout(5_000) }).catch(
    () => null,
  );
  return answer?.ok === true ? ((await answer.json()) as T) : null;
}

async function send(at: number, path: string, body: object, token = TOKEN) {
  const headers = { authorization: `Bearer ${token}` };
  const request = { method: 'POST', headers, body: JSON.stringify(body) };
  const answer = await fetch(url(at, path), request);
  return { status: answer.status, text: await answer.text() };
}

async function until<T>(what: string, look: () => Promise<T | null | false>): Promise<T> {
  for (const end = Date.now() + WATCHDOG_MS; Date.now() < end; await wait(50)) {
    const found = await look();
    if (found !== null && found !== false) return found;
  }
  const printed = [...pods.map(({ process }) => process), taskManager.process];
  return assert.fail(`waited for ${what}:\n${printed.map((one) => one?.output).join('\n----\n')}`);
}

const statusUntil = (at: number, what: string, test: (status: Status) => boolean) =>
  until(what, async () => {
    const status = await get<Status>(at, '/api/v1/status');
    return status !== null && test(status) && status;
  });

const isRunning = (run: number) => (status: Status) =>
  status.state === 'RUNNING' && status.run === run;

async function operation(at: number, path: string): Promise<string> {
  return until(`${path} to be complete`, async () => {
    const answer = await get<{ status: { id: string }; operation: { location: string } }>(at, path);
    return answer?.status.id === 'COMPLETED' && answer.operation.location;
  });
}

const holder = () =>
  plane.kubectl(['get', 'lease', LEASE, '-o', 'jsonpath={.spec.holderIdentity}']);
const leads = async () => {
  const rpc = Number((await holder()).split(':')[1]);
  return pods.findIndex((pod) => pod.rpc === rpc);
};

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'triggerjob-pods-'));
  plane = await startControlPlane();
  mkdirSync(join(folder, 'account'));
  account = await leaseAccount(plane, 'events-jobmanager', join(folder, 'account'));
  mountPlan('event.triggerable');
  mount('secret', { transport: `${'s'.repeat(64)}\n`, 'rest-token': `${TOKEN}\n` }, 0o440);
  for (let i = 0; i < 2; i++) {
    pods.push({ rpc: await freePort(), rest: await freePort(), process: null });
  }
  taskManager.health = await freePort();
  taskManager.shuffle = await freePort();
});

after(async () => {
  const last = taskManager.process;
  taskManager.process = null;
  await Promise.all([kill(last), ...pods.map(({ process }) => kill(process))]);
  await plane?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe("the worker's processes in pods", () => {
  it('leads by the Lease; any pod answers everything; changes need the token', async () => {
    startJobManager(0, 1);
    startJobManager(1, 1);
    startTaskManager();
    for (const at of [0, 1]) await statusUntil(at, `RUNNING at pod ${at}`, isRunning(1));
    const { jobId } = (await get<Status>(0, '/api/v1/status'))!;
    for (const at of [0, 1]) {
      for (const probe of ['/healthz', '/readyz'])
        assert.equal((await fetch(url(at, probe))).status, 200);
      assert.equal((await send(at, `/jobs/${jobId}/checkpoints`, {}, 'no')).status, 401);
      assert.equal((await send(at, `/jobs/${jobId}/checkpoints`, {})).status, 202);
    }
    const ready = await fetch(`http://127.0.0.1:${taskManager.health}/readyz`);
    assert.equal(ready.status, 200);
    assert.ok([0, 1].includes(await leads()));
  });

  it('takes a changed script from the mounted file, and refuses a broken one by name', async () => {
    const before = (await get<Status>(0, '/api/v1/status'))!.scriptVersion.running;
    mountPlan('event.triggerable && user.country == "DE"');
    const changed = await statusUntil(0, 'the new script', ({ scriptVersion }) => {
      return scriptVersion.running !== before && scriptVersion.refused === null;
    });
    mountPlan('event.triggerable &&');
    const refused = await statusUntil(
      1,
      'the refusal',
      (one) => one.scriptVersion.refused !== null,
    );
    assert.equal(refused.scriptVersion.running, changed.scriptVersion.running);
    assert.notEqual(refused.scriptVersion.refused?.version, changed.scriptVersion.running);
    mountPlan('event.triggerable');
    await statusUntil(0, 'the first script', ({ scriptVersion }) => {
      return scriptVersion.running === before && scriptVersion.refused === null;
    });
  });

  it('loses its leader, and the API server, and no task', async () => {
    const first = await leads();
    await kill(pods[first]!.process);
    const other = 1 - first;
    await statusUntil(
      other,
      'the next leader',
      (one) => isRunning(1)(one) && one.leader.epoch === 2,
    );
    startJobManager(first, 1);
    await plane.apiServerDown();
    await wait(4_000);
    const away = await statusUntil(other, 'RUNNING without an API server', isRunning(1));
    assert.deepEqual([away.leader.epoch, away.numRestarts], [2, 0]);
    await plane.apiServerUp();
    await rotateToken(plane, 'events-jobmanager', join(folder, 'account'));
    await plane.kubectl(['delete', 'lease', LEASE]);
    await until('the Lease to come back', async () => (await leads().catch(() => -1)) === other);
    await statusUntil(first, 'the restarted one to follow', isRunning(1));
    await kill(pods[other]!.process, 'SIGTERM');
    await statusUntil(first, 'a hand-over', (one) => isRunning(1)(one) && one.leader.epoch === 3);
    assert.equal((await get<Status>(first, '/api/v1/status'))?.numRestarts, 0);
    startJobManager(other, 1);
    await statusUntil(other, 'both', isRunning(1));
  });

  it('makes one savepoint for one id, whoever is asked', async () => {
    const { jobId } = (await get<Status>(0, '/api/v1/status'))!;
    const path = `/jobs/${jobId}/savepoints`;
    assert.equal((await send(0, path, { triggerId: 'daily' })).status, 202);
    const location = await operation(1, `${path}/daily`);
    await kill(pods[await leads()]!.process, 'SIGTERM');
    for (const [at, pod] of pods.entries()) {
      if (pod.process?.child.exitCode !== null) startJobManager(at, 1);
    }
    for (const at of [0, 1]) await statusUntil(at, 'the next leader', isRunning(1));
    assert.equal(await operation(0, `${path}/daily`), location);
    assert.equal((await send(1, path, { triggerId: 'daily' })).status, 202);
    assert.equal(await operation(0, `${path}/daily`), location);
  });

  it('is stopped with a savepoint, and no container of that run starts it again', async () => {
    const { jobId } = (await get<Status>(0, '/api/v1/status'))!;
    assert.equal((await send(0, `/jobs/${jobId}/stop`, { triggerId: 'stop-1' })).status, 202);
    const location = await operation(1, `/jobs/${jobId}/savepoints/stop-1`);
    const ended = (one: Status) =>
      one.state === 'FINISHED' && one.stopSavepoint?.location === location;
    for (const at of [0, 1]) await statusUntil(at, `the end at pod ${at}`, ended);
    for (const [at, pod] of pods.entries()) {
      await kill(pod.process);
      startJobManager(at, 1);
    }
    for (const at of [0, 1]) {
      await statusUntil(at, `the end at restarted pod ${at}`, ended);
      assert.equal(await operation(at, `/jobs/${jobId}/savepoints/stop-1`), location);
      assert.equal((await send(at, `/jobs/${jobId}/stop`, { triggerId: 'stop-1' })).status, 202);
      assert.equal((await send(at, `/jobs/${jobId}/stop`, { triggerId: 'stop-2' })).status, 409);
      const paths = ['/readyz', '/metrics', '/overview', '/jobs/overview', '/taskmanagers'];
      const ofJob = ['', '/checkpoints', '/exceptions', '/resource-requirements'];
      for (const path of [...paths, ...ofJob.map((rest) => `/jobs/${jobId}${rest}`)]) {
        assert.equal((await fetch(url(at, path))).status, 200, path);
      }
    }
  });

  it('goes on in the next run from where it stopped, and once from nothing', async () => {
    const stop = (await get<Status>(0, '/api/v1/status'))!.lastCheckpoint!.id;
    const restart = async (run: number, more: string[]) => {
      for (const [at, pod] of pods.entries()) {
        await kill(pod.process, 'SIGTERM');
        startJobManager(at, run, more);
      }
      await statusUntil(0, `run ${run}`, isRunning(run));
      return get<{ restoredCheckpoint: { id: number } | null }>(0, '/api/v1/details');
    };
    assert.equal((await restart(2, []))?.restoredCheckpoint?.id, stop);
    const emptied = ['--start', 'stateless'];
    assert.equal((await restart(3, emptied))?.restoredCheckpoint, null);
    const own = await statusUntil(0, 'a checkpoint', (one) => one.lastCheckpoint !== null);
    for (const pod of pods) await kill(pod.process, 'SIGTERM');
    startJobManager(0, 3, emptied);
    const again = await statusUntil(0, 'run 3 again', isRunning(3));
    assert.ok((again.lastCheckpoint?.id ?? 0) >= own.lastCheckpoint!.id, 'not emptied again');
  });

  it('is deleted with all that it has stored, and stays so', async () => {
    const { jobId } = (await get<Status>(0, '/api/v1/status'))!;
    const path = `/jobs/${jobId}/disposal`;
    assert.equal((await send(0, path, { triggerId: 'gone' }, 'no')).status, 401);
    assert.equal((await send(0, path, { triggerId: 'gone' })).status, 202);
    await until('the end of all that is stored', async () => {
      const answer = await get<{ status: { id: string } }>(0, `${path}/gone`);
      return answer?.status.id === 'COMPLETED';
    });
    const left = readdirSync(join(folder, 'checkpoints'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    assert.ok(left.length > 0, 'the fence is gone');
    const others = left.filter((file) => !/\/log\/[^/]+$/.test(file));
    assert.deepEqual(others, [], 'something besides the fence is left');
    for (const pod of pods) await kill(pod.process, 'SIGTERM');
    startJobManager(0, 3);
    const after = await statusUntil(0, 'what the deleted job shows', () => true);
    assert.ok(['CANCELED', 'FINISHED'].includes(after.state), after.state);
  });
});
