/** Gathers the view from the running parts. */
import type { JobPlan } from '../plan/job-plan.ts';
import type { Bounds } from '../runtime/bound.ts';
import type { Env } from '../runtime/env.ts';
import type { CheckpointDriver } from './checkpoint-driver.ts';
import type { CheckpointHistory } from './checkpoint-history.ts';
import type { JobExceptions } from './job-exceptions.ts';
import type { JobLifecycle } from './job-lifecycle.ts';
import type { JobSeries } from './job-series.ts';
import type { JobStateMachine } from './job-state.ts';
import type { JobTotals } from './job-totals.ts';
import type { JobView } from './job-view.ts';
import type { Journal } from './journal.ts';
import { planDigest } from './plan-digest.ts';
import type { JobScaling } from './scaling.ts';
import type { ScriptSwitch } from './script-switch.ts';
import type { SplitBook } from './split-book.ts';
import type { TaskManagers } from './task-managers.ts';

export interface ViewParts {
  env: Env;
  plan: JobPlan;
  storeUrl: string;
  journal: Journal;
  job: JobStateMachine;
  driver: CheckpointDriver;
  lifecycle: JobLifecycle;
  scaling: JobScaling;
  taskManagers: TaskManagers;
  history: CheckpointHistory;
  exceptions: JobExceptions;
  totals: JobTotals;
  series: JobSeries;
  scripts: ScriptSwitch;
  splits: SplitBook;
}

export function viewOf(parts: ViewParts): JobView {
  const { env, plan, journal, job, lifecycle, scaling, totals, scripts, splits } = parts;
  const tasks = lifecycle.current?.tasks() ?? [];
  const parallelism = lifecycle.current?.parallelism ?? scaling.wanted;
  const { wanted, rescales, events } = scaling;
  const monotonic = env.monotonic();
  return {
    jobId: journal.lineage.slice(0, 32),
    lineage: journal.lineage,
    leaderEpoch: journal.leaderEpoch,
    status: job.status,
    startedAt: job.startedAt,
    enteredAt: (status) => job.enteredAt(status),
    terminal: job.terminal,
    now: env.now(),
    plan,
    planDigest: planDigest(plan),
    run: journal.run,
    ended: journal.ended,
    storeUrl: parts.storeUrl,
    attempt: lifecycle.attempt,
    parallelism,
    scaling: { wanted, rescales, events },
    restarts: lifecycle.restarts,
    replacements: lifecycle.replacements,
    tasks: tasks.map(({ taskManager, ...task }) => {
      const { subtask, attempt, status, deployedAt, runningAt } = task;
      const where = { taskManagerId: taskManager.id, host: taskManager.host };
      return { subtask, attempt, status, ...where, deployedAt, runningAt };
    }),
    taskManagers: parts.taskManagers.all().map((taskManager) => {
      const { id, host, pid, slots, shuffle, metrics, cpu, lastHeardAt } = taskManager;
      const dataPort = shuffle.port;
      const used = tasks.filter((task) => task.taskManager === taskManager).length;
      const sinceHeartbeatMs = Math.round(monotonic - lastHeardAt);
      const freeSlots = slots - used;
      const figures = { sinceHeartbeatMs, metrics, coresUsed: cpu.cores };
      return { id, host, pid, dataPort, slots, freeSlots, ...figures };
    }),
    checkpoints: parts.history,
    exceptions: parts.exceptions.list(),
    counters: totals.counters(),
    tallies: totals.tallies(),
    histograms: totals.histograms(),
    series: parts.series,
    gauges: totals.gauges(),
    eventsPerSecond: totals.eventsPerSecond(monotonic),
    lag: totals.lag(parallelism),
    subtasks: totals.subtasks(),
    ratesOf: (subtask) => totals.ratesOf(subtask),
    filter: {
      version: scripts.active.version,
      wanted: scripts.wanted.version,
      refused: scripts.refused?.fault ?? null,
      refusedVersion: scripts.refused?.version ?? null,
    },
    bounds: boundsOf(parts),
    splits: {
      total: splits.positions.length,
      held: splits.held,
      expiredHolds: splits.expiredHolds,
    },
  };
}

function boundsOf(parts: ViewParts): Bounds {
  return {
    rpc_queued_bytes: parts.taskManagers.queued,
    checkpoint_requests_queued: parts.driver.queued,
    checkpoint_history_entries: parts.history.kept,
    checkpoint_summary_entries: parts.history.summarized,
    job_exceptions: parts.exceptions.kept,
    scaling_events: parts.scaling.kept,
    job_log_records: parts.journal.recordsKept,
  };
}
