/**
 * The promise: README's section "On Kubernetes", followed word for word on a real cluster, works,
 * and through all of it - an upgrade of the filter, lost pods of every kind, suspend and resume -
 * the outside checker finds nothing wrong. Each step's seconds are printed with their goal.
 */
import assert from 'node:assert/strict';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { labImpediment } from '../testbed/kubernetes/lab.ts';
import type { LabServices } from './lab-services-client.ts';
import { LabStage, NAMESPACE, printJudgement, SYSTEM, timed } from './lab-stage.ts';
import { readmeCommands } from './readme-commands.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SECTION = 'On Kubernetes';

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

let stage: LabStage;
let commands: string[];

describe('the first hour on Kubernetes, by README', { skip: impediment ?? false }, () => {
  before(async () => {
    commands = await readmeCommands(SECTION);
    stage = await LabStage.start(SHAPE);
    await prepareFolder();
  });

  after(async () => {
    await stage?.stop();
  });

  it('goes as README says, and nothing is lost, invented or out of order', async () => {
    await install();
    await firstEvents();
    await savepoint();
    await scale();
    await lookInside();
    await upgradeFilter();
    await losePods();
    await suspendAndResume();
    await stage.services.stop();
    const judgement = await timed('everything in a checkpoint', 60, () => stage.services.judge());
    printJudgement(judgement);
    await timed('delete', 60, async () => {
      await follow(/^kubectl delete tj/);
    });
    assert.deepEqual(commands, [], 'commands of README that were not followed');
    await stage.untilNothingIsOwned();
    assert.deepEqual(judgement.trouble, []);
    assert.deepEqual(judgement.violations, []);
  });
});

/** The user stands in a checkout, of which charts and samples are needed. */
async function prepareFolder(): Promise<void> {
  const { folder } = stage;
  await mkdir(join(folder, 'config'));
  await cp(join(ROOT, 'charts'), join(folder, 'charts'), { recursive: true });
  await cp(join(ROOT, 'config/samples'), join(folder, 'config/samples'), { recursive: true });
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
  const output = await stage.shell(text, variables);
  if (assignment !== null) variables[assignment[1]!] = output.trim();
  return output;
}

async function field(path: string): Promise<string> {
  return await stage.kubectl('get', 'tj/user-events', '-o', `jsonpath={${path}}`);
}

async function install(): Promise<void> {
  await timed('helm install', 60, () => follow(/^helm install/));
  await follow(/^kubectl create namespace/);
  await stage.lab.kubectl([
    'label',
    `ns/${NAMESPACE}`,
    'pod-security.kubernetes.io/enforce=restricted',
  ]);
  await follow(/^kubectl config set-context/);
  await follow(/^kubectl create secret/);
  await stage.applyServices();
}

async function firstEvents(): Promise<void> {
  await timed('kubectl apply to Ready', 60, async () => {
    await follow(/^kubectl apply -f config\/samples\/first.yaml/);
    await follow(/^kubectl wait .*condition=Ready/);
  });
  await stage.services.produce();
  await timed('first delivery', 10, () => stage.untilDelivered('the first delivery'));
  const table = await follow(/^kubectl get tj$/);
  assert.match(table, /NAME +STATE +READY +PARALLELISM +LAG +LAST-CHECKPOINT +RESTARTS +AGE/);
  assert.match(table, /user-events +Running +1\/1 +2 /);
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
    await stage.until('parallelism 4', async () => (await field('.status.parallelism')) === '4');
  });
}

/** The commands, the UI and the metrics in a pod, be it the leader's or a standby's. */
async function lookInside(): Promise<void> {
  await timed('top, hot users, a user, an explanation, a tap, the UI', 60, async () => {
    for (const pod of ['user-events-jobmanager-0', 'user-events-jobmanager-1']) {
      await lookInto(pod);
    }
  });
}

async function lookInto(pod: string): Promise<void> {
  const inPod = (...args: string[]) => stage.kubectl('exec', pod, '--', 'node', ...args);
  const token = ['--token-file', '/etc/triggerjob/secret/rest-token'];
  const asked = async (...args: string[]) =>
    JSON.parse(await inPod('worker/src/main.ts', ...args, ...token, '-o', 'json'));
  const top = await asked('top');
  assert.deepEqual([top.state, top.rows.length], ['RUNNING', 2]);
  const { userId } = (await asked('users', 'hot', '--limit', '1')).keys[0];
  const user = await asked('state', 'get', '--user', userId);
  assert.equal(user.userId, userId);
  const event = JSON.stringify({ ...user.history.at(-1), triggerable: false });
  const { verdict } = await asked('eval', '--user', userId, '--event', event);
  assert.equal(verdict, 'no-match');
  assert.equal((await asked('tap', '--user', userId, '--limit', '1')).userId, userId);
  const paths = ['/', '/metrics', '/overview', '/v1/jobs/overview', '/jobmanager/log'];
  const look = `for (const path of ${JSON.stringify(paths)}) {
    const { status } = await fetch('http://127.0.0.1:8081' + path);
    console.log(path, status);
  }`;
  const statuses = (await inPod('--input-type=module', '-e', look)).trim().split('\n');
  assert.deepEqual(statuses, [
    ...paths.slice(0, -1).map((path) => `${path} 200`),
    '/jobmanager/log 401',
  ]);
}

/**
 * An event that waits for the Profile API at the barrier of a change is decided by the new script,
 * so its offset does not tell which one it was: no user may be new around the change.
 */
async function everyoneIsKnown(): Promise<void> {
  await stage.until('an event of every user', async () => {
    return (await stage.services.progress()).users === SHAPE.users;
  });
  const { checkpoints } = await stage.services.progress();
  await stage.until('a checkpoint with no event parked', async () => {
    const now = await stage.services.progress();
    return now.checkpoints > checkpoints && now.parked === 0;
  });
}

async function upgradeFilter(): Promise<void> {
  await everyoneIsKnown();
  const pods = await podsOf('jobmanager|taskmanager');
  const { checkpoints } = await stage.services.progress();
  await timed('new filter in force', 30, async () => {
    await follow(/^kubectl patch .*filter/);
    // In force from a barrier on: the second checkpoint from now began after the kubelet's sync.
    await stage.until('two checkpoints', async () => {
      return (await stage.services.progress()).checkpoints >= checkpoints + 2;
    });
  });
  assert.deepEqual(await podsOf('jobmanager|taskmanager'), pods, 'a pod restarted for a script');
}

/** Names and uids. */
async function podsOf(component: string): Promise<string[]> {
  const columns = 'jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{"\\n"}{end}';
  const pods = (await stage.kubectl('get', 'pods', '-o', columns)).split('\n');
  return pods.filter((pod) => new RegExp(component).test(pod)).toSorted();
}

async function losePods(): Promise<void> {
  await timed('TaskManager pod deleted, all there again', 30, async () => {
    const before = await podsOf('taskmanager-1');
    await stage.kubectl('delete', 'pod/user-events-taskmanager-1', '--wait=false');
    await stage.until('another pod in its place', async () => {
      const now = await podsOf('taskmanager-1');
      return now.length === 1 && now[0] !== before[0];
    });
    await untilWhole();
    await stage.untilDelivered('a delivery after a TaskManager was lost');
  });
  const restarts = async () => Number((await field('.status.restarts')) || 0);
  const leader = (await stage.kubectl('get', 'lease', '-o', 'yaml')).match(
    /user-events-jobmanager-\d/,
  );
  assert.ok(leader, 'no JobManager holds the Lease');
  const before = await restarts();
  await timed('leader JobManager pod deleted, another one leads', 20, async () => {
    await stage.kubectl('delete', `pod/${leader[0]}`, '--wait=false');
    await stage.untilDelivered('a delivery after the leader was lost');
    await stage.until('another leader', async () => {
      const lease = await stage.kubectl('get', 'lease', '-o', 'yaml');
      const holder = lease.match(/user-events-jobmanager-\d/);
      return holder !== null && holder[0] !== leader[0];
    });
  });
  await untilWhole();
  assert.equal(await restarts(), before, 'tasks restarted for a new leader');
  await timed("the operator's leader deleted, its successor acts", 30, async () => {
    const system = ['-n', SYSTEM];
    const holder = await stage.lab.kubectl([
      ...system,
      'get',
      'lease',
      '-o',
      'jsonpath={.items[0].spec.holderIdentity}',
    ]);
    await stage.lab.kubectl([...system, 'delete', `pod/${holder.split('_')[0]}`, '--wait=false']);
    await stage.kubectl('delete', 'service/user-events-rest');
    await stage.until('the Service again', async () => {
      const found = await stage.kubectl('get', 'services', '-o', 'name');
      return found.includes('service/user-events-rest');
    });
  });
}

async function untilWhole(): Promise<void> {
  await stage.until('all TaskManagers and Ready', async () => {
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
    await stage.untilDelivered('a delivery after resume');
  });
}
