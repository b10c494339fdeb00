/** A pod that was to go with its node. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Node } from '../kube/objects.ts';
import type { Facts } from '../observe/facts.ts';
import { ago, conditionOf, decided, podOf } from './facts-for-tests.ts';

const onNode = (ready: string, readyMs: number, deletedMs: number): Partial<Facts> => {
  const pod = podOf('taskmanager', 1);
  const metadata = { ...pod.metadata, deletionTimestamp: ago(deletedMs) };
  const condition = { type: 'Ready', status: ready, lastTransitionTime: ago(readyMs) };
  const node: Node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'node-7' },
    status: { conditions: [condition] },
  };
  return { terminating: [{ pod: { ...pod, metadata }, node }] };
};
const ending = (kind: 'Upgrade' | 'Delete') =>
  ({
    operation: {
      kind,
      step: 'ScalingDown',
      mode: 'last-state',
      startedAt: ago(400_000),
      stepStartedAt: ago(400_000),
      stoppedAt: ago(400_000),
    },
  }) as const;

describe('a pod that is deleted on a node that is not ready', () => {
  it('is named after lostNodeTimeout, with what ends the wait, and not forced', () => {
    for (const status of [{}, ending('Upgrade')]) {
      const decision = decided({ status, facts: onNode('Unknown', 301_000, 301_000) });
      const { reason, message = '' } = conditionOf(decision, 'Stalled') ?? {};
      assert.equal(reason, 'PodStuck');
      assert.match(message, /pod user-events-taskmanager-1 .*node-7.*kubectl delete node node-7/);
      assert.match(message, /nothing is forced by the operator/);
      const event = decision.events.find((one) => one.reason === 'PodStuck');
      assert.deepEqual([event?.type, event?.note], ['Warning', message]);
      assert.equal(conditionOf(decision, 'Reconciling'), undefined);
      assert.ok(!decision.actions.some((action) => action.do === 'delete'));
      const again = decided({ status: decision.status, facts: onNode('Unknown', 3e5, 3e5) });
      assert.equal(again.events.filter((one) => one.reason === 'PodStuck').length, 0, 'once');
    }
  });

  it('is waited for until then, and for ever on a node that is well', () => {
    for (const [facts, due] of [
      [onNode('False', 290_000, 400_000), 10_000],
      [onNode('False', 400_000, 299_000), 1_000],
      [onNode('True', 900_000, 900_000), 20_000],
    ] as const) {
      const decision = decided({ facts });
      assert.equal(conditionOf(decision, 'Stalled'), undefined);
      assert.equal(decision.requeueAfterMs, due);
    }
    const spec = { taskManager: { localState: { lostNodeTimeout: '10m' } } };
    const later = decided({ spec, facts: onNode('False', 301_000, 301_000) });
    assert.equal(conditionOf(later, 'Stalled'), undefined, 'as its user set it');
  });

  it('is said of a job that is let go all the same', () => {
    const metadata = { deletionTimestamp: ago(250_000) };
    const facts = onNode('Unknown', 400_000, 400_000);
    const { status } = decided({ metadata, status: ending('Delete'), facts });
    assert.match(status.operation?.error ?? '', /node-7/);
    const overdue = { deletionTimestamp: ago(301_000) };
    const forced = decided({ metadata: overdue, status, facts });
    assert.match(forced.events[0]?.note ?? '', /node-7.*let go all the same/);
  });
});
