/**
 * Promise: wherever the operator ends, whoever begins after it brings the job to the same end. On a
 * real kube-apiserver, etcd, StatefulSet controller and garbage collector, the operator is ended
 * right after each single one of its writes from a job's creation to its deletion: all of them in
 * one job, and one job per write, many beside each other (every third write in `npm test`, all in
 * `npm run e2e:crash-points`). The write is done, its answer is lost, caches begin anew. Then:
 *
 * - one pair of StatefulSets; no pod of one run beside one of another; runs only go up
 * - no lost state: each run begins with all that was ever stored
 * - a savepoint that was asked for once is made once
 * - nothing is left after the deletion
 *
 * The same in memory, with more flows and caches that lag: operator/src/crash-points.sim.test.ts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { apply } from '../../operator/src/apply/apply.ts';
import { writeStatus } from '../../operator/src/apply/status.ts';
import { decide } from '../../operator/src/decide/decide.ts';
import { worthWriting } from '../../operator/src/decide/view.ts';
import { NO_MEMORY } from '../../operator/src/observe/facts.ts';
import { observe } from '../../operator/src/observe/observe.ts';
import { reconcile } from '../../operator/src/reconcile.ts';
import type { MortalOperator, MortalOperatorParts } from './mortal-operator.ts';
import { OperatedCluster, type OperatedJob } from './operated-cluster.ts';

type Reconcile = typeof reconcile;
interface Flow {
  name: string;
  steps: readonly (readonly [name: string, step: (job: OperatedJob) => Promise<void>])[];
  /** The operator ends at a write of this step or of a later one. */
  from: string;
  savepoints: number;
}

const create = [
  'create',
  async (job: OperatedJob) => {
    await job.create();
    await job.runs(1);
  },
] as const;
const savepoint = [
  'savepoint',
  async (job: OperatedJob) => {
    await job.annotate('savepoint', 'one');
    const made = () => job.seen?.status?.savepoint;
    await job.until('the savepoint', () => made()?.phase === 'Completed');
    assert.match(made()?.location ?? '', /^s3:/);
  },
] as const;
const upgrade = [
  'upgrade',
  async (job: OperatedJob) => {
    await job.edit({ state: { ttl: '20m' } });
    await job.runs(2);
  },
] as const;
const suspend = [
  'suspend',
  async (job: OperatedJob) => {
    await job.edit({ suspend: true });
    await job.until('the suspension', () => job.seen?.status?.state === 'Suspended');
    assert.equal(job.pods.length, 0);
  },
] as const;
const resume = (run: number) =>
  [
    'resume',
    async (job: OperatedJob) => {
      await job.edit({ suspend: false });
      await job.runs(run);
    },
  ] as const;
const remove = [
  'delete',
  async (job: OperatedJob) => {
    await job.delete();
    await job.until('the deletion', () => job.seen === undefined);
  },
] as const;

const WHOLE: Flow = {
  name: 'everything',
  steps: [create, savepoint, upgrade, suspend, resume(3), remove],
  from: 'create',
  savepoints: 3,
};
const FLOWS: readonly Flow[] = [
  { name: 'create, delete', steps: [create, remove], from: 'create', savepoints: 0 },
  { name: 'savepoint', steps: [create, savepoint], from: 'savepoint', savepoints: 1 },
  { name: 'upgrade', steps: [create, upgrade], from: 'upgrade', savepoints: 1 },
  {
    name: 'suspend, resume',
    steps: [create, suspend, resume(2)],
    from: 'suspend',
    savepoints: 1,
  },
];

interface Played {
  faults: string[];
  operator: MortalOperator;
  /** Writes since `from`. */
  points: number;
  seconds: number;
}

let cluster: OperatedCluster;
before(async () => {
  cluster = await OperatedCluster.start();
});
after(async () => {
  await cluster?.stop();
});

/** `endsAfter` counts from the step that the flow's points begin with. */
async function played(
  flow: Flow,
  namespace: string,
  endsAfter: MortalOperatorParts['endsAfter'],
  reconcileWith: Reconcile = reconcile,
): Promise<Played> {
  const beganAt = performance.now();
  const job = cluster.job(namespace);
  let armedAt = Number.POSITIVE_INFINITY;
  const operator = job.operator((write, what) => endsAfter(write - armedAt, what), reconcileWith);
  operator.start();
  const faults: string[] = [];
  try {
    for (const [name, step] of flow.steps) {
      if (name === flow.from) armedAt = operator.writes.length;
      await step(job);
    }
  } catch (error) {
    faults.push(String(error));
  }
  const points = operator.writes.length - armedAt;
  await operator.stop();
  faults.unshift(...job.faults, ...job.jobs.faults);
  const { starts, savepoints } = job.jobs;
  for (const { run, from, holds, stored } of starts) {
    if (holds < stored) faults.push(`run ${run} begins (${from}) with ${holds} of ${stored}`);
  }
  const runs = starts.map(({ run }) => run);
  if (runs.some((run, index) => run <= (runs[index - 1] ?? 0))) faults.push(`runs ${runs}`);
  if (savepoints.length !== flow.savepoints) {
    faults.push(`${savepoints.length} savepoints: ${savepoints}`);
  }
  return { faults, operator, points, seconds: (performance.now() - beganAt) / 1000 };
}

const WHOLE_RUN = process.env['TRIGGERJOB_CRASH_POINTS'] === 'all';
const STRIDE = WHOLE_RUN ? 1 : 3;
/** One job per write, so many at a time. */
const AT_ONCE = 24;

interface Point {
  flow: Flow;
  point: number;
  namespace: string;
}

async function enumerated(all: readonly Point[], reconcileWith?: Reconcile) {
  await cluster.namespaces(all.map(({ namespace }) => namespace));
  const faults: string[] = [];
  const ends: string[] = [];
  const left = all.values();
  const lane = async () => {
    for (const { flow, point, namespace } of left) {
      const ended = await played(flow, namespace, (write) => write === point, reconcileWith);
      const [end = 'no write: the flow was over'] = ended.operator.ends;
      if (ended.operator.ends.length > 0) ends.push(end);
      for (const fault of ended.faults) {
        faults.push(`${flow.name}, write ${point} (${end}): ${fault}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return { faults, ends };
}

describe('the operator ends after each of its writes', () => {
  it('and the job comes to the same end', async (t) => {
    const names = ['crash-each', ...FLOWS.map((_, index) => `crash-${index}-none`)];
    await cluster.namespaces(names);
    const [each, ...clean] = await Promise.all([
      // A life of one write each.
      played(WHOLE, 'crash-each', () => true),
      ...FLOWS.map((flow, index) => played(flow, `crash-${index}-none`, () => false)),
    ]);
    assert.deepEqual(
      [each, ...clean].flatMap(({ faults }) => faults),
      [],
    );
    const { ends: lives } = each.operator;
    t.diagnostic(
      `everything, in ${lives.length} lives of one write each: ${each.seconds.toFixed()} s`,
    );
    const points = clean.flatMap((outcome, flow) =>
      Array.from({ length: outcome.points }, (_, index) => ({
        flow: FLOWS[flow]!,
        point: index + 1,
        namespace: `crash-${flow}-${index + 1}`,
      })).filter(({ point }) => (point + flow) % STRIDE === 0),
    );
    const beganAt = performance.now();
    const { faults, ends } = await enumerated(points);
    const seconds = ((performance.now() - beganAt) / 1000).toFixed();
    for (const [index, { points: count, seconds: alone }] of clean.entries()) {
      t.diagnostic(`${FLOWS[index]?.name}: ${count} writes, ${alone.toFixed()} s without an end`);
    }
    const kinds = `${new Set(ends).size} kinds of write`;
    t.diagnostic(`${ends.length} crash points of ${points.length}, ${kinds}: ${seconds} s`);
    assert.deepEqual(faults, []);
    assert.ok(ends.length > points.length / 2, 'hardly a life ended');
    assert.deepEqual(await cluster.remains(['crash-each ', 'crash-0-']), []);
  });
});

describe('the enumeration sees what it is for', () => {
  it('acting before the status is written', async () => {
    const actsFirst: Reconcile = async (deps, key) => {
      const id = `${key.namespace}/${key.name}`;
      const memory = deps.memories.get(id) ?? NO_MEMORY;
      const facts = await observe(deps, key, memory, true);
      if (facts === null) return {};
      const { actions, status, requeueAfterMs } = decide(facts, deps.settings);
      deps.memories.set(id, await apply(deps, facts.job, actions, facts.memory, facts.now));
      if (worthWriting(facts.job.status, status, 0)) {
        await writeStatus(deps.kube, facts.job, status);
      }
      return { requeueAfterMs };
    };
    const flow: Flow = { name: '', steps: [create], from: 'create', savepoints: 0 };
    await cluster.namespaces(['red-1']);
    const { faults } = await played(flow, 'red-1', () => false, actsFirst);
    assert.match(faults.join('; '), /objects of run 1 while the status says 0/);
  });

  it('a trigger id that another process does not derive again', async () => {
    const numbers = new WeakMap<object, number>();
    let processes = 0;
    const draws: Reconcile = (deps, key) => {
      const number = numbers.get(deps.memories) ?? processes++;
      numbers.set(deps.memories, number);
      const drawn = (id: string) => `${id}-${number}`;
      const { jobManager } = deps;
      return reconcile(
        {
          ...deps,
          jobManager: {
            ...jobManager,
            progress: (job, kind, id) => jobManager.progress(job, kind, drawn(id)),
            trigger: (job, kind, id) => jobManager.trigger(job, kind, drawn(id)),
          },
        },
        key,
      );
    };
    const flow: Flow = { name: '', steps: [create, savepoint], from: 'savepoint', savepoints: 1 };
    await cluster.namespaces(['red-2']);
    let ended = false;
    const once = (_write: number, what: string): boolean => {
      const ends = !ended && what === 'trigger savepoint';
      ended ||= ends;
      return ends;
    };
    const { faults } = await played(flow, 'red-2', once, draws);
    assert.match(faults.join('; '), /2 savepoints/);
  });
});
