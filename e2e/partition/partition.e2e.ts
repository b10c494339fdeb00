/**
 * The promise: a job is exact whatever part of its network fails, in both directions or in one, and
 * is whole again soon after it heals. JobManagers and TaskManagers are in network namespaces of
 * their own; the outside checker judges the run as any other. A cut that is shorter than the
 * heartbeat timeout restarts nothing, a TaskManager that is cut off is refused when it comes back,
 * and one that only the leader has lost stops its effects within its grace.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { JobFile } from '../exactly-once/job-file.ts';
import { printRun, violationLines } from '../exactly-once/report.ts';
import { runChecked } from '../exactly-once/run.ts';
import { judge } from '../exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { Network, OUTSIDE } from '../testbed/network.ts';
import { type S3Server, startS3 } from '../testbed/s3.ts';
import { type Machine, type Machines, REST_PORT } from './net-launcher.ts';
import { type Outage, type OutageFigures, type OutagePlan, Outages } from './outages.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_126);
const WHOLE = process.env['TRIGGERJOB_CHAOS'] === 'whole';
const JOB_MANAGERS = ['jm-1', 'jm-2'];
const TASK_MANAGERS = ['tm-1', 'tm-2', 'tm-3'];
const SLOTS = 2;
const SUBTASKS = 4;
const HEARTBEAT_TIMEOUT_MS = 4_000;
const LEASE_MS = 3_000;
/** plan/build.ts: after that long without a leader a task has no effect any more (P38). */
const GRACE_MS = 2 * LEASE_MS + HEARTBEAT_TIMEOUT_MS;
const RECOVERY_GOAL_MS = 5_000;
const MOMENT_GOAL_MS = 2_000;
const LAUNCHER = fileURLToPath(new URL('net-launcher.ts', import.meta.url));

const SHORT: Outage[] = [
  'a TaskManager, for a moment',
  'a TaskManager, from everyone',
  'the leader, for a moment',
  'what the leader says to the TaskManagers',
  'what the TaskManagers say to the leader',
  'a TaskManager, from the JobManagers',
  'what a TaskManager says to another',
  'the leader, from the store',
];
const ALL: Outage[] = [
  ...SHORT,
  'the leader, from the TaskManagers',
  'one TaskManager and another',
];
const RUN = WHOLE
  ? { outages: [...ALL, ...ALL, ...ALL], durationMs: 540_000, eventsPerUser: 900 }
  : { outages: SHORT, durationMs: 95_000, eventsPerUser: 250 };

const JOB: Partial<JobFile> = {
  checkpointInterval: '1s',
  taskManager: { memory: { slotCache: '25Ki' } },
  heartbeat: { timeout: `${HEARTBEAT_TIMEOUT_MS}ms` },
  webhook: { timeout: '20s' },
  scaling: { minInterval: '0s', stabilization: '500ms' },
  jobManager: {
    replicas: JOB_MANAGERS.length,
    rpc: { bindAddress: '0.0.0.0' },
    rest: { bindAddress: '0.0.0.0' },
    leaderElection: { lease: `${LEASE_MS}ms`, renewDeadline: '2s', retryPeriod: '300ms' },
  },
};

function printFigures(figures: readonly OutageFigures[]): void {
  const print = (what: string, ms: number, goalMs: number) =>
    console.log(`${what}: ${ms} ms, goal ${goalMs} ms: ${ms <= goalMs ? 'reached' : 'missed'}`);
  for (const { name, workingMs, healedToWorkingMs, wholeMs, ledMs, zombieMs } of figures) {
    if (/moment/.test(name)) print(`${name}: whole after the heal`, wholeMs, MOMENT_GOAL_MS);
    else if (ledMs !== null) print(`${name}: a successor leads`, ledMs, LEASE_MS + 2_000);
    else if (/^a TaskManager/.test(name)) {
      const goalMs = HEARTBEAT_TIMEOUT_MS + RECOVERY_GOAL_MS;
      print(`${name}: all tasks work after the cut`, workingMs, goalMs);
      print(`${name}: whole after the heal`, wholeMs, RECOVERY_GOAL_MS);
    } else print(`${name}: all tasks work after the heal`, healedToWorkingMs, RECOVERY_GOAL_MS);
    if (zombieMs !== null) print(`${name}: its last delivery after the cut`, zombieMs, GRACE_MS);
  }
}

/** A process on a machine: sends to `host`, and prints how many it has got. */
const TALKER = `
  const socket = require('node:dgram').createSocket('udp4');
  let got = 0;
  socket.on('message', () => { got += 1; });
  setInterval(() => socket.send('x', Number(process.argv[2]), process.argv[1]), 10);
  setInterval(() => process.stdout.write(got + '\\n'), 10);
`;

describe('partition', async () => {
  const missing = await Network.missing();
  const skip = missing ?? false;
  let network: Network;
  let broker: KafkaBroker;
  let s3: S3Server;
  let folder: string;
  before(async () => {
    if (missing !== null) return;
    folder = await mkdtemp(join(tmpdir(), 'triggerjob-machines-'));
    network = await Network.open([...JOB_MANAGERS, ...TASK_MANAGERS]);
    const { host } = network;
    [broker, s3] = await Promise.all([startKafka({ host }), startS3(host)]);
  });
  after(async () => {
    await broker?.stop();
    await s3?.stop();
    await network?.close();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  it('a cut drops what it says, in its direction only', { skip }, async () => {
    const socket = createSocket('udp4');
    let got = 0;
    let peer = 0;
    socket.on('message', (_, { port }) => {
      got += 1;
      peer = port;
    });
    socket.bind(0, network.host);
    await once(socket, 'listening');
    const { port } = socket.address() as AddressInfo;
    const address = network.addressOf('tm-1');
    const sending = setInterval(() => {
      if (peer !== 0) socket.send('x', peer, address);
    }, 10);
    const talker = [process.execPath, '-e', TALKER, network.host, String(port)];
    const place = ['-t', String(network.pidOf('tm-1')), '-n', '--'];
    const child: ChildProcess = spawn('nsenter', [...place, ...talker]);
    let theirs = 0;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      theirs = Number(text.trimEnd().split('\n').at(-1));
    });
    /** What either end got in a while: [here, on the machine]. */
    const heard = async (): Promise<[boolean, boolean]> => {
      // What was under way before.
      await wait(200);
      const [here, there] = [got, theirs];
      await wait(300);
      return [got > here, theirs > there];
    };
    try {
      for (let tries = 0; peer === 0 || theirs === 0; tries += 1) {
        assert.ok(tries < 1_000, 'the talker was never heard, or hears nothing');
        await wait(20);
      }
      await network.cut([{ from: ['tm-1'], to: [OUTSIDE] }]);
      assert.deepEqual(await heard(), [false, true]);
      await network.cut([{ from: [OUTSIDE], to: ['tm-1'] }]);
      assert.deepEqual(await heard(), [true, false]);
      await network.cut([{ from: ['tm-1'], to: ['tm-2'] }]);
      assert.deepEqual(await heard(), [true, true]);
    } finally {
      await network.heal();
      clearInterval(sending);
      child.kill('SIGKILL');
      await once(child, 'close');
      socket.close();
    }
  });

  it('state is the fold and nothing is lost, whoever is cut from whom', { skip }, async () => {
    const machine = (name: string): Machine => {
      return { name, address: network.addressOf(name), pid: network.pidOf(name) };
    };
    const machines: Machines = {
      jobManagers: JOB_MANAGERS.map(machine),
      taskManagers: TASK_MANAGERS.map(machine),
      slots: SLOTS,
    };
    const machinesFile = join(folder, 'machines.json');
    await writeFile(machinesFile, JSON.stringify(machines));
    const { endpoint, accessKeyFile, secretKeyFile } = s3;
    const plan: OutagePlan = {
      seed: SEED,
      outages: RUN.outages,
      shuffled: WHOLE,
      jobManagers: JOB_MANAGERS,
      taskManagers: TASK_MANAGERS,
      subtasks: SUBTASKS,
      storePort: Number(new URL(endpoint).port),
      heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
      graceMs: GRACE_MS,
    };
    let figures: readonly OutageFigures[] = [];
    const directory = `s3://${s3.bucket}/partition/`;
    const result = await runChecked(broker, {
      name: 'partition',
      seed: SEED,
      users: 150,
      eventsPerUser: RUN.eventsPerUser,
      durationMs: RUN.durationMs,
      taskManagers: TASK_MANAGERS.length,
      jobManagers: JOB_MANAGERS.length,
      parallelism: SUBTASKS,
      need: null,
      host: network.host,
      launcher: {
        program: [LAUNCHER, machinesFile],
        rest: `http://${network.addressOf('jm-1')}:${REST_PORT}`,
      },
      nemesis: async (stage) => {
        const outages = new Outages(stage, plan, network);
        figures = outages.figures;
        try {
          await outages.run();
        } finally {
          await network.heal();
        }
      },
      store: { url: directory, directory: `${s3.directory}/partition` },
      job: () => ({
        ...JOB,
        checkpointing: { directory, s3: { endpoint, accessKeyFile, secretKeyFile } },
      }),
    });
    const verdict = judge(result.history);
    printRun(result, verdict);
    printFigures(figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.notEqual(result.history.meta.dump, null);
    assert.equal(figures.length, RUN.outages.length, 'not every outage was there');
    for (const { name, attempts } of figures) {
      if (/TaskManagers|everyone|JobManagers|another/.test(name)) {
        assert.ok(attempts > 0, `${name}: nobody noticed, or the network was not cut`);
      }
    }
  });
});
