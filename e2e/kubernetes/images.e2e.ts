/**
 * The worker's image runs where a careful cluster lets pods run: Pod Security `restricted`, a
 * read-only root file system, a user that is not root; it does a job there, ends in order when
 * told to, and holds nothing but what it needs.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { buildImage, type Image } from '../testbed/kubernetes/images.ts';
import { type Lab, labImpediment, startLab } from '../testbed/kubernetes/lab.ts';

/** Ten times what each step usually takes. */
const WATCHDOG_MS = 120_000;
const START_GOAL_S = 10;
const POD_GOAL_S = 5;
const STOP_GOAL_S = 2;
const IMAGE_GOAL_MB = 320;
const ADDED_GOAL_MB = 60;

const SPLITS = 2;
const EVENTS_PER_SPLIT = 500;
const WAITS_FOR_NOTHING = 'setInterval(() => {}, 1000); console.log("up")';

const impediment = await labImpediment();
let lab: Lab;
let image: Image;

describe("the worker's image in a restricted namespace", { skip: impediment ?? false }, () => {
  before(async () => {
    image = await buildImage('worker');
    const startedAt = performance.now();
    lab = await startLab();
    printFigure('lab up', secondsSince(startedAt), START_GOAL_S, 's');
    const loadedAt = performance.now();
    await lab.loadImage(image.archive);
    printFigure('image loaded', secondsSince(loadedAt), POD_GOAL_S, 's');
    await lab.kubectl(['apply', '-f', '-'], JSON.stringify(NAMESPACE));
    await lab.kubectl(['wait', 'sa/default', '-n', 'restricted', '--for=create']);
  });

  after(async () => {
    const startedAt = performance.now();
    await lab?.stop();
    printFigure('lab down', secondsSince(startedAt), START_GOAL_S, 's');
  });

  it('is refused there as root: the namespace is what it says', async () => {
    const rootPod = pod('root', { command: ['true'] });
    rootPod.spec.securityContext.runAsNonRoot = false;
    await assert.rejects(apply(rootPod), /violates PodSecurity "restricted/);
  });

  it('prints its help', async () => {
    const startedAt = performance.now();
    await apply(pod('help', { args: ['--help'] }));
    await untilPhase('help', 'Succeeded');
    printFigure('a pod, from apply to its end', secondsSince(startedAt), POD_GOAL_S, 's');
    assert.match(await logs('help'), /Usage: triggerjob/);
  });

  it('runs a job to the end of its stream, state in RocksDB on an emptyDir', async () => {
    await apply(jobFile('short', { limit: EVENTS_PER_SPLIT }));
    await apply(jobPod('short'));
    await untilPhase('short', 'Succeeded');
    const output = await logs('short');
    const printed = output.split('\n').filter((line) => line.startsWith('DEBUG EVENT')).length;
    assert.equal(printed, SPLITS * EVENTS_PER_SPLIT, output.slice(-2_000));
    assert.match(output, /final checkpoint/);
  });

  it('takes a final checkpoint when the pod is told to end', async () => {
    await apply(jobFile('endless', {}));
    await apply(jobPod('endless'));
    await untilLogged('endless', /DEBUG EVENT/);
    const startedAt = performance.now();
    await terminate('endless');
    const code = await untilEnded('endless');
    printFigure('SIGTERM to the end', secondsSince(startedAt), STOP_GOAL_S, 's');
    const output = await logs('endless');
    assert.equal(code, 0, output.slice(-2_000));
    assert.match(output, /final checkpoint/);
  });

  it('ends at once while it is still starting, which Node as first process would not', async () => {
    const node = ['node', '-e', WAITS_FOR_NOTHING];
    await apply(pod('with-tini', { command: ['tini', '--', ...node] }));
    await apply(pod('without', { command: node }));
    await untilLogged('with-tini', /up/);
    await untilLogged('without', /up/);
    await terminate('without');
    await terminate('with-tini');
    assert.equal(await untilEnded('with-tini'), 128 + 15);
    assert.equal(await phaseOf('without'), 'Running');
  });

  it('holds the packages of production only, and is small', async (t: TestContext) => {
    await apply(pod('packages', { command: ['sh', '-c', 'ls node_modules; du -sk /app; id -u'] }));
    await untilPhase('packages', 'Succeeded');
    const output = await logs('packages');
    const lines = output.split('\n');
    for (const name of ['node', 'typescript', '@biomejs', '@types', 'fast-check', 'kafkajs']) {
      assert.ok(!lines.includes(name), `${name} is in the image`);
    }
    assert.ok(lines.includes('rocksdb') && lines.includes('1000'), output);
    const added = Number(/^(\d+)\s+\/app$/m.exec(output)?.[1]) / 1024;
    printFigure('image', image.bytes / 1024 ** 2, IMAGE_GOAL_MB, 'MiB');
    printFigure('of it not the base', added, ADDED_GOAL_MB, 'MiB');
    t.diagnostic(`worker image ${Math.round(image.bytes / 1024 ** 2)} MiB`);
  });
});

const NAMESPACE = {
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: {
    name: 'restricted',
    labels: { 'pod-security.kubernetes.io/enforce': 'restricted' },
  },
};

function pod(name: string, main: { command?: string[]; args?: string[] }) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'restricted' },
    spec: {
      restartPolicy: 'Never',
      securityContext: {
        runAsNonRoot: true,
        fsGroup: 1000,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'main',
          image: image.tag,
          imagePullPolicy: 'Never',
          ...main,
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          volumeMounts: [
            { name: 'rocksdb', mountPath: '/data/rocksdb' },
            { name: 'tmp', mountPath: '/tmp' },
          ] as { name: string; mountPath: string }[],
        },
      ],
      volumes: [
        { name: 'rocksdb', emptyDir: {} },
        { name: 'tmp', emptyDir: {} },
      ] as Record<string, unknown>[],
    },
  };
}

/** `run` of the job file of the same name. */
function jobPod(name: string) {
  const made = pod(name, { args: ['run', '/job/job.yaml', '--state-dir', '/data/rocksdb/run'] });
  made.spec.containers[0]!.volumeMounts.push({ name: 'job', mountPath: '/job' });
  made.spec.volumes.push({ name: 'job', configMap: { name } });
  return made;
}

function jobFile(name: string, datagen: Record<string, unknown>) {
  const job = {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name },
    spec: {
      parallelism: SPLITS,
      maxParallelism: 128,
      source: { datagen: { eventsPerSecond: 500, users: 50, splits: SPLITS, ...datagen } },
      filter: { script: 'true' },
      action: { debug: {} },
    },
  };
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'restricted' },
    data: { 'job.yaml': JSON.stringify(job) },
  };
}

async function apply(object: Record<string, unknown>): Promise<void> {
  await lab.kubectl(['apply', '-f', '-'], JSON.stringify(object));
}

async function logs(name: string): Promise<string> {
  return await lab.kubectl(['logs', name, '-n', 'restricted']);
}

async function phaseOf(name: string): Promise<string> {
  return await lab.kubectl([
    'get',
    'pod',
    name,
    '-n',
    'restricted',
    '-o',
    'jsonpath={.status.phase}',
  ]);
}

/** As the kubelet does it, to the first process of the container. */
async function terminate(name: string): Promise<void> {
  await lab.kubectl(['exec', name, '-n', 'restricted', '--', 'sh', '-c', 'kill -TERM 1']);
}

async function untilPhase(name: string, wanted: 'Succeeded'): Promise<void> {
  const end = Date.now() + WATCHDOG_MS;
  for (;;) {
    const phase = await phaseOf(name);
    if (phase === wanted) return;
    if (phase !== 'Failed' && Date.now() < end) continue;
    assert.fail(`waited for pod ${name}, which is ${phase}:\n${await describePod(name)}`);
  }
}

async function untilLogged(name: string, pattern: RegExp): Promise<void> {
  const end = Date.now() + WATCHDOG_MS;
  while (!pattern.test(await logs(name).catch(() => ''))) {
    if (Date.now() > end) assert.fail(`waited for ${pattern}:\n${await describePod(name)}`);
    await delay(200);
  }
}

/** The exit code of its container. */
async function untilEnded(name: string): Promise<number> {
  const path = 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}';
  const end = Date.now() + WATCHDOG_MS;
  for (;;) {
    const code = await lab.kubectl(['get', 'pod', name, '-n', 'restricted', '-o', path]);
    if (code !== '') return Number(code);
    if (Date.now() > end) assert.fail(`waited for the end:\n${await describePod(name)}`);
  }
}

async function describePod(name: string): Promise<string> {
  const described = await lab.kubectl(['describe', 'pod', name, '-n', 'restricted']);
  return `${described}\n${await logs(name).catch(String)}`;
}

const secondsSince = (startedAt: number) => (performance.now() - startedAt) / 1000;

function printFigure(what: string, value: number, goal: number, unit: string): void {
  const verdict = value <= goal ? 'reached' : 'missed';
  process.stdout.write(`${what}: ${value.toFixed(1)} ${unit} (goal ${goal} ${unit}: ${verdict})\n`);
}
