/**
 * Questions to running tasks, and their answers. An answer counts only if the task that gave it
 * still is where it was asked: while tasks restart or move, who asks is told so, and told nothing
 * else.
 */

import type { SlotAnswer, SlotQuery } from '../rpc/inspection.ts';
import type { Report } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { TaskAttempt } from './task-attempt.ts';
import type { TaskManager } from './task-managers.ts';

/** Of one question; a slot looks at its messages every few ms. */
const ANSWER_LIMIT_MS = 5_000;

/** Answers that are no refusals, by what was asked. */
export type AnswerTo<Kind extends SlotQuery['kind']> = Extract<
  SlotAnswer,
  { kind: { user: 'user'; 'hot-keys': 'hot-keys'; tap: 'tapped'; untap: 'untapped' }[Kind] }
>;

interface Pending {
  attempt: TaskAttempt;
  taskManager: TaskManager;
  subtask: number;
  timer: Timer;
  settle(answer: SlotAnswer | TriggerJobError): void;
}

export interface TaskQueriesDeps {
  env: Env;
  leaderEpoch: number;
  /** null: nothing is deployed. */
  attempt: () => TaskAttempt | null;
}

export class TaskQueries {
  readonly #deps: TaskQueriesDeps;
  readonly #pending = new Map<string, Pending>();
  #closed = false;

  constructor(deps: TaskQueriesDeps) {
    this.#deps = deps;
  }

  /** Rejects with TASK_UNAVAILABLE (ask again later), QUERY_FAILED. */
  ask<Query extends SlotQuery>(subtask: number, query: Query): Promise<AnswerTo<Query['kind']>> {
    const { env, leaderEpoch } = this.#deps;
    const attempt = this.#deps.attempt();
    const task = this.#taskOf(attempt, subtask);
    if (this.#closed || attempt === null || task?.status !== 'RUNNING') {
      const state = task === undefined ? 'is not deployed' : `is ${task.status}`;
      return Promise.reject(unavailable(`subtask ${subtask} ${state}`));
    }
    const { taskManager } = task;
    const { promise, resolve, reject } = Promise.withResolvers<AnswerTo<Query['kind']>>();
    const id = env.id();
    const timer = env.timer(ANSWER_LIMIT_MS, () => {
      const text = `subtask ${subtask} did not answer in ${ANSWER_LIMIT_MS} ms`;
      this.#settle(id, unavailable(text));
    });
    const settle = (answer: SlotAnswer | TriggerJobError) => {
      if (answer instanceof TriggerJobError) reject(answer);
      else resolve(answer as AnswerTo<Query['kind']>);
    };
    this.#pending.set(id, { attempt, taskManager, subtask, timer, settle });
    const number = attempt.attempt;
    const sent = taskManager.send({
      ...{ type: 'query', leaderEpoch, attempt: number, subtask, id, query },
    });
    if (!sent) this.#settle(id, unavailable(`TaskManager ${taskManager.id} is lost`));
    return promise;
  }

  answered(from: TaskManager, { id, answer }: Extract<Report, { type: 'answer' }>): void {
    const pending = this.#pending.get(id);
    if (pending?.taskManager !== from) return;
    const { attempt, subtask } = pending;
    const task = this.#taskOf(this.#deps.attempt(), subtask);
    const moved = this.#deps.attempt() !== attempt || task?.taskManager !== from;
    if (moved || task?.status !== 'RUNNING') {
      this.#settle(id, unavailable(`subtask ${subtask} moved or restarted meanwhile`));
    } else if (answer.kind !== 'failed') {
      this.#settle(id, answer);
    } else if (answer.code === 'failed') {
      const text = `subtask ${subtask} can't answer: ${answer.error}`;
      this.#settle(id, new TriggerJobError('QUERY_FAILED', text));
    } else {
      this.#settle(id, unavailable(answer.error));
    }
  }

  lost(taskManager: TaskManager): void {
    for (const [id, pending] of this.#pending) {
      if (pending.taskManager !== taskManager) continue;
      this.#settle(id, unavailable(`TaskManager ${taskManager.id} was lost meanwhile`));
    }
  }

  close(): void {
    this.#closed = true;
    for (const id of this.#pending.keys()) this.#settle(id, unavailable('this JobManager ends'));
  }

  #taskOf(attempt: TaskAttempt | null, subtask: number) {
    return attempt?.tasks().find((task) => task.subtask === subtask);
  }

  #settle(id: string, outcome: SlotAnswer | TriggerJobError): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.timer.cancel();
    pending?.settle(outcome);
  }
}

function unavailable(reason: string): TriggerJobError {
  return new TriggerJobError('TASK_UNAVAILABLE', `${reason}; ask again`, { retryable: true });
}
