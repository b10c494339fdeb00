/**
 * Every flow of a job with the operator ended after each of its writes, one after the other:
 * status, objects, finalizers, requests to the JobManager. Its successor begins with caches that
 * lag, then with fresh ones, and must bring the flow to the same end:
 *
 * - one worker set: pods of two runs are never there at once, and no run comes back
 * - no lost state: a run begins with all that was ever stored, unless its user said stateless
 * - a savepoint that was asked for once is made once
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { apply } from './apply/apply.ts';
import { writeStatus } from './apply/status.ts';
import { decide } from './decide/decide.ts';
import { worthWriting } from './decide/view.ts';
import type { KubeApi, KubeObject, ObjectRef } from './kube/port.ts';
import { JOB_REF, ModelWorld, type Reconcile } from './model/model-world.ts';
import { NO_MEMORY } from './observe/facts.ts';
import { observe } from './observe/observe.ts';
import { type ReconcileDeps, reconcile } from './reconcile.ts';
import type { TriggerJobObject } from './watched-kinds.ts';

interface Flow {
  name: string;
  /** Until the job runs, at no crash point of this flow. */
  spec?: object;
  run(world: ModelWorld): Promise<void>;
  /** Runs that may begin with less than was stored. */
  stateless?: readonly number[];
  savepoints?: number;
}

const settled = (world: ModelWorld, run: number) => {
  const status = world.job?.status;
  return status?.state === 'Running' && status.run === run && status.operation === undefined;
};
const runs = (world: ModelWorld, run: number) =>
  world.until(`run ${run} runs`, () => settled(world, run));
const gone = (world: ModelWorld) => world.until('the job is gone', () => world.job === undefined);

const upgrade =
  (upgradeMode: string): Flow['run'] =>
  async (world) => {
    await runs(world, 1);
    world.edit({ state: { ttl: '20m' }, upgradeMode });
    await runs(world, 2);
  };

const deletion =
  (deletionPolicy: string): Flow['run'] =>
  async (world) => {
    await runs(world, 1);
    world.edit({ deletionPolicy });
    world.deleteJob();
    await gone(world);
    assert.equal(world.jobs.disposed(JOB_REF), deletionPolicy === 'Delete');
  };

const FLOWS: readonly Flow[] = [
  { name: 'create', run: (world) => runs(world, 1) },
  { name: 'upgrade by savepoint', run: upgrade('savepoint'), savepoints: 1 },
  { name: 'upgrade by last state', run: upgrade('last-state') },
  { name: 'upgrade without state', run: upgrade('stateless'), stateless: [2] },
  {
    name: 'rollback',
    savepoints: 1,
    async run(world) {
      await runs(world, 1);
      world.edit({ state: { ttl: '13m' } });
      await runs(world, 3);
      assert.equal(world.job?.status?.lastUpgrade?.rolledBack, true);
    },
  },
  {
    name: 'savepoint by annotation',
    savepoints: 1,
    async run(world) {
      await runs(world, 1);
      world.annotate('savepoint', 'one');
      await world.until('the savepoint', () => world.job?.status?.savepoint?.phase === 'Completed');
      assert.match(world.job?.status?.savepoint?.location ?? '', /^s3:/);
    },
  },
  {
    name: 'suspend and resume',
    savepoints: 1,
    async run(world) {
      await runs(world, 1);
      world.edit({ suspend: true });
      await world.until('suspended', () => world.job?.status?.state === 'Suspended');
      assert.equal(world.kube.all('Pod').length, 0);
      world.edit({ suspend: false });
      await runs(world, 2);
    },
  },
  {
    name: 'scale up and down',
    async run(world) {
      await runs(world, 1);
      world.edit({ taskManager: { replicas: 3 } });
      await world.until('12 subtasks', () => settled(world, 1) && parallelism(world) === 12);
      world.edit({ taskManager: { replicas: 1 } });
      await world.until('4 subtasks', () => settled(world, 1) && parallelism(world) === 4);
      assert.equal(world.kube.all('Pod').length, 2);
    },
  },
  {
    name: 'more JobManagers and fewer',
    async run(world) {
      await runs(world, 1);
      world.edit({ jobManager: { replicas: 2 } });
      await world.until('a standby', () => settled(world, 1) && world.kube.all('Pod').length === 4);
      world.edit({ jobManager: { replicas: 1 } });
      await world.until('none', () => settled(world, 1) && world.kube.all('Pod').length === 3);
    },
  },
  {
    name: 'restart by annotation',
    savepoints: 1,
    async run(world) {
      await runs(world, 1);
      world.annotate('restart', 'one');
      await runs(world, 2);
      assert.equal(world.job?.status?.restart?.phase, 'Completed');
    },
  },
  {
    name: 'another change while a run ends',
    savepoints: 1,
    async run(world) {
      await runs(world, 1);
      world.edit({ state: { ttl: '20m' } });
      await world.until('it ends', () => world.job?.status?.operation?.step === 'Stopping');
      world.edit({ state: { ttl: '25m' } });
      await runs(world, 2);
      assert.match(world.job?.status?.deployedSpec ?? '', /25m/);
    },
  },
  {
    name: 'delete while a run ends',
    savepoints: 1,
    async run(world) {
      await runs(world, 1);
      world.edit({ state: { ttl: '20m' }, deletionPolicy: 'Savepoint' });
      await world.until('it ends', () => world.job?.status?.operation?.step === 'Stopping');
      world.deleteJob();
      await gone(world);
    },
  },
  { name: 'delete, Retain', run: deletion('Retain') },
  { name: 'delete, Savepoint', run: deletion('Savepoint'), savepoints: 1 },
  { name: 'delete, Delete', run: deletion('Delete') },
  {
    name: 'delete while a run ends, Delete',
    async run(world) {
      await runs(world, 1);
      const change = { state: { ttl: '20m' }, upgradeMode: 'last-state' };
      world.edit({ ...change, deletionPolicy: 'Delete' });
      await world.until('it ends', () => world.job?.status?.operation?.step === 'ScalingDown');
      world.deleteJob();
      await gone(world);
      const where = /left: s3:.*checkpoints\/triggers\/user-events/;
      assert.ok(world.kube.events.some(({ note }) => where.test(note)));
    },
  },
];

const parallelism = (world: ModelWorld) => world.job?.status?.parallelism;

/** What is wrong with how the flow went; the number of writes it took. */
async function played(
  flow: Flow,
  endAfter: number,
  reconcileWith?: Reconcile,
): Promise<{ writes: number; faults: string[] }> {
  const world = new ModelWorld(reconcileWith);
  world.kube.endAfter = endAfter;
  world.create(flow.spec);
  const { jobs, kube } = world;
  const end = await flow.run(world).then(
    () => [],
    (error: unknown) => [String(error)],
  );
  const faults = [...world.sets.faults, ...jobs.faults, ...end];
  for (const { run, holds, stored } of jobs.starts) {
    if (flow.stateless?.includes(run) || holds >= stored) continue;
    faults.push(`run ${run} begins with ${holds} of ${stored}`);
  }
  const numbers = jobs.starts.map(({ run }) => run);
  if (new Set(numbers).size < numbers.length) faults.push(`runs ${numbers} begin twice`);
  const made = jobs.savepoints.length;
  if (made !== (flow.savepoints ?? 0)) faults.push(`${made} savepoints: ${jobs.savepoints}`);
  return { writes: kube.writes, faults };
}

/** After every write: the first point at which it goes wrong, and how many there were. */
async function enumerated(flow: Flow, reconcileWith?: Reconcile) {
  const { writes, faults } = await played(flow, 0, reconcileWith);
  if (faults.length > 0) return { points: 0, fault: faults.join('; ') };
  for (let point = 1; point <= writes; point++) {
    const outcome = await played(flow, point, reconcileWith);
    if (outcome.faults.length > 0) {
      return { points: point, fault: `ended after write ${point}: ${outcome.faults.join('; ')}` };
    }
  }
  return { points: writes, fault: null };
}

describe('the operator ends after each of its writes', () => {
  for (const flow of FLOWS) {
    it(`${flow.name}: the same end`, async (t) => {
      const { points, fault } = await enumerated(flow);
      t.diagnostic(`${points} crash points`);
      assert.equal(fault, null);
    });
  }
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
      if (worthWriting(facts.job.status, status, 0))
        await writeStatus(deps.kube, facts.job, status);
      return { requeueAfterMs };
    };
    const [, savepointUpgrade] = FLOWS;
    assert.ok(savepointUpgrade);
    const { fault } = await enumerated(savepointUpgrade, actsFirst);
    assert.match(fault ?? '', /objects of run 1 while the status says 0/);
  });

  it('a run that is begun while pods of the last one are left', async () => {
    const blind: Reconcile = (deps, key) => reconcile(withoutRemains(deps), key);
    const { fault } = await enumerated({ name: '', run: upgrade('last-state') }, blind);
    assert.match(fault ?? '', /pods of runs 1 and 2 at once/);
  });

  it('a state that is left behind', async () => {
    const forgets: Reconcile = (deps, key) => reconcile(withoutSavepoints(deps), key);
    const flow = { name: '', run: upgrade('savepoint'), savepoints: 1 };
    const { fault } = await enumerated(flow, forgets);
    assert.match(fault ?? '', /run 2 begins with 0 of \d+/);
  });

  it('a trigger id that another process does not derive again', async () => {
    let processes = 0;
    const numbers = new WeakMap<object, number>();
    const draws: Reconcile = (deps, key) => {
      if (!numbers.has(deps.memories)) numbers.set(deps.memories, processes++);
      const number = numbers.get(deps.memories);
      const { jobManager } = deps;
      const drawn = (id: string) => `${id}-${number}`;
      return reconcile(
        {
          ...deps,
          jobManager: {
            status: (job) => jobManager.status(job),
            rescale: (job, parallelism) => jobManager.rescale(job, parallelism),
            progress: (job, kind, id) => jobManager.progress(job, kind, drawn(id)),
            trigger: (job, kind, id) => jobManager.trigger(job, kind, drawn(id)),
          },
        },
        key,
      );
    };
    const flow = FLOWS.find(({ name }) => name === 'savepoint by annotation');
    assert.ok(flow);
    const { fault } = await enumerated(flow, draws);
    assert.match(fault ?? '', /2 savepoints/);
  });
});

/** Looks away while a run ends: no pod is seen, and StatefulSets say that nothing is left. */
function withoutRemains(deps: ReconcileDeps): ReconcileDeps {
  const { kube } = deps;
  const caches = { ...deps.caches };
  const ending = async () => {
    const job = await kube.get<TriggerJobObject>(JOB_REF);
    return job?.status?.operation?.step === 'ScalingDown';
  };
  const get: KubeApi['get'] = async <T extends KubeObject>(ref: ObjectRef) => {
    const found = await kube.get<T>(ref);
    if (ref.kind !== 'StatefulSet' || found === null || !(await ending())) return found;
    caches.Pod = { get: () => undefined, list: () => [], ownedBy: () => [], synced: true };
    const status = { observedGeneration: found.metadata.generation, replicas: 0 };
    return { ...found, status } as T;
  };
  return { ...deps, caches, kube: handedOn(kube, { get }) };
}

/** Objects are made as if no run ever began with a savepoint, and with an empty state. */
function withoutSavepoints(deps: ReconcileDeps): ReconcileDeps {
  const { desired } = deps.settings;
  const settings: ReconcileDeps['settings'] = {
    ...deps.settings,
    desired: (spec, deployment) =>
      desired(spec, { ...deployment, savepoint: null, stateless: deployment.run > 1 }),
  };
  return { ...deps, settings };
}

function handedOn(kube: KubeApi, own: Pick<KubeApi, 'get'>): KubeApi {
  return {
    get: own.get,
    apply: (object, options) => kube.apply(object, options),
    create: (object) => kube.create(object),
    patch: (ref, patch, subresource) => kube.patch(ref, patch, subresource),
    delete: (ref, options) => kube.delete(ref, options),
    event: (note) => kube.event(note),
  };
}
