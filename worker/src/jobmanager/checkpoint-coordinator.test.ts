import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { coordinate, initialCoordinator, MAX_QUEUED_REQUESTS } from './checkpoint-coordinator.ts';
import type { CoordinatorCommand, CoordinatorEvent } from './coordinator-model.ts';

test('P7: whatever happens, i+1 never starts while a task has not settled i', () => {
  const subtask = fc.integer({ min: -1, max: 3 });
  const delta = fc.integer({ min: -2, max: 1 });
  const step = fc.oneof(
    fc.record({ do: fc.constantFrom('ack', 'drained', 'decline'), subtask, delta }),
    fc.record({ do: fc.constantFrom('tick', 'published', 'publish-failed', 'abort', 'savepoint') }),
    fc.record({ do: fc.constantFrom('suspended', 'started') }),
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(step, fc.integer({ min: 0, max: 8 })), { maxLength: 120 }),
      checkRun,
    ),
    { seed: 7, numRuns: 500 },
  );
});

type Step = { do: string; subtask?: number; delta?: number };

function checkRun(steps: [Step, number][]): void {
  const plan = { intervalMs: 10, minPauseMs: 5, timeoutMs: 20, tolerableFailures: 2 };
  let state = coordinate(
    plan,
    initialCoordinator(1),
    { type: 'started', attempt: 1, parallelism: 3 },
    0,
  ).state;
  let settled = new Set([0, 1, 2]);
  let attempt = 1;
  let now = 0;
  let lastId = 0;
  let open: number | null = null;
  for (const [step, wait] of steps) {
    now += wait;
    const checkpointId = lastId + (step.delta ?? 0);
    const event = toEvent(step, attempt, checkpointId, lastId);
    if (event.type === 'started') {
      attempt = event.attempt;
      settled = new Set([0, 1, 2]);
    }
    if ('subtask' in event && checkpointId === lastId && state.tasks !== null) {
      settled.add(event.subtask);
    }
    const result = coordinate(plan, state, event, now);
    state = result.state;
    for (const command of result.commands) {
      if (command.type === 'complete' || command.type === 'abort') {
        assert.equal(command.checkpointId, open, 'only the open checkpoint ends');
        open = null;
      }
      if (command.type !== 'trigger') continue;
      assert.equal(open, null, 'one checkpoint at a time');
      assert.ok(command.checkpointId > lastId, 'ids rise');
      assert.ok(
        [0, 1, 2].every((task) => settled.has(task)),
        `not drained at ${command.checkpointId}`,
      );
      settled = new Set();
      lastId = command.checkpointId;
      open = lastId;
    }
  }
}

function toEvent(
  step: Step,
  attempt: number,
  checkpointId: number,
  lastId: number,
): CoordinatorEvent {
  const task = { attempt, checkpointId, subtask: step.subtask ?? 0 };
  switch (step.do) {
    case 'ack':
    case 'drained':
      return { type: step.do, ...task };
    case 'decline':
      return { type: 'decline', ...task, reason: 'x' };
    case 'savepoint':
      return { type: 'request', kind: 'savepoint', token: 's' };
    case 'published':
      return { type: 'published', checkpointId: lastId };
    case 'publish-failed':
      return { type: 'publish-failed', checkpointId: lastId, error: 'x' };
    case 'abort':
      return { type: 'abort', detail: 'x' };
    case 'started':
      return { type: 'started', attempt: attempt + 1, parallelism: 3 };
    case 'suspended':
      return { type: 'suspended' };
    default:
      return { type: 'tick' };
  }
}

test('the request queue is bounded (I7)', () => {
  const plan = { intervalMs: 10, minPauseMs: 0, timeoutMs: 20, tolerableFailures: 0 };
  let state = coordinate(
    plan,
    initialCoordinator(1),
    { type: 'started', attempt: 1, parallelism: 1 },
    0,
  ).state;
  const answers: CoordinatorCommand[] = [];
  for (let i = 0; i < MAX_QUEUED_REQUESTS + 2; i += 1) {
    const event = { type: 'request', kind: 'savepoint', token: `t${i}` } as const;
    const result = coordinate(plan, state, event, 0);
    state = result.state;
    answers.push(...result.commands);
  }
  assert.equal(state.queue.length, MAX_QUEUED_REQUESTS);
  assert.deepEqual(answers.at(-1), { type: 'reject', token: 't1001', reason: 'QUEUE_FULL' });
});
