import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  coordinate,
  initialCoordinator,
  MAX_QUEUED_REQUESTS,
  nextWakeAt,
} from './checkpoint-coordinator.ts';
import type {
  CoordinatorCommand,
  CoordinatorEvent,
  CoordinatorPlan,
  CoordinatorState,
} from './coordinator-model.ts';

/**
 * testdata/coordinator.txt: scenarios in a small language, each line followed by what the
 * coordinator answered (`> ...`). UPDATE_GOLDEN=1 rewrites the file; the diff is the review.
 *   plan interval=10 pause=5 timeout=30 tolerable=1     at 12     start ATTEMPT TASKS     suspend
 *   tick    request KIND TOKEN    ack ID SUBTASK [attempt=N]    decline ID SUBTASK    drained ID
 *   SUBTASK
 *   published ID    publish-failed ID    abort    wake
 *   lost SUBTASK    replaced ATTEMPT ATTEMPT,ATTEMPT,...
 */
const GOLDEN = new URL('./testdata/coordinator.txt', import.meta.url);

class Scenario {
  #plan: CoordinatorPlan = { intervalMs: 10, minPauseMs: 0, timeoutMs: 30, tolerableFailures: 0 };
  #state: CoordinatorState = initialCoordinator(1);
  #now = 0;
  #attempt = 0;

  run(line: string): string[] {
    const [verb = '', ...words] = line.split(/\s+/);
    const plain = words.filter((word) => !word.includes('='));
    const named = Object.fromEntries(
      words.filter((word) => word.includes('=')).map((word) => word.split('=') as [string, string]),
    );
    if (verb === 'plan') {
      this.#plan = {
        intervalMs: Number(named['interval'] ?? 10),
        minPauseMs: Number(named['pause'] ?? 0),
        timeoutMs: Number(named['timeout'] ?? 30),
        tolerableFailures: Number(named['tolerable'] ?? 0),
      };
      return [];
    }
    if (verb === 'at') {
      this.#now = Number(plain[0]);
      return [];
    }
    if (verb === 'wake') return [`wake ${nextWakeAt(this.#plan, this.#state) ?? 'never'}`];
    const event = this.#event(verb, plain, Number(named['attempt'] ?? this.#attempt));
    if (event.type === 'started' || event.type === 'tasks-replaced') this.#attempt = event.attempt;
    const result = coordinate(this.#plan, this.#state, event, this.#now);
    this.#state = result.state;
    const answer = result.answer === undefined ? [] : [`answer ${result.answer}`];
    return [...answer, ...result.commands.map(show)];
  }

  #event(verb: string, [first = '', second = '']: string[], attempt: number): CoordinatorEvent {
    const task = { attempt, checkpointId: Number(first), subtask: Number(second) };
    switch (verb) {
      case 'start':
        return { type: 'started', attempt: Number(first), parallelism: Number(second) };
      case 'suspend':
        return { type: 'suspended' };
      case 'lost':
        return { type: 'tasks-lost', subtasks: [Number(first)] };
      case 'replaced': {
        const attempts = second.split(',').map(Number);
        return { type: 'tasks-replaced', attempt: Number(first), attempts };
      }
      case 'tick':
        return { type: 'tick' };
      case 'request':
        return { type: 'request', kind: first as 'manual', token: second };
      case 'ack':
        return { type: 'ack', ...task };
      case 'decline':
        return { type: 'decline', ...task, reason: 'disk full' };
      case 'drained':
        return { type: 'drained', ...task };
      case 'published':
        return { type: 'published', checkpointId: task.checkpointId };
      case 'publish-failed':
        return { type: 'publish-failed', checkpointId: task.checkpointId, error: '503' };
      case 'abort':
        return { type: 'abort', detail: 'asked' };
      default:
        throw new Error(`unknown verb ${verb}`);
    }
  }
}

function show(command: CoordinatorCommand): string {
  const { type, ...fields } = command;
  const shown = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
  return [type, ...shown].join(' ');
}

test('the coordinator answers the golden scenarios', () => {
  const before = readFileSync(GOLDEN, 'utf8');
  let scenario = new Scenario();
  const after = before
    .split('\n')
    .filter((line) => !line.startsWith('> '))
    .flatMap((line) => {
      if (line.startsWith('#')) scenario = new Scenario();
      if (line === '' || line.startsWith('#')) return [line];
      return [line, ...scenario.run(line).map((answer) => `> ${answer}`)];
    })
    .join('\n');
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(GOLDEN, after);
  else assert.equal(after, before);
});

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
