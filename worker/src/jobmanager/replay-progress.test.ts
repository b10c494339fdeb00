import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placeLost, ReplayProgress } from './replay-progress.ts';

const host = (id: string, slots: number) => ({ id, slots });

test('lost tasks go to free slots, the emptiest TaskManager first', () => {
  const [a, b, c] = [host('a', 2), host('b', 3), host('c', 2)];
  const running = [
    { taskManager: a, slot: 0 },
    { taskManager: a, slot: 1 },
    { taskManager: b, slot: 1 },
  ];
  const placed = placeLost([4, 5, 6], running, [a, b, c])!;
  assert.deepEqual(
    placed.map(({ subtask, taskManager, slot }) => [subtask, taskManager.id, slot]),
    [
      [4, 'c', 0],
      [5, 'b', 0],
      [6, 'c', 1],
    ],
  );
  assert.equal(placeLost([4, 5, 6, 7, 8], running, [a, b, c]), null);
  assert.deepEqual(placeLost([], running, []), []);
});

test('only the right words count, and goals are the furthest of each split', () => {
  const progress = new ReplayProgress([
    { subtask: 0, attempt: 3 },
    { subtask: 2, attempt: 7 },
  ]);
  const taskManagerId = 'a';
  const detached = (subtask: number, attempt: number, offset: number) =>
    progress.report('a', {
      type: 'detached',
      taskManagerId,
      attempt,
      subtask,
      positions: [
        { split: 0, offset },
        { split: subtask, offset: 5 },
      ],
    });
  detached(0, 3, 10);
  detached(2, 3, 99);
  assert.equal(progress.allDetached, false, 'that attempt is over');
  detached(2, 7, 12);
  assert.equal(progress.allDetached, true);
  assert.deepEqual(progress.goals, [
    { split: 0, offset: 12 },
    { split: 2, offset: 5 },
  ]);
  const running = { type: 'running', taskManagerId, restoreMs: 0 } as const;
  progress.report('b', { ...running, attempt: 8, subtask: 1 });
  progress.deployed(8);
  assert.equal(progress.isDeployed([1], []), false);
  progress.report('b', { ...running, attempt: 8, subtask: 1 });
  assert.equal(progress.isDeployed([1], ['a']), false);
  progress.report('a', { type: 'replaced', taskManagerId, attempt: 7 });
  progress.report('a', { type: 'replaced', taskManagerId, attempt: 8 });
  assert.equal(progress.isDeployed([1], ['a']), true);
  const caughtUp = (subtask: number, attempt: number) =>
    progress.report('a', { type: 'caught-up', taskManagerId, attempt, subtask });
  caughtUp(0, 3);
  caughtUp(1, 7);
  caughtUp(2, 7);
  assert.equal(progress.hasCaughtUp([0, 1, 2]), false);
  caughtUp(1, 8);
  assert.equal(progress.hasCaughtUp([0, 1, 2]), true);
});
