/**
 * Promise: on a real cluster with pods that really run, whatever becomes of the operator and of a
 * disk, a job comes to the end that its spec asks for, with one set of workers and all its state.
 *
 * - the operator ends (SIGKILL) right after ten of its API writes, drawn by a seed over create,
 *   savepoint, upgrade, suspend and delete
 * - a TaskManager's disk is on a node that is gone: the operator gives the claim up, within its
 *   budget, and the pod goes on elsewhere from the checkpoint; meanwhile `helm install`, whose
 *   operator does it, and `helm test`
 *
 * The outside checker looks at what the job did, and at the state that is left when it is deleted.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { realEnv } from '../../operator/src/env.ts';
import { KubeClient } from '../../operator/src/kube/client.ts';
import { kubeconfigSource } from '../../operator/src/kube/connection.ts';
import { KINDS, type Pod, type StatefulSet } from '../../operator/src/kube/objects.ts';
import type { KubeObject } from '../../operator/src/kube/port.ts';
import { seededRandom } from '../exactly-once/random.ts';
import { installCrd } from '../testbed/kubernetes/install-crd.ts';
import { labImpediment } from '../testbed/kubernetes/lab.ts';
import { ClusterMirror } from './cluster-mirror.ts';
import type { Shape } from './lab-services.ts';
import { JOB, LabStage, NAMESPACE, printJudgement, SYSTEM, timed } from './lab-stage.ts';
import { LostDisk } from './lost-disk.ts';
import { MortalProcess } from './mortal-process.ts';
import { RunRules } from './run-rules.ts';

const CHART = fileURLToPath(new URL('../../charts/triggerjob-operator', import.meta.url));
const SAMPLE = fileURLToPath(new URL('../../config/samples/first.yaml', import.meta.url));
const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_126);
const POINTS = 10;
/** Writes of each step that are always made; there are a few more. */
const REACH = { create: 20, savepoint: 2, upgrade: 14, suspend: 7, delete: 5 } as const;
type Step = keyof typeof REACH;

const SHAPE: Shape = {
  seed: SEED,
  topic: 'user-tracking-events',
  users: 100,
  eventsPerUser: 2_000,
  durationMs: 1_800_000,
  arrivalShare: 0.02,
  scripts: ['event.triggerable && user.country == "US"'],
};
const { apiVersion, kind } = KINDS.TriggerJob;
const REF = { apiVersion, kind, namespace: NAMESPACE, name: JOB };
const PODS = [`${JOB}-jobmanager-0`, `${JOB}-taskmanager-0`, `${JOB}-taskmanager-1`];

const impediment = await labImpediment();

let stage: LabStage;
let client: KubeClient;
let mirror: ClusterMirror;
let rules: RunRules;
const faults: string[] = [];

describe('faults in a lab', { skip: impediment ?? false }, () => {
  before(async () => {
    stage = await LabStage.start(SHAPE);
    client = KubeClient.open({
      env: realEnv,
      source: await kubeconfigSource(stage.lab.kubeconfig),
      limit: { perSecond: 1_000, burst: 1_000 },
      metrics: { request: () => {} },
    });
    await prepareCluster();
    mirror = new ClusterMirror(client, [
      'TriggerJob',
      'StatefulSet',
      'Pod',
      'PersistentVolumeClaim',
    ]);
    await mirror.start();
    rules = new RunRules(client, REF, faults);
  });

  after(async () => {
    await mirror?.stop();
    await client?.close();
    await stage?.stop();
  });

  it('the operator ends ten times, a disk is lost, and the job is what it should be', async () => {
    const points = drawn(seededRandom(SEED));
    console.log(`seed ${SEED}: ${[...points].map(([step, at]) => `${step} ${at}`).join('; ')}`);
    let ended = await mortally(points, async (step) => {
      await step('create', create);
      await step('savepoint', savepoint);
      await step('upgrade', upgrade);
      await step('suspend', suspend);
      await timed('resume', 60, resume);
    });
    await loseDisk();
    await stage.services.stop();
    await timed('everything in a checkpoint', 60, () => stage.services.drain());
    ended += await mortally(points, (step) => step('delete', remove));
    await stage.untilNothingIsOwned();
    const judgement = await stage.services.judge();
    printJudgement(judgement);
    assert.deepEqual(faults, []);
    assert.equal(ended, POINTS, 'lives that ended by a write');
    assert.deepEqual(judgement.trouble, []);
    assert.deepEqual(judgement.violations, []);
  });
});

/** One of each step, the others of what is left. Numbers of writes, per step. */
function drawn(random: () => number): Map<Step, number[]> {
  const order = <T>(items: readonly T[]): T[] =>
    items
      .map((item) => ({ item, at: random() }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ item }) => item);
  const steps = Object.keys(REACH) as Step[];
  const all = steps.map((step) =>
    order(Array.from({ length: REACH[step] }, (_, index) => ({ step, at: index + 1 }))),
  );
  const firsts = all.flatMap(([first]) => first ?? []);
  const others = order(all.flatMap(([, ...rest]) => rest));
  const chosen = [...firsts, ...others.slice(0, POINTS - firsts.length)];
  const of = (step: Step) => chosen.filter((one) => one.step === step).map(({ at }) => at);
  return new Map(steps.map((step) => [step, of(step).toSorted((a, b) => a - b)]));
}

type Play = (step: Step, work: () => Promise<void>) => Promise<void>;

/** Plays steps with an operator that ends at their points; how often it did. */
async function mortally(
  points: ReadonlyMap<Step, readonly number[]>,
  play: (step: Play) => Promise<void>,
): Promise<number> {
  let armed: readonly number[] = [];
  let before = 0;
  const operator = await MortalProcess.start({
    stage,
    keyFile: join(stage.folder, 'hmac'),
    judge: ({ object }) => rules.judge({ metadata: { name: '' }, ...object } as KubeObject),
    endsAfter: (write) => armed.includes(write - before),
  });
  try {
    await play(async (step, work) => {
      before = operator.writes.length;
      armed = points.get(step) ?? [];
      const ends = operator.ends.length;
      await timed(`${step}, ended ${armed.length} times`, 60, work);
      const writes = operator.writes.length - before;
      console.log(`    ${writes} writes, ended after ${operator.ends.slice(ends).join(', ')}`);
      armed = [];
    });
  } finally {
    await operator.stop();
    faults.push(...operator.faults);
  }
  return operator.ends.length;
}

async function prepareCluster(): Promise<void> {
  const namespaces = [NAMESPACE, SYSTEM].map((name) => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name },
  }));
  await stage.apply({ apiVersion: 'v1', kind: 'List', items: namespaces });
  await installCrd(stage.lab);
  await stage.applyServices();
  // One key for every operator of this test: another one would give the job another Secret.
  await writeFile(join(stage.folder, 'hmac'), 'ab'.repeat(32));
  const secret = 'kubectl create secret generic';
  await stage.shell(
    `${secret} s3-credentials -n ${NAMESPACE} --from-file=access-key --from-file=secret-key`,
  );
  await stage.shell(`${secret} operator-key -n ${SYSTEM} --from-file=hmac`);
}

const seen = () => mirror.job(NAMESPACE, JOB);

async function edit(spec: object): Promise<void> {
  await client.patch(REF, { spec });
}

/** README's sample, with two workers of one slot and nobody beside the leader. */
async function create(): Promise<void> {
  const { spec } = parse(await readFile(SAMPLE, 'utf8'));
  const job = {
    apiVersion,
    kind,
    metadata: { namespace: NAMESPACE, name: JOB },
    spec: {
      ...spec,
      deletionPolicy: 'Savepoint',
      upgrade: { healthTimeout: '10m' },
      checkpointing: { ...spec.checkpointing, interval: '3s', minPause: '1s' },
      jobManager: { ...spec.jobManager, replicas: 1 },
      taskManager: {
        ...spec.taskManager,
        replicas: 2,
        slots: 1,
        localState: { ...spec.taskManager.localState, lostNodeTimeout: '1s' },
      },
    },
  };
  await client.create(job as KubeObject);
  await untilRuns(1);
  await stage.services.produce();
  await stage.untilDelivered('the first delivery');
}

async function savepoint(): Promise<void> {
  await client.patch(REF, { metadata: { annotations: { 'triggerjob.io/savepoint': 'one' } } });
  await stage.until('the savepoint', () => {
    const { phase, requestToken } = seen()?.status?.savepoint ?? {};
    return requestToken === 'one' && phase === 'Completed';
  });
}

async function upgrade(): Promise<void> {
  await edit({ state: { ttl: '20m' } });
  await untilRuns(2);
  await stage.untilDelivered('a delivery of run 2');
}

async function suspend(): Promise<void> {
  await edit({ suspend: true });
  await stage.until('the suspension', () => seen()?.status?.state === 'Suspended');
  assert.deepEqual(names<Pod>('Pod'), []);
}

async function resume(): Promise<void> {
  await edit({ suspend: false });
  await untilRuns(3);
  await stage.untilDelivered('a delivery of run 3');
}

async function remove(): Promise<void> {
  await client.delete(REF);
  await stage.until('the deletion', () => seen() === undefined);
}

const names = <T extends KubeObject>(kind: 'Pod' | 'StatefulSet'): string[] =>
  mirror
    .in<T>(NAMESPACE, kind)
    .map(({ metadata }) => metadata.name)
    .toSorted();

/** The run is there with its one set of workers, and with nothing else. */
async function untilRuns(run: number): Promise<void> {
  await stage.until(`run ${run}`, () => {
    const { metadata, status } = seen() ?? {};
    if (status === undefined || status.observedGeneration !== metadata?.generation) return false;
    const { state, run: known, operation, ready, parallelism } = status;
    const whole = state === 'Running' && ready === '2/2' && parallelism === 2;
    return whole && known === run && operation === undefined;
  });
  const sets = mirror.in<StatefulSet>(NAMESPACE, 'StatefulSet');
  const found = sets.map(({ metadata, spec }) => `${metadata.name} ${spec?.replicas}`).toSorted();
  assert.deepEqual(found, [`${JOB}-jobmanager 1`, `${JOB}-taskmanager 2`], `run ${run}`);
  assert.deepEqual(names<Pod>('Pod'), PODS, `run ${run}`);
}

/** While the job waits for its disk, the chart's operator is installed, tested, and heals it. */
async function loseDisk(): Promise<void> {
  const disk = new LostDisk(stage, client, mirror);
  const install = `helm install triggerjob ${CHART} -n ${SYSTEM} --wait`;
  const values = 'crds.install=false,hmacKey.existingSecret=operator-key';
  const test = `helm test triggerjob -n ${SYSTEM}`;
  await timed('a lost disk, until its worker is back', 120, async () => {
    await timed('its worker waits for a node that is gone', 10, () => disk.lose());
    await timed('helm install', 60, () => stage.shell(`${install} --set ${values}`));
    const tested = await timed('helm test', 60, () => stage.shell(test));
    assert.match(tested, /Phase: +Succeeded/);
    await disk.untilReplaced();
    await timed('and from another disk until it works', 20, () => untilRuns(3));
  });
  await stage.untilDelivered('a delivery after the disk was lost');
  await disk.check();
  await timed('helm uninstall', 60, async () => {
    await stage.shell(`helm uninstall triggerjob -n ${SYSTEM} --wait`);
    const pods = '-l app.kubernetes.io/name=triggerjob-operator --for=delete --timeout=60s';
    await stage.shell(`kubectl wait pods -n ${SYSTEM} ${pods}`);
  });
}
