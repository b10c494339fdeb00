/** Each transition of a job's life: what one look decides by what it finds. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JobOperation } from '../../../worker/src/plan/status-schema.ts';
import type { Pod } from '../kube/objects.ts';
import { NO_MEMORY } from '../observe/facts.ts';
import type { TriggerProgress } from '../observe/jobmanager-api.ts';
import { triggerIdOf } from './decision.ts';
import {
  ago,
  claimOf,
  conditionOf,
  decided,
  decidedAfterRehearsal,
  factsOf,
  kindsOf,
  NOW,
  podOf,
  type Situation,
} from './facts-for-tests.ts';

const JOB = factsOf({}).job;
const stopId = `${triggerIdOf(JOB, 'stop', 1)}-1`;
const changed = { state: { ttl: '20m' } };
const NEVER = {
  run: undefined,
  runFrom: undefined,
  deployedSpec: undefined,
  stableSpec: undefined,
} as unknown as object;

const operation = (rest: Partial<JobOperation>): JobOperation => ({
  kind: 'Upgrade',
  step: 'Stopping',
  mode: 'savepoint',
  generation: 2,
  startedAt: ago(10_000),
  stepStartedAt: ago(10_000),
  reason: 'test',
  ...rest,
});
const stopping = (rest: Partial<JobOperation> = {}) => ({
  operation: operation({ triggerId: stopId, ...rest }),
});
const progress = (id: string, found: TriggerProgress | null) => ({
  progress: new Map([[id, found]]),
});
const gen = (generation: number) => ({ generation });
const deleting = (ms: number) => ({ deletionTimestamp: ago(ms) });

describe('a job that is well', () => {
  it('costs nothing: no action, Ready, neither Reconciling nor Stalled', () => {
    const decision = decided({});
    assert.deepEqual(decision.actions, []);
    assert.equal(decision.status.state, 'Running');
    assert.equal(conditionOf(decision, 'Ready')?.status, 'True');
    assert.equal(conditionOf(decision, 'Reconciling'), undefined);
    assert.equal(conditionOf(decision, 'Stalled'), undefined);
    assert.equal(conditionOf(decision, 'CheckpointHealthy')?.status, 'True');
    assert.equal(decision.requeueAfterMs, 20_000);
  });

  it('is looked at again soon while not all of its subtasks run', () => {
    for (const jobManager of [{ state: 'RESTARTING' }, { parallelism: 4 }]) {
      assert.equal(decided({ jobManager }).requeueAfterMs, 5_000);
    }
  });

  it('is polled by chance between 15 and 30 s', () => {
    const at = (chance: number) => decided({ facts: { chance } }).requeueAfterMs;
    assert.deepEqual([at(0), at(0.999)], [15_000, 24_990]);
  });

  it('has its drift repaired: what is missing or otherwise is applied, nothing else', () => {
    const facts = factsOf({});
    const { find } = facts;
    const decision = decided({
      facts: {
        find: (kind, name) => {
          const found = find(kind, name);
          if (kind === 'ConfigMap') return undefined;
          if (kind !== 'Service' || found === undefined || !name.endsWith('rest')) return found;
          return { ...found, spec: { ports: [] } } as typeof found;
        },
      },
    });
    assert.deepEqual(kindsOf(decision.actions), ['apply ConfigMap', 'apply Service']);
  });
});

describe('objects that can not be looked at, or are wanted no longer', () => {
  const tried = (agoMs: number, pods: readonly Pod[], rest: Situation = {}, foundMsAgo = NOW) => {
    const [secretTriedAt, secretFoundAt] = [NOW - agoMs, NOW - foundMsAgo];
    const memory = { ...NO_MEMORY, uid: 'uid-1', secretTriedAt, secretFoundAt };
    return decided({ facts: { memory }, pods, ...rest });
  };
  const waiting = (scheduled: 'True' | 'False', sinceMs: number): Pod => {
    const condition = {
      type: 'PodScheduled',
      status: scheduled,
      lastTransitionTime: ago(sinceMs),
    };
    return { ...podOf('taskmanager', 0), status: { phase: 'Pending', conditions: [condition] } };
  };

  it('a Secret is tried each second while a pod waits for its volumes', () => {
    const { actions, requeueAfterMs } = tried(1_000, [waiting('True', 5_000)]);
    assert.deepEqual(kindsOf(actions), ['create']);
    assert.equal(requeueAfterMs, 1_000);
    const status = { operation: operation({ kind: 'Deploy', step: 'Deploying' }) };
    const { actions: first } = tried(1_000, [], { status, jobManager: null });
    assert.deepEqual(kindsOf(first), ['create']);
  });

  it('until it was found there: the pod waits for its image, or another thing', () => {
    const pods = [waiting('True', 5_000)];
    const { actions, requeueAfterMs } = tried(29_000, pods, {}, 4_000);
    assert.deepEqual(actions, []);
    assert.ok(requeueAfterMs > 10_000);
    assert.deepEqual(kindsOf(tried(30_000, pods, {}, 4_000).actions), ['create']);
    const newer = [...pods, waiting('True', 2_000)];
    assert.deepEqual(kindsOf(tried(1_000, newer, {}, 4_000).actions), ['create']);
    const deploying = operation({ kind: 'Deploy', step: 'Deploying', stepStartedAt: ago(9_000) });
    const run = { status: { operation: deploying }, jobManager: null };
    assert.deepEqual(tried(29_000, [], run, 8_000).actions, []);
    assert.deepEqual(kindsOf(tried(1_000, [], run, 10_000).actions), ['create']);
  });

  it('and hardly ever while nobody can be waiting for it', () => {
    assert.deepEqual(tried(599_000, [podOf('taskmanager', 0)]).actions, []);
    assert.deepEqual(kindsOf(tried(600_000, [podOf('taskmanager', 0)]).actions), ['create']);
    for (const pod of [waiting('False', 5_000), waiting('True', 601_000)]) {
      assert.deepEqual(tried(29_000, [pod]).actions, []);
      assert.deepEqual(kindsOf(tried(30_000, [pod]).actions), ['create']);
    }
  });

  it("the job's own NetworkPolicies go when they are switched off, and no others", () => {
    const off = { networkPolicy: { enabled: false } };
    const [made, { find }] = [factsOf({}), factsOf({ deployed: off })];
    const foreign = (kind: string, name: string) => {
      const found = made.find(kind, name);
      if (kind !== 'NetworkPolicy' || found === undefined) return find(kind, name);
      const { ownerReferences: _, ...metadata } = found.metadata;
      return name.endsWith('jobmanager') ? found : { ...found, metadata };
    };
    const { actions } = decided({ deployed: off, facts: { find: foreign } });
    const deleted = actions.flatMap((one) => (one.do === 'delete' ? [one.ref.name] : []));
    assert.deepEqual(deleted, ['user-events-jobmanager']);
    assert.equal(actions.length, 1);
  });
});

describe('the first run', () => {
  it('gets the finalizer before anything else', () => {
    const { actions, requeueAfterMs } = decided({ metadata: { finalizers: [] } });
    assert.deepEqual(kindsOf(actions), ['finalizers']);
    assert.equal(requeueAfterMs, 0);
  });

  it('is begun once the API server has seen its objects', () => {
    const situation: Situation = { status: { ...NEVER }, jobManager: null, pods: [] };
    assert.deepEqual(kindsOf(decided(situation).actions), ['rehearse']);
    const { status } = decidedAfterRehearsal(situation);
    assert.equal(status.run, 1);
    assert.deepEqual(status.runFrom, { mode: 'fresh' });
    assert.equal(status.operation?.step, 'Deploying');
    assert.equal(status.state, 'Deploying');
  });

  it('begins with the savepoint that its user names', () => {
    const spec = { restore: { savepoint: 's3://savepoints/old' } };
    const situation = { spec, status: { ...NEVER }, jobManager: null, pods: [] };
    const { status } = decidedAfterRehearsal(situation);
    assert.deepEqual(status.runFrom, { mode: 'savepoint', savepoint: 's3://savepoints/old' });
  });

  it('does not begin with a bad spec, nor while it is suspended', () => {
    const none = { status: { ...NEVER }, jobManager: null, pods: [] };
    const bad = decided({ ...none, spec: { parallelism: 9 } });
    assert.equal(bad.status.run, undefined);
    assert.equal(conditionOf(bad, 'Stalled')?.reason, 'InvalidSpec');
    assert.match(bad.status.error ?? '', /spec\.parallelism is 9/);
    const suspended = decided({ ...none, spec: { suspend: true } });
    assert.equal(suspended.status.state, 'Suspended');
    assert.deepEqual(suspended.actions, []);
  });

  it('is healthy when a checkpoint has completed since all tasks run', () => {
    const status = { operation: operation({ kind: 'Deploy', step: 'Stabilizing' }) };
    const before = decided({ status, jobManager: { lastCheckpoint: null } });
    assert.equal(before.status.operation?.step, 'Stabilizing');
    assert.deepEqual(kindsOf(before.actions), ['trigger checkpoint']);
    const after = decided({ status });
    assert.equal(after.status.operation, undefined);
  });
});

describe('a changed spec', () => {
  const upgrade = (spec: Situation['spec'], rest: Situation = {}) =>
    decidedAfterRehearsal({ spec: spec ?? {}, metadata: gen(2), ...rest });

  it('of the class none is taken over: a script, and the pods are told to look at it', () => {
    const { status, actions } = upgrade({ filter: { script: 'false' } });
    assert.equal(status.operation, undefined);
    assert.equal(status.deployedGeneration, 2);
    assert.deepEqual(kindsOf(actions), ['apply ConfigMap', 'annotate']);
  });

  it('that is refused as a script leaves the old one running', () => {
    const jobManager = {
      scriptVersion: 'old',
      refusedScript: { version: 'x', error: 'line 1' },
    };
    const decision = decided({ jobManager });
    assert.equal(conditionOf(decision, 'Stalled')?.reason, 'ScriptRefused');
    assert.equal(conditionOf(decision, 'Ready')?.status, 'True');
  });

  it('of the class scale goes up at once, and tells the JobManager', () => {
    const { status, actions } = upgrade({ taskManager: { replicas: 3 } });
    assert.equal(status.operation?.kind, 'Scale');
    assert.equal(status.run, 1);
    assert.deepEqual(kindsOf(actions).sort(), ['apply ConfigMap', 'apply StatefulSet', 'rescale']);
  });

  it('of the class scale goes down only when the slots have been given up', () => {
    const spec = { taskManager: { replicas: 1 } };
    const first = upgrade(spec);
    const set = first.actions.find(
      (one) => one.do === 'apply' && one.object.kind === 'StatefulSet',
    );
    assert.equal(set, undefined);
    assert.ok(kindsOf(first.actions).includes('rescale'));
    const then = upgrade(spec, { jobManager: { desiredParallelism: 4, parallelism: 4 } });
    assert.ok(kindsOf(then.actions).includes('apply StatefulSet'));
  });

  it('of the class rolling replaces the JobManager alone, in the same run', () => {
    const { status, actions } = upgrade({ jobManager: { resources: { limits: { cpu: '3' } } } });
    assert.equal(status.operation?.step, 'Stabilizing');
    assert.equal(status.run, 1);
    assert.ok(kindsOf(actions).includes('apply StatefulSet'));
  });

  for (const [mode, step, done] of [
    ['savepoint', 'Stopping', ['trigger stop']],
    [
      'last-state',
      'ScalingDown',
      ['scale user-events-jobmanager 0', 'scale user-events-taskmanager 0'],
    ],
    [
      'stateless',
      'ScalingDown',
      ['scale user-events-jobmanager 0', 'scale user-events-taskmanager 0'],
    ],
  ] as const) {
    it(`of any other kind ends the run by upgradeMode: ${mode}`, () => {
      const { status, actions } = upgrade({ ...changed, upgradeMode: mode });
      assert.equal(status.operation?.step, step);
      assert.equal(status.operation?.mode, mode);
      assert.deepEqual(kindsOf(actions), done);
      assert.equal(status.state, 'Upgrading');
    });
  }

  it('that the API server refuses leaves the last one running, and says so', () => {
    const situation = { spec: changed, metadata: gen(2) };
    const decision = decidedAfterRehearsal(situation, 'tolerations[0]: Invalid value');
    assert.equal(decision.status.operation, undefined);
    assert.equal(conditionOf(decision, 'Stalled')?.reason, 'RefusedByServer');
    assert.match(conditionOf(decision, 'Stalled')?.message ?? '', /tolerations\[0\]/);
    assert.equal(conditionOf(decision, 'Ready')?.status, 'True');
  });

  it('that is invalid leaves the last one running, and names field and fix', () => {
    const decision = decided({ spec: { parallelism: 9 }, metadata: gen(2) });
    assert.deepEqual(decision.actions, []);
    const message = conditionOf(decision, 'Stalled')?.message ?? '';
    assert.match(message, /spec\.parallelism is 9.*lower it.*the spec before goes on/);
  });

  it('whose state could not follow is refused, never begun empty (I6)', () => {
    for (const spec of [
      { upgradeMode: 'last-state', checkpointing: { directory: 's3://other/' } },
      { maxParallelism: 512 },
      { flinkConfiguration: { 'pipeline.max-parallelism': 512 } },
      { flinkConfiguration: { pipeline: { 'max-parallelism': 512 } } },
      { keyBy: 'account' },
    ]) {
      const decision = upgrade(spec);
      assert.deepEqual(decision.actions, []);
      assert.equal(conditionOf(decision, 'Ready')?.status, 'True', 'the last good one runs on');
      assert.equal(decision.status.operation, undefined, JSON.stringify(spec));
      assert.equal(conditionOf(decision, 'Stalled')?.reason, 'InvalidChange');
    }
    const carried = upgrade({ checkpointing: { directory: 's3://other/' } });
    assert.equal(carried.status.operation?.mode, 'savepoint');
  });

  it('that was taken back is not tried again', () => {
    const status = { rejectedGeneration: 2 };
    const decision = upgrade(changed, { status });
    assert.equal(decision.status.operation, undefined);
    assert.equal(conditionOf(decision, 'Stalled')?.reason, 'RolledBack');
  });

  it('waits while the job is paused', () => {
    const metadata = { generation: 2, annotations: { 'triggerjob.io/paused': 'true' } };
    const decision = decidedAfterRehearsal({ spec: changed, metadata });
    assert.deepEqual(decision.actions, []);
    assert.equal(conditionOf(decision, 'Reconciling')?.reason, 'Paused');
  });
});

describe('the end of a run', () => {
  const at = (rest: Situation) => decided({ spec: changed, metadata: gen(2), ...rest });

  it('waits for its savepoint and keeps where it is', () => {
    const status = stopping();
    const waits = at({ status, facts: progress(stopId, { phase: 'InProgress' }) });
    assert.equal(waits.status.operation?.step, 'Stopping');
    assert.deepEqual(waits.actions, []);
    const found = { phase: 'Completed', location: 's3://sp/1', bytes: 9 } as const;
    const facts = progress(stopId, found);
    const goesOn = at({ status, facts });
    assert.equal(goesOn.status.operation?.step, 'Stopping');
    assert.deepEqual(kindsOf(goesOn.actions), ['trigger stop']);
    const done = at({ status, facts, jobManager: { state: 'FINISHED' } });
    assert.equal(done.status.operation?.step, 'ScalingDown');
    assert.equal(done.status.operation?.savepoint, 's3://sp/1');
    assert.equal(done.status.lastSavepoint, 's3://sp/1');
  });

  it('tries a failed savepoint again under another id, after a while', () => {
    const failed = progress(stopId, { phase: 'Failed', error: 'timeout' });
    const soon = at({ status: stopping({ stepStartedAt: ago(2_000) }), facts: failed });
    assert.equal(soon.status.operation?.triggerId, stopId);
    assert.match(soon.status.operation?.error ?? '', /timeout/);
    const later = at({ status: stopping({ stepStartedAt: ago(20_000) }), facts: failed });
    assert.equal(later.status.operation?.triggerId, stopId.replace(/1$/, '2'));
  });

  it('of a job that does not run goes by the newest checkpoint after a grace', () => {
    const jobManager = { state: 'RESTARTING' };
    const first = at({ status: stopping(), jobManager });
    assert.equal(first.status.operation?.step, 'Stopping');
    assert.equal(first.status.operation?.waitingSince, ago(0));
    const status = stopping({ waitingSince: ago(31_000) });
    for (const found of [jobManager, null]) {
      const then = at({ status, jobManager: found });
      assert.equal(then.status.operation?.step, 'ScalingDown');
      assert.equal(then.status.operation?.mode, 'last-state');
    }
  });

  it('of a job that does not run waits on if its checkpoints lie elsewhere', () => {
    const spec = { checkpointing: { directory: 's3://other/' } };
    const status = stopping({ waitingSince: ago(31_000) });
    const waits = decided({ spec, metadata: gen(2), status, jobManager: null });
    assert.equal(waits.status.operation?.step, 'Stopping');
    assert.match(waits.status.operation?.error ?? '', /no savepoint can be made/);
  });

  it('of a job that has ended by itself is its newest checkpoint', () => {
    const jobManager = { state: 'FINISHED' };
    const done = at({ status: stopping(), jobManager, facts: progress(stopId, null) });
    assert.equal(done.status.operation?.mode, 'last-state');
    assert.equal(done.status.operation?.savepoint, undefined);
  });

  it('is not over while a pod is left, nor by what a cache says', () => {
    const status = stopping({ step: 'ScalingDown', savepoint: 's3://sp/1' });
    const { find } = factsOf({});
    const down: typeof find = (kind, name) => {
      const found = find(kind, name);
      if (kind !== 'StatefulSet' || found === undefined) return found;
      const none = { spec: { replicas: 0 }, status: { observedGeneration: 1, replicas: 0 } };
      return { ...found, ...none } as typeof found;
    };
    const step = (facts: Situation['facts'], pods = [podOf('taskmanager', 1)]) =>
      at({ status, pods, facts: { find: down, ...facts } }).status;
    assert.equal(step({}).run, 1);
    assert.equal(step({ live: false }, []).run, 1);
    const next = step({}, []);
    assert.equal(next.run, 2);
    assert.deepEqual(next.runFrom, { mode: 'savepoint', savepoint: 's3://sp/1' });
    assert.match(next.deployedSpec ?? '', /20m/);
  });

  it('leads to a suspended job if its user wants that by then', () => {
    const suspended = { ...changed, suspend: true };
    const { status } = decided({ spec: suspended, metadata: gen(2), status: stopping() });
    assert.equal(status.operation?.kind, 'Suspend');
  });
});

describe('a run that does not get well', () => {
  const bad = { state: { ttl: '13m' } };
  const trouble = (rest: Situation): Situation => ({
    deployed: bad,
    metadata: gen(2),
    jobManager: { state: 'RESTARTING', run: 2 },
    ...rest,
    status: {
      run: 2,
      deployedGeneration: 2,
      stableSpec: JSON.stringify({ ...JOB.spec }),
      deployedAt: ago(91_000),
      operation: operation({ step: 'Stabilizing', startedAt: ago(200_000) }),
      ...rest.status,
    },
  });

  it('is taken back after healthTimeout', () => {
    const decision = decided(trouble({}));
    assert.equal(decision.status.operation?.kind, 'Rollback');
    assert.equal(decision.status.operation?.mode, 'last-state');
    assert.equal(decision.status.rejectedGeneration, 2);
    assert.equal(decision.status.state, 'RollingBack');
    assert.ok(decision.events.some(({ reason }) => reason === 'Rollback'));
  });

  it('has until then', () => {
    const { status } = decided(trouble({ status: { deployedAt: ago(80_000) } }));
    assert.equal(status.operation?.kind, 'Upgrade');
  });

  it('is taken back at once when the job has failed, or the server refuses its objects', () => {
    const jobManager = { state: 'FAILED', run: 2, error: 'no such topic' };
    const young = { deployedAt: ago(5_000) };
    const failed = decided(trouble({ jobManager, status: young }));
    assert.match(failed.status.operation?.reason ?? '', /no such topic/);
    const memory = { ...NO_MEMORY, applyError: 'quota' };
    const refused = decided(trouble({ status: young, facts: { memory }, jobManager: null }));
    assert.equal(refused.status.operation?.kind, 'Rollback');
  });

  it('stays, and says so, where its user forbids a rollback or it is the first', () => {
    const forbids = { ...bad, upgrade: { healthTimeout: '90s', rollback: false } };
    const status = { stableSpec: undefined } as unknown as object;
    for (const situation of [{ deployed: forbids }, { status }]) {
      const decision = decided(trouble(situation));
      assert.equal(decision.status.operation?.kind, 'Upgrade');
      assert.equal(conditionOf(decision, 'Stalled')?.reason, 'NotHealthy');
      assert.equal(conditionOf(decision, 'Reconciling'), undefined);
    }
  });

  it('gives way to the next spec of its user', () => {
    const situation = trouble({ spec: { state: { ttl: '15m' } }, metadata: gen(3) });
    const { status } = decidedAfterRehearsal({
      ...situation,
      status: { ...situation.status, deployedAt: ago(5_000) },
    });
    assert.equal(status.operation?.kind, 'Upgrade');
    assert.equal(status.operation?.step, 'Stopping');
  });
});

describe('suspension', () => {
  const suspended: Situation['status'] = {
    state: 'Suspended',
    resumeFrom: { mode: 'savepoint', savepoint: 's3://sp/1' },
  };

  it('keeps what the job goes on from, and goes on from it', () => {
    const { status } = decidedAfterRehearsal({ status: suspended, pods: [], jobManager: null });
    assert.deepEqual(status.runFrom, { mode: 'savepoint', savepoint: 's3://sp/1' });
    assert.equal(status.run, 2);
    assert.equal(status.resumeFrom, undefined);
  });

  it('goes on without state only if it was left so, and the spec still says it', () => {
    const left = { ...suspended, resumeFrom: { mode: 'stateless' } as const };
    const begun = (upgradeMode: string) =>
      decidedAfterRehearsal({ spec: { upgradeMode }, status: left, pods: [], jobManager: null })
        .status.runFrom?.mode;
    assert.equal(begun('stateless'), 'stateless');
    assert.equal(begun('savepoint'), 'last-state');
    const kept = { spec: { upgradeMode: 'stateless' }, status: suspended, pods: [] };
    const { runFrom } = decidedAfterRehearsal({ ...kept, jobManager: null }).status;
    assert.equal(runFrom?.mode, 'savepoint');
  });
});

describe('a deleted job', () => {
  it('ends by its policy', () => {
    const step = (deletionPolicy: string) =>
      decided({ spec: { deletionPolicy }, metadata: deleting(1_000) }).status.operation?.step;
    const steps = [step('Retain'), step('Savepoint'), step('Delete')];
    assert.deepEqual(steps, ['ScalingDown', 'Stopping', 'Cleaning']);
  });

  describe('whose policy is Delete', () => {
    const id = `${triggerIdOf(JOB, 'disposal', 1)}-1`;
    const cleaning = (rest: Partial<JobOperation> = {}) => ({
      operation: operation({ kind: 'Delete', step: 'Cleaning', triggerId: id, ...rest }),
      lastCheckpoint: { id: 7, location: 's3://c/ns/job/manifests/7-1-x.json' },
    });
    const situation = { spec: { deletionPolicy: 'Delete' }, metadata: deleting(1_000) };
    const noteOf = (of: Situation, reason: string) =>
      decided({ ...situation, ...of }).events.find((event) => event.reason === reason)?.note;

    it('has its JobManager delete what it stored before its pods go', () => {
      const { actions } = decided({ ...situation, status: cleaning() });
      assert.deepEqual(actions, [{ do: 'trigger', kind: 'disposal', triggerId: id }]);
      const done = { phase: 'Completed', location: null, bytes: null } as const;
      const over = { ...situation, status: cleaning(), facts: progress(id, done) };
      assert.equal(decided(over).status.operation?.step, 'ScalingDown');
      assert.match(noteOf(over, 'StateDeleted') ?? '', /is deleted/);
      const but = { ...over, facts: progress(id, { ...done, left: 's3://sp/1 is damaged' }) };
      assert.match(noteOf(but, 'StateLeft') ?? '', /but for s3:\/\/sp\/1 is damaged/);
    });

    it('tries again under another id, and says where it lies when its time is up', () => {
      const failed = { phase: 'Failed', error: 'the store does not answer' } as const;
      const facts = progress(id, failed);
      const again = decided({ ...situation, status: cleaning(), facts });
      assert.equal(again.status.operation?.triggerId, id.replace(/1$/, '2'));
      const late = { ...situation, metadata: deleting(301_000), status: cleaning() };
      assert.match(decided(late).events[0]?.note ?? '', /is left: s3:\/\/c\/ns\/job/);
    });

    it('waits a minute for a JobManager, and for none of a suspended job', () => {
      const waits = (ms: number) =>
        ({ status: cleaning({ waitingSince: ago(ms) }), jobManager: null }) as const;
      assert.equal(noteOf(waits(50_000), 'StateLeft'), undefined);
      assert.match(noteOf(waits(60_000), 'StateLeft') ?? '', /left: s3:\/\/c\/ns\/job/);
      const status = { resumeFrom: { mode: 'last-state' } as const };
      const note = noteOf({ status, pods: [], jobManager: null }, 'StateLeft');
      assert.match(note ?? '', /no JobManager runs.*s3:\/\/bucket\/checkpoints\/triggers/);
    });
  });

  it('is let go when its time is up, whatever is in the way', () => {
    const overdue = { metadata: deleting(301_000) };
    for (const situation of [
      overdue,
      { ...overdue, spec: { parallelism: 'none' } },
      { ...overdue, jobManager: null, status: stopping() },
      { ...overdue, spec: { deletionTimeout: 'soon' } },
    ]) {
      const { actions, events } = decided(situation);
      assert.deepEqual(actions, [{ do: 'finalizers', finalizers: [] }]);
      assert.equal(events[0]?.reason, 'DeletionForced');
    }
  });

  it('is let go at once if it was never deployed', () => {
    const never = { status: { ...NEVER }, metadata: deleting(1), pods: [], jobManager: null };
    assert.deepEqual(kindsOf(decided(never).actions), ['finalizers']);
  });

  it('keeps the finalizers of others, and waits for no more than its own', () => {
    const finalizers = ['x/y', 'triggerjob.io/deletion'];
    const { actions } = decided({ metadata: { ...deleting(301_000), finalizers } });
    assert.deepEqual(actions, [{ do: 'finalizers', finalizers: ['x/y'] }]);
    const others = { ...deleting(301_000), finalizers: ['x/y'] };
    assert.deepEqual(decided({ metadata: others }).actions, []);
  });
});

describe('requests by annotation', () => {
  const annotated = (name: string, rest: Situation = {}): Situation => ({
    ...rest,
    metadata: { annotations: { [`triggerjob.io/${name}`]: 't1' }, ...rest.metadata },
  });
  const id = triggerIdOf(JOB, 'savepoint', 't1');
  const request = (phase: 'Pending' | 'InProgress', ms = 1_500) => ({
    savepoint: { requestToken: 't1', phase, triggerId: id, startedAt: ago(ms) },
  });

  it('are acted on in the look that sees them, under an id that any successor derives', () => {
    const { status, actions } = decided(annotated('savepoint'));
    assert.equal(status.savepoint?.phase, 'InProgress');
    assert.deepEqual(actions, [{ do: 'trigger', kind: 'savepoint', triggerId: id }]);
    assert.deepEqual(kindsOf(decided(annotated('checkpoint')).actions), ['trigger checkpoint']);
  });

  it('end with what was written', () => {
    const found = { phase: 'Completed', location: 's3://sp/2', bytes: 77 } as const;
    const situation = { status: request('InProgress'), facts: progress(id, found) };
    const { status, actions } = decided(annotated('savepoint', situation));
    const { phase, location, bytes, duration } = status.savepoint ?? {};
    assert.deepEqual([phase, location, bytes, duration], ['Completed', 's3://sp/2', 77, '1.5s']);
    assert.deepEqual(actions, []);
    const again = decided(annotated('savepoint', { status }));
    assert.deepEqual(again.actions, []);
  });

  it('are made again at a JobManager that knows nothing of them', () => {
    const situation = { status: request('InProgress'), facts: progress(id, null) };
    assert.deepEqual(kindsOf(decided(annotated('savepoint', situation)).actions), [
      'trigger savepoint',
    ]);
  });

  it('fail with what to do where the job will not run', () => {
    const cases: [Situation, RegExp][] = [
      [
        {
          status: { resumeFrom: { mode: 'last-state' } },
          spec: { suspend: true },
          jobManager: null,
        },
        /suspended.*spec\.suspend/,
      ],
      [{ jobManager: { state: 'FAILED', error: 'x' } }, /FAILED.*restart it/],
      [{ jobManager: null, status: request('Pending', 121_000) }, /ask again with another token/],
      [{ jobManager: null, status: request('InProgress', 601_000) }, /ask again/],
    ];
    for (const [situation, expected] of cases) {
      const { savepoint } = decided(annotated('savepoint', situation)).status;
      assert.equal(savepoint?.phase, 'Failed');
      assert.match(savepoint?.error ?? '', expected);
    }
  });

  it('wait while the job is on its way', () => {
    const { savepoint } = decided(annotated('savepoint', { jobManager: null })).status;
    assert.equal(savepoint?.phase, 'Pending');
  });

  it('restart the job once, and never without its state', () => {
    const spec = { upgradeMode: 'stateless' };
    const { status } = decided(annotated('restart', { spec, deployed: spec }));
    assert.equal(status.operation?.kind, 'Restart');
    assert.equal(status.operation?.mode, 'last-state');
    assert.equal(status.restart?.phase, 'InProgress');
    const known = { restart: { requestToken: 't1', phase: 'Completed' as const } };
    assert.equal(decided(annotated('restart', { status: known })).status.operation, undefined);
  });
});

describe('trouble', () => {
  it('is named by pod and reason, and nothing is destroyed for it', () => {
    const waiting = (reason: string) => ({
      ...podOf('taskmanager', 1),
      status: {
        phase: 'Pending',
        containerStatuses: [
          {
            name: 'c',
            image: '',
            imageID: '',
            ready: false,
            restartCount: 3,
            state: { waiting: { reason } },
          },
        ],
      },
    });
    for (const reason of ['ImagePullBackOff', 'CrashLoopBackOff', 'CreateContainerConfigError']) {
      const pods = [podOf('jobmanager', 0), waiting(reason)];
      const decision = decided({ pods, jobManager: { state: 'CREATED', parallelism: 0 } });
      assert.equal(conditionOf(decision, 'Ready')?.reason, reason);
      assert.match(conditionOf(decision, 'Ready')?.message ?? '', /user-events-taskmanager-1/);
      assert.deepEqual(decision.actions, []);
    }
  });

  it('of a container that ends again and again says what it said last', () => {
    const terminated = {
      exitCode: 1,
      reason: 'Error',
      message: '{"level":30}\nSTATE_MISSING: why\n',
    };
    const container = { name: 'c', image: '', imageID: '', ready: false, restartCount: 3 };
    const state = { waiting: { reason: 'CrashLoopBackOff' } };
    const containerStatuses = [{ ...container, state, lastState: { terminated } }];
    const pods = [{ ...podOf('jobmanager', 0), status: { containerStatuses } }];
    const message = conditionOf(decided({ pods, jobManager: null }), 'Ready')?.message;
    assert.match(message ?? '', /exit code 1, 3 restarts: STATE_MISSING: why$/);
  });

  it('of a JobManager that does not answer is waited out', () => {
    const decision = decided({ jobManager: null });
    assert.deepEqual(decision.actions, []);
    assert.equal(conditionOf(decision, 'Ready')?.reason, 'JobManagerUnreachable');
    assert.equal(decision.status.operation, undefined);
  });

  it('of checkpoints that do not come is a condition of its own', () => {
    const lastCheckpoint = {
      id: 3,
      completedAt: NOW - 400_000,
      durationMs: 1,
      bytes: 1,
      location: '',
    };
    const jobManager = { lastCheckpoint, since: NOW - 900_000, failedCheckpoints: 2 };
    const decision = decided({ jobManager });
    assert.equal(conditionOf(decision, 'CheckpointHealthy')?.reason, 'CheckpointsFail');
    assert.equal(conditionOf(decision, 'Ready')?.status, 'True');
  });

  it('of a failed job is its error', () => {
    const decision = decided({ jobManager: { state: 'FAILED', error: 'no such topic' } });
    assert.equal(decision.status.state, 'Failed');
    assert.match(decision.status.error ?? '', /no such topic/);
  });
});

const claimMadeAt = (ordinal: number, at: number, more: object = {}) =>
  claimOf(ordinal, { creationTimestamp: new Date(at).toISOString(), ...more });

describe('a disk without a pod', () => {
  const claims = [0, 1, 2, 3].map((ordinal) => claimMadeAt(ordinal, NOW));
  const deleted = (situation: Parameters<typeof decided>[0]) =>
    decided(situation)
      .actions.filter((one) => one.do === 'delete')
      .map((one) => ('ref' in one ? one.ref.name.replace('local-user-events-', '') : ''));

  it('goes when it is beyond the replicas and its pod is gone', () => {
    const pods = ['jobmanager', 'taskmanager', 'taskmanager', 'taskmanager'] as const;
    const facts = { claims, pods: pods.map((role, index) => podOf(role, Math.max(0, index - 1))) };
    assert.deepEqual(deleted({ facts }), ['taskmanager-3']);
    assert.deepEqual(deleted({ facts: { claims } }), ['taskmanager-2', 'taskmanager-3']);
    const ending = claimMadeAt(2, NOW, { deletionTimestamp: ago(1_000) });
    assert.deepEqual(deleted({ facts: { claims: [ending] } }), []);
  });

  it('goes while the job is suspended', () => {
    const status = { resumeFrom: { mode: 'savepoint' as const, savepoint: 's3://sp/1' } };
    const spec = { suspend: true };
    const suspended = { status, spec, deployed: spec, pods: [] };
    const { find } = factsOf(suspended);
    const scaled: typeof find = (kind, name) => {
      const found = find(kind, name);
      return found && kind === 'StatefulSet' ? { ...found, spec: { replicas: 0 } } : found;
    };
    assert.deepEqual(deleted({ ...suspended, facts: { claims } }), [], 'pods are on their way');
    assert.equal(deleted({ ...suspended, facts: { claims, find: scaled } }).length, 4);
  });

  it('stays from one run to the next', () => {
    const operation = {
      kind: 'Upgrade' as const,
      step: 'Deploying' as const,
      startedAt: ago(5_000),
      stepStartedAt: ago(1_000),
      generation: 1,
      reason: 'changed: spec.state.ttl',
    };
    const facts = { claims: claims.slice(0, 2), pods: [] };
    assert.deepEqual(deleted({ status: { operation }, pods: [], facts }), []);
  });
});

describe('a lost disk', () => {
  const pod = {
    ...podOf('taskmanager', 1),
    status: {
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'False', lastTransitionTime: ago(400_000) }],
    },
  };
  const disk = (node: object | null) =>
    ({
      pod,
      claim: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name: 'c', uid: 'u' } },
      volume: { apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name: 'v' } },
      node,
    }) as ReturnType<typeof factsOf>['disks'][number];
  const nodeSince = (status: string, ms: number) => ({
    status: { conditions: [{ type: 'Ready', status, lastTransitionTime: ago(ms) }] },
  });
  const given = (node: object | null, newestClaimAt = 0) =>
    decided({ facts: { disks: [disk(node)], claims: [claimMadeAt(0, newestClaimAt)] } });

  it('is given up with its pod after lostNodeTimeout', () => {
    for (const node of [null, nodeSince('Unknown', 301_000)]) {
      const { actions, events } = given(node);
      assert.deepEqual(kindsOf(actions), ['delete PersistentVolumeClaim', 'delete Pod']);
      assert.ok(events.some(({ reason }) => reason === 'LocalDiskLost'));
    }
  });

  it('is waited for until then, on a node that is well, and within the budget', () => {
    assert.deepEqual(given(nodeSince('False', 200_000)).actions, []);
    assert.deepEqual(given(nodeSince('True', 900_000)).actions, []);
    assert.deepEqual(given(null, NOW - 10_000).actions, []);
  });
});
