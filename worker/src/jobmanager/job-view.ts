/** What the REST API and the metrics may know of the job: plain data, taken in one turn. */
import type { CopyProgress } from '../checkpoint/copy-objects.ts';
import type { DisposalReport } from '../checkpoint/disposal.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Tallies } from '../rpc/figures.ts';
import type { ScriptVersion, SubtaskMetrics, TaskManagerMetrics } from '../rpc/messages.ts';
import type { Bounds } from '../runtime/bound.ts';
import type { Histograms } from '../runtime/histogram.ts';
import type { LogText } from '../runtime/log-tail.ts';
import type { CheckpointHistory } from './checkpoint-history.ts';
import type { JobExceptions } from './job-exceptions.ts';
import type { Inspection } from './job-inspection.ts';
import type { JobOutcome } from './job-lifecycle.ts';
import type { JobSeries } from './job-series.ts';
import type { JobStatus } from './job-state.ts';
import type { Counters, Gauges } from './job-totals.ts';
import type { RecordedEnd } from './journal.ts';
import type { ScalingEvent } from './scaling.ts';

export interface TaskView {
  subtask: number;
  attempt: number;
  status: 'DEPLOYING' | 'RUNNING' | 'CANCELING';
  taskManagerId: string;
  host: string;
  /** Wall times, ms. */
  deployedAt: number;
  runningAt: number | null;
}

export interface TaskManagerView {
  id: string;
  host: string;
  pid: number;
  /** Where the other TaskManagers reach it. */
  dataPort: number;
  slots: number;
  freeSlots: number;
  sinceHeartbeatMs: number;
  metrics: TaskManagerMetrics | null;
  /** Cores that its process keeps busy; null before its second heartbeat. */
  coresUsed: number | null;
}

export interface FilterView {
  /** Of the script that runs. */
  version: string;
  /** Of the one that the next barrier brings; the same, mostly. */
  wanted: string;
  /** Why the last change was refused; null = it was not. */
  refused: string | null;
  /** Of that one, if it was readable at all. */
  refusedVersion: string | null;
}

export interface JobView {
  /** 32 hex digits: the start of the lineage, so the same over restarts of every process. */
  jobId: string;
  lineage: string;
  leaderEpoch: number;
  status: JobStatus;
  startedAt: number;
  /** Wall time of the last entry into a state; 0 = never. */
  enteredAt(status: JobStatus): number;
  terminal: boolean;
  now: number;
  plan: JobPlan;
  /** plan-digest.ts. */
  planDigest: string;
  /** The operator's count of deployments; null = not deployed by it. */
  run: number | null;
  /** How that run ended. */
  ended: RecordedEnd | null;
  storeUrl: string;
  attempt: number;
  /** Subtasks of the running attempt, else of the next one if it gets all its slots. */
  parallelism: number;
  scaling: { wanted: number; rescales: number; events: readonly ScalingEvent[] };
  restarts: number;
  /** Of lost tasks alone, by selective replay. */
  replacements: { running: boolean; done: number; givenUp: number };
  tasks: TaskView[];
  taskManagers: TaskManagerView[];
  checkpoints: CheckpointHistory;
  exceptions: ReturnType<JobExceptions['list']>;
  counters: Counters;
  tallies: Tallies;
  histograms: Histograms;
  /** The last hour. */
  series: JobSeries;
  gauges: Gauges;
  eventsPerSecond: number;
  lag: number | null;
  subtasks: SubtaskMetrics[];
  /** Of a running task's counters, per second; null before its second heartbeat. */
  ratesOf(subtask: number): Counters | null;
  filter: FilterView;
  /** Bounded places of the JobManager (I7). */
  bounds: Bounds;
  splits: { total: number; held: number; expiredHolds: number };
}

export interface SavepointRequest {
  /** Default: the plan's savepointDirectory. */
  directory?: string;
  /** Chosen by the client: the same one never makes a second savepoint, whoever leads. */
  triggerId?: string;
  onProgress?: (progress: CopyProgress) => void;
}

export interface StopRequest extends SavepointRequest {
  /** Everything parked and in the outbox is waited for first, so that nothing is sent twice. */
  drain: boolean;
  as: 'finished' | 'canceled';
}

export interface SavepointTaken {
  checkpointId: number;
  location: string;
}

/** What REST may ask of the job. Rejections are TriggerJobErrors. */
export interface JobControl {
  view(): JobView;
  /** null: the job has ended. */
  readonly inspection: Inspection | null;
  savepoint(request?: SavepointRequest): Promise<SavepointTaken>;
  /** What the request with this id made, whoever led then; null = nothing that is complete. */
  findSavepoint(triggerId: string): Promise<SavepointTaken | null>;
  /**
   * Sources stop, a savepoint of all before is taken, the job ends; resolves when the savepoint is
   * complete. If it fails, the job goes on.
   */
  stopWithSavepoint(request: StopRequest): Promise<SavepointTaken>;
  /** Deletes a savepoint, whoever made it. NOT_A_SAVEPOINT, SAVEPOINT_UNFINISHED. */
  disposeSavepoint(location: string): Promise<void>;
  checkpoint(): Promise<number>;
  /** The newest lines of its log. TASKMANAGER_SILENT. */
  taskManagerLog(id: string): Promise<LogText>;
  /**
   * Asks for another parallelism, for good; resolves when that is stored. Beyond the slots it is
   * reached when they come. Rejects with PARALLELISM for what can't be.
   */
  rescale(parallelism: number): Promise<void>;
  /**
   * Ends the job, if it has not ended, and deletes all that it has stored, for good (disposal.ts).
   * May be asked of any JobManager of the run, and again. Rejects with RUN_MISSING where there are
   * no runs, RUN_SUPERSEDED, and what the store throws.
   */
  dispose(): Promise<DisposalReport>;
  /** Resolves when the job has ended. */
  stop(options: { finalCheckpoint: boolean }): Promise<void>;
  cancel(): Promise<void>;
}

/** A JobManager that leads, for its process. */
export interface JobManager extends JobControl {
  readonly rpcPort: number;
  readonly jobId: string;
  /** The next barrier brings it to all tasks (P34). */
  changeScript(script: ScriptVersion): void;
  /** The job's end; rejects when this leader can't go on (LEADERSHIP_LOST, INVARIANT). */
  readonly done: Promise<JobOutcome>;
  /**
   * Triggers and appends no more; what is under way in the log is finished. The tasks go on: the
   * next leader adopts them (P45).
   */
  handOver(): Promise<void>;
  /** The job has ended: nothing is done any more, but view and TaskManagers' port stay. */
  retire(): void;
  /** Frees ports and timers; for a job that ended, or a process that gives up. */
  close(): Promise<void>;
}
