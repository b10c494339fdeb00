/**
 * When checkpoints start, end and fail: a pure reducer, (state, event, now) -> state and commands.
 * The shell (checkpoint-driver.ts) runs the commands. `now` is monotonic, ms.
 *
 * 1. One checkpoint at a time, ids rising and never reused.
 * 2. i+1 starts only when every task has settled i (P7): it acknowledged (P22: then F(i) is out),
 *    reported `drained`, or declined, which a task does only without a frozen set.
 * 3. Savepoints go first, then the last checkpoint, then manual ones, then the periodic one. Only
 * the
 *    periodic one waits for minPause, counted from the last completion.
 * 4. While lost tasks are replaced nothing starts; requests wait. Tasks that run on may still have
 *    to settle the one before (P7), so they are waited for afterwards.
 * 5. From `publish` to the shell's answer nothing may abort: the log record may already lie there.
 */
import {
  CHECKPOINT_FAILURES,
  type CheckpointFailure,
  describeFailure,
} from './checkpoint-failure.ts';
import type {
  AckAnswer,
  CheckpointKind,
  CoordinatorCommand,
  CoordinatorEvent,
  CoordinatorPlan,
  CoordinatorResult,
  CoordinatorState,
  PendingCheckpoint,
  RunningTasks,
} from './coordinator-model.ts';

/** Requests that may wait for their turn (I7). */
export const MAX_QUEUED_REQUESTS = 1000;

const PRIORITY: Readonly<Record<CheckpointKind, number>> = {
  savepoint: 0,
  stop: 1,
  final: 1,
  manual: 2,
  periodic: 3,
};

export function initialCoordinator(nextId: number): CoordinatorState {
  return {
    nextId,
    tasks: null,
    paused: false,
    pending: null,
    queue: [],
    unsettled: new Set(),
    lastTriggeredId: 0,
    blockedUntil: 0,
    periodicAt: 0,
    lastCompletionAt: null,
    consecutiveFailures: 0,
    stopping: false,
  };
}

/** One event. Never throws. */
export function coordinate(
  plan: CoordinatorPlan,
  state: CoordinatorState,
  event: CoordinatorEvent,
  now: number,
): CoordinatorResult {
  const handled = handle(plan, state, event, now);
  // The job is about to restart: a checkpoint started now would only be aborted by that.
  if (handled.commands.some((command) => command.type === 'fail-job')) return handled;
  const next = decide(plan, handled.state, now);
  return {
    ...handled,
    state: next.state,
    commands: [...handled.commands, ...next.commands],
  };
}

/** When the next tick is due; null = nothing waits for time. */
export function nextWakeAt(plan: CoordinatorPlan, state: CoordinatorState): number | null {
  if (state.pending !== null) {
    return state.pending.phase === 'collecting' ? state.pending.deadline : null;
  }
  if (state.tasks === null) return null;
  if (state.unsettled.size > 0) return state.blockedUntil;
  return state.stopping || state.paused ? null : periodicDue(plan, state);
}

function handle(
  plan: CoordinatorPlan,
  state: CoordinatorState,
  event: CoordinatorEvent,
  now: number,
): CoordinatorResult {
  switch (event.type) {
    case 'started':
      return only({
        ...state,
        tasks: tasksOf(event),
        paused: false,
        unsettled: new Set(),
        periodicAt: now + plan.intervalMs,
      });
    case 'adopted':
      return only({
        ...state,
        nextId: Math.max(state.nextId, event.checkpointId + 1),
        tasks: tasksOf(event),
        paused: false,
        unsettled: new Set(event.unsettled),
        lastTriggeredId: event.checkpointId,
        blockedUntil: now + plan.timeoutMs,
        periodicAt: now + plan.intervalMs,
      });
    case 'suspended':
      return suspend(plan, state, now);
    case 'tasks-lost':
      return pause(plan, state, event.subtasks, now);
    case 'tasks-replaced': {
      const { attempt, attempts } = event;
      return only({
        ...state,
        paused: false,
        tasks: state.tasks && { ...state.tasks, attempt, attempts },
      });
    }
    case 'tick':
      return tick(plan, state, now);
    case 'request':
      return request(state, event);
    case 'ack':
      return acknowledge(state, event);
    case 'decline':
      return decline(plan, state, event, now);
    case 'drained':
      return only(settle(state, event));
    case 'published':
      return published(state, event.checkpointId, now);
    case 'publish-failed':
      return fail(plan, state, event.checkpointId, 'FINALIZE_FAILED', event.error, now);
    case 'go-on':
      return only({ ...state, stopping: false });
    case 'abort':
      return state.pending?.phase === 'collecting'
        ? fail(plan, state, state.pending.id, 'ABORTED', event.detail, now)
        : only(state);
  }
}

function tasksOf({ attempt, parallelism }: Omit<RunningTasks, 'attempts'>): RunningTasks {
  return { attempt, parallelism, attempts: new Array<number>(parallelism).fill(attempt) };
}

/** Starts what is due, if anything may start. */
function decide(plan: CoordinatorPlan, state: CoordinatorState, now: number): CoordinatorResult {
  const { tasks } = state;
  if (tasks === null || state.paused || state.pending !== null) return only(state);
  if (state.unsettled.size > 0) return only(state);
  const chosen = state.queue.toSorted((a, b) => PRIORITY[a.kind] - PRIORITY[b.kind])[0] ?? null;
  if (chosen === null && (state.stopping || now < periodicDue(plan, state))) return only(state);
  const kind = chosen?.kind ?? 'periodic';
  const token = chosen?.token ?? null;
  const id = state.nextId;
  return {
    state: {
      ...state,
      nextId: id + 1,
      lastTriggeredId: id,
      queue: state.queue.filter((waiting) => waiting !== chosen),
      pending: {
        id,
        kind,
        token,
        deadline: now + plan.timeoutMs,
        acked: new Set(),
        phase: 'collecting',
      },
      unsettled: new Set(Array.from({ length: tasks.parallelism }, (_, subtask) => subtask)),
      periodicAt: kind === 'periodic' ? now + plan.intervalMs : state.periodicAt,
    },
    commands: [{ type: 'trigger', checkpointId: id, kind, token }],
  };
}

function periodicDue(plan: CoordinatorPlan, state: CoordinatorState): number {
  if (state.lastCompletionAt === null) return state.periodicAt;
  return Math.max(state.periodicAt, state.lastCompletionAt + plan.minPauseMs);
}

function request(
  state: CoordinatorState,
  event: CoordinatorEvent & { type: 'request' },
): CoordinatorResult {
  const refuse = (reason: CheckpointFailure): CoordinatorResult => ({
    state,
    commands: [{ type: 'reject', token: event.token, reason }],
  });
  if (state.tasks === null) return refuse('JOB_NOT_RUNNING');
  if (state.stopping) return refuse('STOPPING');
  if (state.queue.length >= MAX_QUEUED_REQUESTS) return refuse('QUEUE_FULL');
  const added = { kind: event.kind, token: event.token };
  if (!isLast(event.kind)) return only({ ...state, queue: [...state.queue, added] });
  // Nothing may follow the last checkpoint; savepoints that wait go before it, manual ones make no
  // sense.
  const dropped = state.queue.filter((waiting) => waiting.kind === 'manual');
  const kept = state.queue.filter((waiting) => waiting.kind !== 'manual');
  return {
    state: { ...state, queue: [...kept, added], stopping: true },
    commands: dropped.map(({ token }) => ({ type: 'reject', token, reason: 'STOPPING' })),
  };
}

function acknowledge(
  state: CoordinatorState,
  event: CoordinatorEvent & { type: 'ack' },
): CoordinatorResult {
  const answer = judgeAck(state, event);
  if (answer !== 'ok' || state.pending === null) return { ...only(state), answer };
  const acked = new Set(state.pending.acked).add(event.subtask);
  const all = acked.size === state.tasks?.parallelism;
  const settled = settle(state, event);
  const pending: PendingCheckpoint = {
    ...state.pending,
    acked,
    phase: all ? 'publishing' : 'collecting',
  };
  return {
    state: { ...settled, pending },
    commands: all ? [{ type: 'publish', checkpointId: pending.id }] : [],
    answer,
  };
}

function judgeAck(
  state: CoordinatorState,
  event: { attempt: number; checkpointId: number; subtask: number },
): AckAnswer {
  const { tasks, pending } = state;
  if (tasks === null || isStranger(state, event)) return 'discarded';
  if (event.checkpointId > state.lastTriggeredId) return 'unknown';
  if (event.subtask < 0 || event.subtask >= tasks.parallelism) return 'unknown';
  if (pending === null || pending.id !== event.checkpointId) return 'discarded';
  return pending.acked.has(event.subtask) ? 'duplicate' : 'ok';
}

/** Of another attempt of the subtask than the one that runs. */
function isStranger(
  { tasks }: CoordinatorState,
  { attempt, subtask }: { attempt: number; subtask: number },
): boolean {
  return attempt !== (tasks?.attempts[subtask] ?? tasks?.attempt);
}

/** The subtask's F(i) is written out. Reports of another attempt or checkpoint change nothing. */
function settle(
  state: CoordinatorState,
  event: { attempt: number; checkpointId: number; subtask: number },
): CoordinatorState {
  if (isStranger(state, event)) return state;
  if (event.checkpointId !== state.lastTriggeredId || !state.unsettled.has(event.subtask)) {
    return state;
  }
  const unsettled = new Set(state.unsettled);
  unsettled.delete(event.subtask);
  return { ...state, unsettled };
}

function decline(
  plan: CoordinatorPlan,
  state: CoordinatorState,
  event: CoordinatorEvent & { type: 'decline' },
  now: number,
): CoordinatorResult {
  if (isStranger(state, event)) return only(state);
  const settled = settle(state, event);
  const { pending } = state;
  if (pending?.id !== event.checkpointId || pending.phase !== 'collecting') return only(settled);
  const detail = `subtask ${event.subtask}: ${event.reason}`;
  return fail(plan, settled, pending.id, 'DECLINED', detail, now);
}

function published(state: CoordinatorState, checkpointId: number, now: number): CoordinatorResult {
  const { pending } = state;
  if (pending?.id !== checkpointId) return only(state);
  return {
    state: { ...state, pending: null, lastCompletionAt: now, consecutiveFailures: 0 },
    commands: [{ type: 'complete', checkpointId, kind: pending.kind, token: pending.token }],
  };
}

function tick(plan: CoordinatorPlan, state: CoordinatorState, now: number): CoordinatorResult {
  const { pending, tasks } = state;
  if (pending !== null) {
    if (pending.phase === 'publishing' || now < pending.deadline) return only(state);
    const missing = [...Array(tasks?.parallelism ?? 0).keys()].filter((s) => !pending.acked.has(s));
    const detail = `no acknowledgement of subtask ${missing.join(', ')}`;
    return fail(plan, state, pending.id, 'EXPIRED', detail, now);
  }
  if (tasks === null || state.unsettled.size === 0 || now < state.blockedUntil) return only(state);
  // A task that never settles would end all checkpoints in silence (I10): count it like a failed
  // one.
  const blocked = { ...state, blockedUntil: now + plan.timeoutMs };
  const detail = `subtask ${[...state.unsettled].join(', ')}, checkpoint ${state.lastTriggeredId}`;
  return count(plan, blocked, 'NOT_DRAINED', detail);
}

/** What is being collected fails: an input of every task's alignment is gone (P21). */
function pause(
  plan: CoordinatorPlan,
  state: CoordinatorState,
  lost: readonly number[],
  now: number,
): CoordinatorResult {
  const unsettled = new Set(state.unsettled);
  for (const subtask of lost) unsettled.delete(subtask);
  const paused = { ...state, unsettled, paused: true };
  if (state.pending?.phase !== 'collecting') return only(paused);
  return fail(plan, paused, state.pending.id, 'TASK_LOST', null, now);
}

function suspend(plan: CoordinatorPlan, state: CoordinatorState, now: number): CoordinatorResult {
  const unsettled = new Set<number>();
  const idle = { ...state, tasks: null, paused: false, queue: [], unsettled };
  const rejected = state.queue.map(
    (waiting): CoordinatorCommand => ({
      type: 'reject',
      token: waiting.token,
      reason: 'JOB_RESTARTING',
    }),
  );
  const stopping = false;
  if (state.pending?.phase !== 'collecting') {
    return { state: { ...idle, stopping }, commands: rejected };
  }
  const failed = fail(plan, idle, state.pending.id, 'JOB_RESTARTING', null, now);
  return {
    state: { ...failed.state, stopping },
    commands: [...failed.commands, ...rejected],
  };
}

function fail(
  plan: CoordinatorPlan,
  state: CoordinatorState,
  checkpointId: number,
  reason: CheckpointFailure,
  detail: string | null,
  now: number,
): CoordinatorResult {
  const { pending } = state;
  if (pending?.id !== checkpointId) return only(state);
  const abort: CoordinatorCommand = {
    type: 'abort',
    checkpointId,
    token: pending.token,
    reason,
    detail,
  };
  const idle: CoordinatorState = {
    ...state,
    pending: null,
    blockedUntil: now + plan.timeoutMs,
    stopping: isLast(pending.kind) ? false : state.stopping,
  };
  // A savepoint is the user's wish, not a sign of the job's health: its failure never restarts the
  // job.
  const wished = pending.kind === 'savepoint' || pending.kind === 'stop';
  if (wished || !CHECKPOINT_FAILURES[reason].counted) {
    return { state: idle, commands: [abort] };
  }
  const counted = count(plan, idle, reason, detail);
  return { state: counted.state, commands: [abort, ...counted.commands] };
}

function count(
  plan: CoordinatorPlan,
  state: CoordinatorState,
  reason: CheckpointFailure,
  detail: string | null,
): CoordinatorResult {
  const failures = state.consecutiveFailures + 1;
  if (failures <= plan.tolerableFailures) {
    return only({ ...state, consecutiveFailures: failures });
  }
  const text =
    `${failures} checkpoints in a row failed, checkpointing.tolerableFailures is ` +
    `${plan.tolerableFailures}; the last: ${describeFailure(reason, detail)}`;
  return {
    state: { ...state, consecutiveFailures: 0 },
    commands: [{ type: 'fail-job', reason: text }],
  };
}

function isLast(kind: CheckpointKind): boolean {
  return kind === 'stop' || kind === 'final';
}

function only(state: CoordinatorState): CoordinatorResult {
  return { state, commands: [] };
}
