/**
 * The promise: README's section "On Kubernetes", followed word for word on a real cluster, works,
 * and through all of it - an upgrade of the filter, lost pods of every kind, suspend and resume -
 * the outside checker finds nothing wrong. Each step's seconds are printed with their goal.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { installHelm } from '../testbed/kubernetes/binaries.ts';
import { buildImage } from '../testbed/kubernetes/images.ts';
import { type Lab, labImpediment, startLab } from '../testbed/kubernetes/lab.ts';
import type { Judgement } from './lab-services.ts';
import { LabServices } from './lab-services-client.ts';
import { readmeCommands } from './readme-commands.ts';

const run = promisify(execFile);

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SECTION = 'On Kubernetes';
const SHELL = '/bin/bash';
/** Ten times what the longest step takes. */
const WATCHDOG_MS = 300_000;
/** As the chart names them without any value set. */
const IMAGES = ['worker', 'operator'] as const;
const chartImage = (name: string) => `ghcr.io/triggerjob/triggerjob-${name}:0.1.0`;

/** Events for far longer than the steps take: they end with the steps. */
const SHAPE = {
  seed: 20_261_126,
  topic: 'user-tracking-events',
  users: 100,
  eventsPerUser: 2_000,
  durationMs: 1_800_000,
  arrivalShare: 0.004,
  scripts: ['event.triggerable && user.country == "US"', 'event.triggerable'],
} satisfies Parameters<typeof LabServices.start>[1];

const impediment = await labImpediment();

let lab: Lab;
let services: Awaited<ReturnType<typeof LabServices.start>>;
/** Where the user stands: a checkout's charts and samples, and the two key files. */
let folder: string;
let environment: NodeJS.ProcessEnv;
let commands: string[];
const seconds: { step: string; took: number; goal: number }[] = [];

describe('the first hour on Kubernetes, by README', { skip: impediment ?? false }, () => {
  before(async () => {
    commands = await readmeCommands(SECTION);
    const helm = await installHelm();
    const images = [];
    for (const name of IMAGES) images.push({ name, ...(await buildImage(name)) });
    lab = await startLab();
    for (const { name, archive, tag } of images) {
      await lab.loadImage(archive);
      await lab.tagImage(tag, chartImage(name));
    }
    services = await LabServices.start(lab, SHAPE);
    folder = await mkdtemp(join(tmpdir(), 'triggerjob-first-hour-'));
    await prepareFolder();
    const path = `${lab.kubectlFolder}:${dirname(helm)}:${process.env['PATH']}`;
    environment = { ...process.env, PATH: path, KUBECONFIG: join(folder, 'kubeconfig') };
  });

  after(async () => {
    await services?.end();
    await lab?.stop();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  it('goes as README says, and nothing is lost, invented or out of order', async () => {
    await install();
    await firstEvents();
    await savepoint();
    await scale();
    await upgradeFilter();
    await losePods();
    await suspendAndResume();
    await services.stop();
    const judgement = await timed('everything in a checkpoint', 60, () => services.judge());
    printJudgement(judgement);
    await timed('delete', 60, async () => {
      await follow(/^kubectl delete tj/);
    });
    assert.deepEqual(commands, [], 'commands of README that were not followed');
    assert.equal(await owned(), '', 'objects that outlived the job');
    assert.deepEqual(judgement.trouble, []);
    assert.deepEqual(judgement.violations, []);
  });
});

async function prepareFolder(): Promise<void> {
  const { accessKey, secretKey } = services.addresses.s3;
  await copyFile(lab.kubeconfig, join(folder, 'kubeconfig'));
  await mkdir(join(folder, 'config'));
  await cp(join(ROOT, 'charts'), join(folder, 'charts'), { recursive: true });
  await cp(join(ROOT, 'config/samples'), join(folder, 'config/samples'), { recursive: true });
  await writeFile(join(folder, 'access-key'), accessKey);
  await writeFile(join(folder, 'secret-key'), secretKey);
}

/** The next command of README must look like this; it is typed and its output printed. */
async function follow(expected: RegExp): Promise<string> {
  const command = commands.shift();
  assert.match(command ?? '', expected);
  return await shell(command!);
}

/** One shell for all that share variables would hide what a user has to type: TOKEN is kept. */
const variables: Record<string, string> = {};

async function shell(command: string): Promise<string> {
  const assignment = /^([A-Z]+)=(.+)$/.exec(command);
  const text = assignment === null ? command : `echo ${assignment[2]}`;
  console.log(`$ ${command}`);
  const { stdout, stderr } = await run(SHELL, ['-c', text], {
    cwd: folder,
    env: { ...environment, ...variables },
    timeout: WATCHDOG_MS,
  }).catch(async (error: unknown) => {
    throw new Error(`${command}: ${String(error)}\n${await lookAround()}`);
  });
  if (assignment !== null) variables[assignment[1]!] = stdout.trim();
  if (`${stdout}${stderr}` !== '') console.log(`${stdout}${stderr}`.trimEnd());
  return stdout;
}

async function timed<T>(step: string, goal: number, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  const took = (performance.now() - startedAt) / 1000;
  seconds.push({ step, took, goal });
  const verdict = took <= goal ? 'reached' : 'missed';
  console.log(`  ${step}: ${took.toFixed(1)} s (goal ${goal} s: ${verdict})`);
  return result;
}

/** What somebody on call would ask first. */
async function lookAround(): Promise<string> {
  const asked = [
    ['get', 'tj,pods,pvc,events', '-A', '-o', 'wide'],
    ['get', 'tj', '-A', '-o', 'yaml'],
    ['logs', '-n', 'triggerjob-system', '-l', 'app.kubernetes.io/name=triggerjob-operator'],
    ['logs', '-n', 'triggers', '-l', 'triggerjob.io/job=user-events', '--tail=30', '--prefix'],
  ];
  const answers = asked.map((args) => lab.kubectl(args).catch((error: unknown) => String(error)));
  return (await Promise.all(answers)).join('\n').slice(-30_000);
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + WATCHDOG_MS; !(await isSo()); await delay(250)) {
    if (performance.now() < deadline) continue;
    throw new Error(`waited ${WATCHDOG_MS / 1000} s for ${what}\n${await lookAround()}`);
  }
}

const inTriggers = (...args: string[]) => lab.kubectl(['-n', 'triggers', ...args]);

async function field(path: string): Promise<string> {
  return await inTriggers('get', 'tj/user-events', '-o', `jsonpath={${path}}`);
}

async function install(): Promise<void> {
  await timed('helm install', 60, () => follow(/^helm install/));
  await follow(/^kubectl create namespace/);
  await lab.kubectl(['label', 'ns/triggers', 'pod-security.kubernetes.io/enforce=restricted']);
  await follow(/^kubectl config set-context/);
  await follow(/^kubectl create secret/);
  await lab.kubectl(['apply', '-f', '-'], JSON.stringify(servicesOfNamespace()));
}

async function firstEvents(): Promise<void> {
  await timed('kubectl apply to Ready', 60, async () => {
    await follow(/^kubectl apply -f config\/samples\/first.yaml/);
    await follow(/^kubectl wait .*condition=Ready/);
  });
  await services.produce();
  await timed('first delivery', 10, () => untilDelivered('the first delivery'));
  const table = await follow(/^kubectl get tj$/);
  assert.match(table, /NAME +STATE +READY +PARALLELISM +LAG +LAST-CHECKPOINT +RESTARTS +AGE/);
  assert.match(table, /user-events +Running +1\/1 +2 /);
}

async function untilDelivered(what: string): Promise<void> {
  const { receipts } = await services.progress();
  await until(what, async () => (await services.progress()).receipts > receipts);
}

async function savepoint(): Promise<void> {
  await timed('savepoint by annotation', 10, async () => {
    await follow(/^TOKEN=/);
    await follow(/^kubectl annotate .*savepoint=/);
    await follow(/^kubectl wait .*requestToken/);
    await follow(/^kubectl wait .*phase.*Completed/);
  });
  assert.match(await follow(/^kubectl get .*location/), /^s3:\/\/flink-savepoints\//);
}

async function scale(): Promise<void> {
  await timed('scale 1 -> 2, parallelism 4', 60, async () => {
    await follow(/^kubectl scale/);
    await until('parallelism 4', async () => (await field('.status.parallelism')) === '4');
  });
}

/**
 * An event that waits for the Profile API at the barrier of a change is decided by the new script,
 * so its offset does not tell which one it was: no user may be new around the change.
 */
async function everyoneIsKnown(): Promise<void> {
  await until('an event of every user', async () => {
    return (await services.progress()).users === SHAPE.users;
  });
  const { checkpoints } = await services.progress();
  await until('a checkpoint with no event parked', async () => {
    const now = await services.progress();
    return now.checkpoints > checkpoints && now.parked === 0;
  });
}

async function upgradeFilter(): Promise<void> {
  await everyoneIsKnown();
  const pods = await podsOf('jobmanager|taskmanager');
  const { checkpoints } = await services.progress();
  await timed('new filter in force', 30, async () => {
    await follow(/^kubectl patch .*filter/);
    // In force from a barrier on: the second checkpoint from now began after the kubelet's sync.
    await until('two checkpoints', async () => {
      return (await services.progress()).checkpoints >= checkpoints + 2;
    });
  });
  assert.deepEqual(await podsOf('jobmanager|taskmanager'), pods, 'a pod restarted for a script');
}

/** Names and uids. */
async function podsOf(component: string): Promise<string[]> {
  const columns = 'jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{"\\n"}{end}';
  const pods = (await inTriggers('get', 'pods', '-o', columns)).split('\n');
  return pods.filter((pod) => new RegExp(component).test(pod)).toSorted();
}

async function losePods(): Promise<void> {
  await timed('TaskManager pod deleted, all there again', 30, async () => {
    const before = await podsOf('taskmanager-1');
    await inTriggers('delete', 'pod/user-events-taskmanager-1', '--wait=false');
    await until('another pod in its place', async () => {
      const now = await podsOf('taskmanager-1');
      return now.length === 1 && now[0] !== before[0];
    });
    await untilWhole();
    await untilDelivered('a delivery after a TaskManager was lost');
  });
  const restarts = async () => Number((await field('.status.restarts')) || 0);
  const leader = (await inTriggers('get', 'lease', '-o', 'yaml')).match(
    /user-events-jobmanager-\d/,
  );
  assert.ok(leader, 'no JobManager holds the Lease');
  const before = await restarts();
  await timed('leader JobManager pod deleted, another one leads', 20, async () => {
    await inTriggers('delete', `pod/${leader[0]}`, '--wait=false');
    await untilDelivered('a delivery after the leader was lost');
    await until('another leader', async () => {
      const lease = await inTriggers('get', 'lease', '-o', 'yaml');
      const holder = lease.match(/user-events-jobmanager-\d/);
      return holder !== null && holder[0] !== leader[0];
    });
  });
  await untilWhole();
  assert.equal(await restarts(), before, 'tasks restarted for a new leader');
  await timed("the operator's leader deleted, its successor acts", 30, async () => {
    const system = ['-n', 'triggerjob-system'];
    const holder = await lab.kubectl([
      ...system,
      'get',
      'lease',
      '-o',
      'jsonpath={.items[0].spec.holderIdentity}',
    ]);
    await lab.kubectl([...system, 'delete', `pod/${holder.split('_')[0]}`, '--wait=false']);
    await inTriggers('delete', 'service/user-events-rest');
    await until('the Service again', async () => {
      const found = await inTriggers('get', 'services', '-o', 'name');
      return found.includes('service/user-events-rest');
    });
  });
}

async function untilWhole(): Promise<void> {
  await until('all TaskManagers and Ready', async () => {
    const ready = await field('.status.conditions[?(@.type=="Ready")].status');
    return (await field('.status.ready')) === '2/2' && ready === 'True';
  });
}

async function suspendAndResume(): Promise<void> {
  await timed('suspend: savepoint, pods gone', 60, async () => {
    await follow(/^kubectl patch .*suspend":true/);
    await follow(/^kubectl wait .*Suspended/);
  });
  assert.deepEqual(await podsOf('user-events'), []);
  await timed('resume, events again', 60, async () => {
    await follow(/^kubectl patch .*suspend":false/);
    await untilDelivered('a delivery after resume');
  });
}

/** What the operator made for the job and should have taken away, claims of volumes included. */
async function owned(): Promise<string> {
  const kinds = 'statefulsets,services,configmaps,secrets,pods,pvc,leases,poddisruptionbudgets';
  const selector = ['-l', 'triggerjob.io/job=user-events'];
  const list = () => inTriggers('get', kinds, ...selector, '-o', 'name', '--ignore-not-found');
  await until('the objects of the job to be gone', async () => (await list()) === '');
  return await list();
}

function printJudgement(judgement: Judgement): void {
  const { events, matching, receipts, checkpoints, repeats, file } = judgement;
  console.log(
    `events ${events}, matching ${matching}, receipts ${receipts}, checkpoints ${checkpoints}, ` +
      `repeats ${JSON.stringify(repeats)}`,
  );
  for (const line of [...judgement.violations, ...judgement.trouble]) console.log(line);
  console.log(`judge it again: ${file}`);
}

/** kafka, s3, profile-api and receiver, as the sample names them, at what runs beside the node. */
function servicesOfNamespace() {
  const { bootstrap, s3, profileUrl, webhookUrl } = services.addresses;
  const portOf = (url: string) => Number(new URL(url).port);
  const entries: [string, number, number][] = [
    ['kafka', 9092, Number(bootstrap.split(':')[1])],
    ['s3', 9000, portOf(s3.endpoint)],
    ['profile-api', 80, portOf(profileUrl)],
    ['receiver', 80, portOf(webhookUrl)],
  ];
  const items = entries.flatMap(([name, port, targetPort]) => [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: 'triggers' },
      spec: { ports: [{ port, targetPort }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name,
        namespace: 'triggers',
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: 'IPv4',
      ports: [{ port: targetPort }],
      endpoints: [{ addresses: [lab.nodeAddress] }],
    },
  ]);
  return { apiVersion: 'v1', kind: 'List', items };
}
