/** Disks whose spec has changed: the next run's pods get new ones, and never an older set's. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ago, claimOf, decided, factsOf, kindsOf, type Situation } from './facts-for-tests.ts';

const claims = [claimOf(0), claimOf(1)];
const operation = {
  kind: 'Upgrade',
  step: 'Deploying',
  startedAt: ago(5_000),
  stepStartedAt: ago(1_000),
} as const;
const NEXT: Situation = { status: { run: 2, operation }, pods: [], jobManager: null };

/** Without the StatefulSet of the TaskManagers. */
const gone: NonNullable<Situation['facts']>['find'] = (kind, name) =>
  kind === 'StatefulSet' && name.endsWith('taskmanager') ? undefined : factsOf({}).find(kind, name);

const taskManagersApplied = (left: readonly ReturnType<typeof claimOf>[]): boolean =>
  decided({ ...NEXT, facts: { claims: left, find: gone } }).actions.some(
    (one) => one.do === 'apply' && one.fresh && one.object.kind === 'StatefulSet',
  );

describe('a StatefulSet that is replaced for its disks', () => {
  it('takes its claims with it, and they go first', () => {
    const { find } = factsOf({});
    const deployed = { taskManager: { localState: { size: '77Gi' } } };
    const { actions } = decided({ ...NEXT, deployed, facts: { claims, find } });
    const deleted = kindsOf(actions).filter((kind) => kind.startsWith('delete'));
    const claim = 'delete PersistentVolumeClaim';
    assert.deepEqual(deleted, [claim, claim, 'delete StatefulSet']);
  });

  it('is made anew when no claim is left that would be taken by its name', () => {
    assert.equal(taskManagersApplied([]), true);
    assert.equal(taskManagersApplied([claimOf(0, { deletionTimestamp: ago(1_000) })]), false);
    const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'old', uid: 'old' };
    assert.equal(taskManagersApplied([claimOf(0, { ownerReferences: [owner] })]), false);
    assert.equal(taskManagersApplied(claims), true);
  });
});
