import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunningAttempt, RunningTask } from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';
import { adoptedSplits, adoptedTasks } from './adoption.ts';
import { planDigest } from './plan-digest.ts';
import { type Candidate, judge } from './reattach.ts';
import { testPlan } from './test-cluster.ts';

const EXPECTED = { attempt: 5, planDigest: 'd', parallelism: 2, waitMs: 10_000 };

const task = (subtask: number, change: Partial<RunningTask> = {}): RunningTask => ({
  subtask,
  slot: 0,
  running: true,
  seen: 7,
  taken: 7,
  drained: true,
  splits: [],
  ...change,
});

const attempt = (tasks: RunningTask[], change: Partial<RunningAttempt> = {}): RunningAttempt => ({
  attempt: 5,
  attempts: [5, 5],
  planDigest: 'd',
  restarts: 2,
  jobStartedAt: 1,
  ranges: [
    { first: 0, last: 3 },
    { first: 4, last: 7 },
  ],
  members: ['a', 'b'],
  lostPeers: [],
  secret: 's',
  tasks,
  ...change,
});

const candidate = (id: string, running: RunningAttempt | null, slots = 1): Candidate => ({
  id,
  slots,
  running,
});

const A = candidate('a', attempt([task(0)]));
const B = candidate('b', attempt([task(1)]));

test('P45: the very attempt of the log, whole, is adopted', () => {
  assert.deepEqual(judge(EXPECTED, [A, B], 0), { kind: 'adopt' });
  assert.deepEqual(judge(EXPECTED, [B, A, candidate('spare', null)], 0), { kind: 'adopt' });
});

test('P45: tasks of several attempts are not adopted, nor what is left beside lost ones', () => {
  const mixed = { attempts: [4, 5] };
  const survivor = candidate('a', attempt([task(0)], mixed));
  assert.deepEqual(judge(EXPECTED, [survivor, candidate('b', attempt([task(1)], mixed))], 0), {
    kind: 'refuse',
    reason: 'attempt 5 has tasks of several attempts',
  });
  const detached = candidate('a', attempt([task(0)], { lostPeers: ['b'] }));
  const verdict = judge(EXPECTED, [detached], 0);
  assert.deepEqual(verdict, { kind: 'refuse', reason: 'TaskManager b is lost to its peers' });
});

test('who is missing is waited for, no longer than for a bounded time', () => {
  assert.equal(judge(EXPECTED, [], 0).kind, 'wait');
  assert.equal(judge(EXPECTED, [A], 9_999).kind, 'wait');
  assert.equal(judge(EXPECTED, [A], 10_000).kind, 'refuse');
  assert.equal(judge(EXPECTED, [], 10_000).kind, 'refuse');
});

test('P45: anything else is restarted', () => {
  const refused = (candidates: Candidate[], waitedMs = 0) => {
    const verdict = judge(EXPECTED, candidates, waitedMs);
    assert.equal(verdict.kind, 'refuse');
    return verdict.kind === 'refuse' ? verdict.reason : '';
  };
  const fresh = [candidate('a', null), candidate('b', null)];
  assert.equal(judge(EXPECTED, fresh, 0).kind, 'wait');
  assert.match(refused(fresh, 1_500), /no TaskManager runs attempt 5/);
  assert.match(refused([A, candidate('b', null)]), /b came without its tasks/);
  const other = candidate('b', attempt([task(1)], { attempt: 4 }));
  assert.match(refused([A, other]), /b came without its tasks/);
  assert.match(refused([A, candidate('b', attempt([task(1)], { planDigest: 'e' }))]), /plan/);
  assert.match(refused([A, candidate('b', attempt([task(1)], { lostPeers: ['a'] }))]), /lost/);
  assert.match(refused([A, candidate('b', attempt([task(0)]))]), /not complete/);
});

test('a plan is the same if a deployment of it is', () => {
  const plan = testPlan();
  const digest = planDigest(plan);
  const reordered = Object.fromEntries(Object.entries(plan).reverse()) as typeof plan;
  assert.equal(planDigest(reordered), digest);
  assert.equal(planDigest({ ...plan, rest: { port: 1, bindAddress: 'x' } }), digest);
  assert.equal(planDigest({ ...plan, filter: { ...plan.filter, script: 'false' } }), digest);
  assert.notEqual(planDigest({ ...plan, parallelism: 3 }), digest);
  assert.notEqual(planDigest({ ...plan, keyBy: 'other' }), digest);
});

test('P7: who has yet to say how the last barrier ended with it', () => {
  const found = [
    attempt([
      task(0),
      task(1, { drained: false }),
      task(2, { taken: 6 }),
      task(3, { seen: 6, taken: 6 }),
    ]),
  ];
  const tasks = adoptedTasks(found);
  assert.deepEqual(tasks.unsettled, [1, 2, 3]);
  assert.equal(tasks.seen, 7);
  const none = adoptedTasks([attempt([task(0, { seen: 0, taken: 0 })])]);
  assert.deepEqual([none.seen, none.unsettled], [0, []]);
});

test('P26: splits found after the checkpoint, and those released since, are taken over', () => {
  const at = (index: number, offset: number, held?: true): SplitPosition => ({
    split: { index, id: `p-${index}`, sourceId: 's', partition: index },
    offset,
    clock: -1,
    ...(held && { held }),
  });
  const stored = [at(0, 10), at(1, 4, true), at(2, 5, true)];
  const found = [
    attempt([task(0, { splits: [at(0, 99), at(2, 5, true)] })]),
    attempt([task(1, { splits: [at(1, 60), at(4, 0), at(3, 0, true)] })]),
  ];
  assert.deepEqual(adoptedSplits(stored, found), [
    at(0, 10),
    at(1, 4),
    at(2, 5, true),
    at(3, 0, true),
    at(4, 0),
  ]);
});
