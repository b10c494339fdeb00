/** An operator of another release, or with other settings, at jobs that run. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { desiredObjects } from '../desired/desired.ts';
import { ANNOTATIONS } from '../desired/names.ts';
import type { StatefulSet } from '../kube/objects.ts';
import { OPERATOR, SETTINGS } from '../model/model-world.ts';
import { NO_MEMORY } from '../observe/facts.ts';
import { decide } from './decide.ts';
import type { Settings } from './decision.ts';
import { ago, factsOf, kindsOf, NOW, type Situation } from './facts-for-tests.ts';

/** Another default image is the least of what another release changes. */
const NEWER: Settings = {
  ...SETTINGS,
  desired: (spec, deployment) =>
    desiredObjects(spec.job, deployment, { ...OPERATOR, workerImage: 'triggerjob-worker:9' }),
};
const ROTATED: Settings = {
  ...SETTINGS,
  desired: (spec, deployment) =>
    desiredObjects(spec.job, deployment, { ...OPERATOR, hmacKeys: ['f'.repeat(32)] }),
};

const setsApplied = (situation: Situation, settings = NEWER) =>
  decide(factsOf(situation), settings).actions.flatMap((action) =>
    action.do === 'apply' && action.object.kind === 'StatefulSet'
      ? [action.object as StatefulSet]
      : [],
  );
const unknown = (annotations: Readonly<Record<string, string>> = {}) =>
  annotations[ANNOTATIONS.templateHash] === 'unknown';
const ROLLING = {
  spec: { jobManager: { resources: { limits: { cpu: '2' } } } },
  metadata: { generation: 2 },
};
const deploying = {
  kind: 'Restart',
  step: 'Deploying',
  startedAt: ago(2_000),
  stepStartedAt: ago(1_000),
} as const;
const imageOf = (set: StatefulSet | undefined) => set?.spec?.template.spec?.containers[0]?.image;

describe('pods that another operator would make otherwise', () => {
  it('stay as they are, and the summary says so', () => {
    const { actions, status } = decide(factsOf({}), NEWER);
    assert.deepEqual(actions, []);
    assert.match(status.summary ?? '', /until the job restarts/);
    assert.doesNotMatch(decide(factsOf({}), SETTINGS).status.summary ?? '', /restarts/);
  });

  it('stay, too, where their operator did not write down what it made them for', () => {
    const sets = setsApplied({ facts: unmarked({}) });
    assert.deepEqual(sets.map(imageOf), [OPERATOR.workerImage, OPERATOR.workerImage]);
    const byName = new Map(sets.map((set) => [set.metadata.name, set]));
    const { find } = factsOf({});
    const marked = (kind: string, name: string) => byName.get(name) ?? find(kind, name);
    assert.deepEqual(setsApplied({ facts: { find: marked } }), []);
    const run = { status: { run: 2, operation: deploying }, facts: unmarked({}) };
    assert.deepEqual(setsApplied(run).map(imageOf), ['triggerjob-worker:9', 'triggerjob-worker:9']);
    const rotated = setsApplied({ facts: unmarked({}) }, ROTATED);
    assert.ok(rotated.every(({ metadata }) => !unknown(metadata.annotations)));
    assert.equal(rotated.length, 2);
  });

  it('are scaled as they are', () => {
    const sets = setsApplied({
      spec: { taskManager: { replicas: 3 } },
      metadata: { generation: 2 },
    });
    const [workers] = sets;
    assert.deepEqual([sets.length, workers?.spec?.replicas], [1, 3]);
    assert.equal(imageOf(workers), OPERATOR.workerImage);
  });

  it('are made anew with the next run', () => {
    const next = setsApplied({ status: { run: 2 }, deployed: {}, facts: liveOf({}) });
    assert.deepEqual(next.map(imageOf), ['triggerjob-worker:9', 'triggerjob-worker:9']);
  });

  it('end their run for a change of the JobManager alone: no two releases in one', () => {
    const { actions: _, ...rolled } = decide(factsOf({ ...ROLLING }), SETTINGS);
    assert.equal(rolled.status.operation?.step, 'Stabilizing');
    const modes = { savepoint: 'savepoint', 'last-state': 'last-state', stateless: 'last-state' };
    for (const [upgradeMode, mode] of Object.entries(modes)) {
      const spec = { ...ROLLING.spec, upgradeMode };
      const situation = { ...ROLLING, spec, deployed: { upgradeMode } };
      const asked = decide(factsOf(situation), NEWER).actions.find(
        ({ do: what }) => what === 'rehearse',
      );
      assert.ok(asked?.do === 'rehearse');
      const rehearsal = { digest: asked.digest, error: null, at: NOW };
      const memory = { ...NO_MEMORY, uid: 'uid-1', secretTriedAt: NOW, rehearsal };
      const { status } = decide(factsOf({ ...situation, facts: { memory } }), NEWER);
      assert.equal(status.operation?.step, mode === 'savepoint' ? 'Stopping' : 'ScalingDown');
      assert.equal(status.operation?.mode, mode);
    }
  });

  it('are rolled at once for a rotated key, whose secret they know no more', () => {
    assert.equal(setsApplied({}, ROTATED).length, 2);
  });

  it('hold up no operation: it ends as if they were the newest', () => {
    const operation = {
      kind: 'Scale',
      step: 'Stabilizing',
      generation: 1,
      startedAt: ago(9_000),
      stepStartedAt: ago(9_000),
    } as const;
    assert.equal(decide(factsOf({ status: { operation } }), NEWER).status.operation, undefined);
  });

  it('are put right where they were changed by hand', () => {
    const { find } = factsOf({});
    const changed = (kind: string, name: string) => {
      const found = structuredClone(find(kind, name));
      const container = (found as StatefulSet | undefined)?.spec?.template?.spec?.containers[0];
      if (container !== undefined) container.image = 'mine:1';
      return found;
    };
    const { actions } = decide(factsOf({ facts: { find: changed } }), SETTINGS);
    assert.deepEqual(kindsOf(actions), ['apply StatefulSet', 'apply StatefulSet']);
  });
});

/** As an operator left them that knew no annotation for it. */
function unmarked(situation: Situation): NonNullable<Situation['facts']> {
  const { find } = factsOf(situation);
  return {
    find: (kind, name) => {
      const found = structuredClone(find(kind, name));
      const { annotations = {} } = found?.metadata ?? {};
      for (const key of ['podsOf', 'templateHash'] as const) delete annotations[ANNOTATIONS[key]];
      return found;
    },
  };
}

/** The objects of another situation. */
function liveOf(situation: Situation): NonNullable<Situation['facts']> {
  return { find: factsOf(situation).find };
}
