/** What `kubectl triggerjob` says, from objects as kubectl gives them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type JobObject, type PodObject, savepointWords, statusLines, whyLines } from './words.ts';

const NOW = Date.parse('2026-11-26T03:00:00Z');

const RUNNING: JobObject = {
  metadata: { name: 'user-events', namespace: 'triggers', generation: 3 },
  status: {
    observedGeneration: 3,
    state: 'Running',
    summary: 'all 4 subtasks run',
    ready: '2/2',
    parallelism: 4,
    lag: 0,
    restarts: 1,
    run: 2,
    lastCheckpoint: {
      id: 12,
      completedAt: '2026-11-26T02:59:40Z',
      bytes: 2_097_152,
      durationMs: 412,
    },
    savepoint: { requestToken: '1', phase: 'Completed', location: 's3://b/sp-1/', bytes: 1024 },
    conditions: [
      { type: 'Ready', status: 'True', reason: 'Running', message: 'all 4 subtasks run' },
      { type: 'CheckpointHealthy', status: 'True', reason: 'Completing', message: 'they complete' },
    ],
  },
};

describe('kubectl triggerjob status', () => {
  it('says a fact a line', () => {
    assert.deepEqual(statusLines(RUNNING, NOW), [
      'Name:            triggers/user-events',
      'State:           Running',
      'Summary:         all 4 subtasks run',
      'Task managers:   2/2',
      'Parallelism:     4',
      'Lag:             0',
      'Restarts:        1',
      'Run:             2',
      'Last checkpoint: 12, 20s ago, 2Mi, 412 ms',
      'Savepoint:       s3://b/sp-1/ (1Ki)',
      '  Ready=True Running: all 4 subtasks run',
      '  CheckpointHealthy=True Completing: they complete',
    ]);
  });

  it('says when the status is of an older spec, and what is under way', () => {
    const lines = statusLines(
      {
        metadata: { name: 'a', generation: 4 },
        status: {
          observedGeneration: 3,
          state: 'Upgrading',
          operation: { kind: 'Upgrade', step: 'Stopping', reason: 'image changed' },
          lastUpgrade: { kind: 'Upgrade', generation: 2, rolledBack: true, error: 'no checkpoint' },
          lastCheckpoint: { id: 7, completedAt: '2026-11-26T01:00:00Z' },
        },
      },
      NOW,
    );
    assert.ok(lines.includes('State:           Upgrading (of an older spec)'));
    assert.ok(lines.includes('Under way:       Upgrade, Stopping: image changed'));
    assert.ok(
      lines.includes('Last change:     Upgrade to generation 2, taken back: no checkpoint'),
    );
    assert.ok(
      lines.some((line) => line.includes('7, 2h ago')),
      lines.join('\n'),
    );
  });

  it('knows a job that the operator has not seen', () => {
    assert.deepEqual(statusLines({ metadata: { name: 'a', generation: 1 } }, NOW), [
      'Name:            default/a',
      'State:           Pending (of an older spec)',
    ]);
  });
});

describe('kubectl triggerjob savepoint', () => {
  it('says what became of it', () => {
    assert.equal(savepointWords({ phase: 'InProgress' }), 'InProgress');
    assert.equal(savepointWords({ phase: 'Failed', error: 'no leader' }), 'failed: no leader');
    const done = { phase: 'Completed', location: 's3://b/x/', bytes: 0, duration: '2s' } as const;
    assert.equal(savepointWords(done), 's3://b/x/ (0 bytes, 2s)');
  });
});

describe('kubectl triggerjob why', () => {
  it('finds nothing wrong with a job that runs', () => {
    assert.deepEqual(whyLines(RUNNING, [], []), [
      'user-events is Running. all 4 subtasks run',
      'Nothing is wrong with it.',
    ]);
  });

  it('names the conditions, pods and Events that speak of a fault', () => {
    const job: JobObject = {
      metadata: { name: 'a' },
      status: {
        state: 'Restarting',
        error: 'spec.image: not found',
        conditions: [
          { type: 'Ready', status: 'False', reason: 'PodWaits', message: 'one pod' },
          { type: 'Stalled', status: 'True', reason: 'NotHealthy', message: 'too long' },
          { type: 'SavepointInProgress', status: 'True', reason: 'Stopping', message: 'stops' },
        ],
      },
    };
    const pods: PodObject[] = [
      {
        metadata: { name: 'a-taskmanager-0' },
        status: {
          containerStatuses: [
            {
              ready: false,
              restartCount: 4,
              state: { waiting: { reason: 'CrashLoopBackOff' } },
              lastState: { terminated: { reason: 'OOMKilled', exitCode: 137 } },
            },
          ],
        },
      },
      {
        metadata: { name: 'a-taskmanager-1' },
        status: {
          conditions: [
            {
              type: 'PodScheduled',
              status: 'False',
              reason: 'Unschedulable',
              message: '0/1 nodes',
            },
          ],
        },
      },
      {
        metadata: { name: 'a-jobmanager-0' },
        status: { containerStatuses: [{ ready: true, restartCount: 0 }] },
      },
    ];
    const events = [
      { type: 'Warning', reason: 'Late', message: 'second', eventTime: '2026-11-26T02:00:00Z' },
      { type: 'Normal', reason: 'Early', message: 'first', lastTimestamp: '2026-11-26T01:00:00Z' },
    ];
    assert.deepEqual(whyLines(job, pods, events), [
      'a is Restarting.',
      '- spec.image: not found',
      '- Ready: PodWaits: one pod',
      '- Stalled: NotHealthy: too long',
      '- pod a-taskmanager-0: CrashLoopBackOff, last ended OOMKilled (137), 4 restarts',
      '- pod a-taskmanager-1: Unschedulable: 0/1 nodes',
      'Events:',
      '  Normal Early: first',
      '  Warning Late: second',
    ]);
  });
});
