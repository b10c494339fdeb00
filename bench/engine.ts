/** What the harness sees of an engine under measurement: TriggerJob or Apache Flink. */
import type { ProfileService } from './profile-service.ts';
import type { RateBins } from './rate-bins.ts';
import type { Setting } from './settings.ts';

export interface Launch {
  setting: Setting;
  bootstrap: string;
  topic: string;
  service: ProfileService;
  /** The run's own; removed after it. */
  folder: string;
  checkpointIntervalMs: number;
}

export interface Engine {
  /** In the table. */
  readonly name: string;
  start(launch: Launch): Promise<EngineRun>;
}

export interface Progress {
  /** Moment of the counter, ms since the epoch. */
  at: number;
  /** Events since the start of the TaskManager process. */
  processed: number;
}

/** One completed checkpoint, as the REST API tells it. */
export interface Checkpoint {
  triggeredAt: number;
  durationMs: number;
  uploadedBytes: number;
}

export interface Processes {
  jobManager: number;
  taskManager: number;
}

/** What the job has found; compared with what it must. */
export interface Outcome {
  /** null: not told, since the counter of this engine begins anew with its process. */
  events: number | null;
  fired: number;
  firedSum: number;
  /** Anything that must not be, in words. */
  faults: string[];
}

export interface Recovery {
  firstRecordMs: number;
  /** Of every partition, the newest handled record is at most half a second old. */
  caughtUpMs: number;
}

export interface EngineRun {
  /** When its first process began, ms since the epoch. */
  readonly startedAt: number;
  /** Of all events, or of a steady share of them: as of the last `outcome`. */
  readonly handled: RateBins;
  progress(): Promise<Progress | null>;
  /** null: none yet. */
  firstRecordAt(): Promise<number | null>;
  processes(): Promise<Processes>;
  checkpoints(): Promise<Checkpoint[]>;
  /** Longest stops of the keyed subtasks by checkpoints, p99, ms; null: no checkpoint yet. */
  pauseP99Ms(): Promise<number | null>;
  outcome(): Promise<Outcome>;
  /** SIGKILL; what supervises the process starts it again at once. Resolves to the moment. */
  killTaskManager(): Promise<number>;
  /** Since the kill; null: not yet. */
  recovery(): Promise<Recovery | null>;
  end(): Promise<void>;
}

/** Heartbeat of both sides where a TaskManager is killed. */
export const HEARTBEAT = { intervalMs: 1_000, timeoutMs: 10_000 };
/** Wait before a restart, on both sides. */
export const RESTART_DELAY_MS = 100;
export const SLOTS = 4;
export const CAUGHT_UP_WITHIN_MS = 500;
