/** What the three processes of `control-plane.ts` tell each other, and their one clock. */

export interface JobSettings {
  folder: string;
  parallelism: number;
  maxParallelism: number;
  slots: number;
  splits: number;
  intervalMs: number;
  /** Where a CPU profile of the whole run goes; null = none. */
  profile: string | null;
}

/** Wall times, ms with fractions; one clock with the simulated TaskManagers. */
export interface CheckpointMoments {
  checkpointId: number;
  triggered: number;
  /** Every trigger is in its socket. */
  sent: number;
  /** The last acknowledgement is decoded and counted. */
  acked: number;
  encoded: number;
  stored: number;
  /** The record is in the log: the checkpoint counts. */
  logged: number;
  manifestBytes: number;
}

export type JobMessage =
  | { type: 'listens'; rpcPort: number; restPort: number }
  | { type: 'checkpoint'; moments: CheckpointMoments }
  | { type: 'end'; loopDelayP99Ms: number; loopDelayMaxMs: number };

/** The clock with fractions: `triggeredAt` in the trigger is the start of every measurement. */
export function wallClock(): number {
  return performance.timeOrigin + performance.now();
}

export interface FleetSettings {
  rpcPort: number;
  folder: string;
  taskManagers: number;
  slots: number;
  /** Deltas in each chain; chain-tracker.ts makes a base at 24. */
  deltas: number;
  heartbeatMs: number;
}

export type FleetMessage =
  | { type: 'running' }
  | { type: 'acked'; checkpointId: number; firstTriggerAt: number; lastAckAt: number }
  | { type: 'counts'; sent: number; received: number; ackBytes: number; heartbeatBytes: number };
