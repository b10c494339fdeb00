/** An operation that waits for a job which has failed for good. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ago, decided, type Situation } from './facts-for-tests.ts';

const failed = (kind: 'Deploy' | 'Scale', rest: Situation = {}): Situation => ({
  jobManager: { state: 'FAILED', error: 'no such topic' },
  ...rest,
  status: {
    ...rest.status,
    operation: {
      kind,
      step: 'Stabilizing',
      generation: 1,
      startedAt: ago(9_000),
      stepStartedAt: ago(8_000),
    },
  },
});
const annotations = { 'triggerjob.io/restart': 't1' };

describe('an operation of a failed job', () => {
  it('gives way to a restart that is asked for, once', () => {
    assert.equal(decided(failed('Deploy')).status.operation?.kind, 'Deploy');
    const { status } = decided(failed('Deploy', { metadata: { annotations } }));
    assert.equal(status.operation?.kind, 'Restart');
    assert.equal(status.restart?.phase, 'InProgress');
    const again = failed('Deploy', {
      metadata: { annotations },
      status: { restart: status.restart },
    });
    assert.equal(decided(again).status.operation?.kind, 'Deploy');
  });

  it('is over if it only scales', () => {
    const { status } = decided(failed('Scale'));
    assert.equal(status.operation, undefined);
    assert.equal(status.state, 'Failed');
  });
});
