/**
 * The RPCs between JobManager and TaskManagers: one union each way, JSON, length-prefixed
 * (frame.ts). The TaskManager connects. Commands bear the leaderEpoch; a TaskManager refuses an
 * older one than it has seen (P38).
 */
import type { KeyGroupRange, Ledger, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import type { AcceptedPosition } from '../exchange/accepted-offsets.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Histograms } from '../runtime/histogram.ts';
import type { LogText } from '../runtime/log-tail.ts';
import type { SplitPosition } from '../source/source.ts';
import type { Tallies, TaskManagerFigures } from './figures.ts';
import type { SlotAnswer, SlotQuery } from './inspection.ts';

/**
 * 2: the exchange between TaskManagers. 3: sources that are held. 4: re-attachment, heartbeats are
 * answered. 5: lost tasks are replaced alone. 6: histograms in heartbeats; logs, and subtasks are
 * asked what people want to know.
 */
export const RPC_VERSION = 6;

/** What one deployment of one subtask needs. */
export interface TaskDeployment {
  subtask: number;
  slot: number;
  attempt: number;
  range: KeyGroupRange;
  /** Splits this subtask's source reads. */
  splits: SplitPosition[];
  /**
   * Snapshots of the checkpoint to restore whose range overlaps this one; empty = fresh. The task
   * takes from each only its own key groups.
   */
  restore: SubtaskSnapshot[];
  /** The restored checkpoint; the first interval of the task is (restoredId, next]. 0 = fresh. */
  restoredId: number;
  /** It takes a lost task's place beside tasks that run on: its source waits for `replay`. */
  replaces: boolean;
}

/** Where the subtasks of an attempt are, and the shuffle address of who runs them. */
export interface AttemptMember {
  taskManagerId: string;
  host: string;
  port: number;
  subtasks: number[];
}

export interface ScriptVersion {
  version: string;
  text: string;
  language: 'aviator' | 'filtrex';
}

/** What a TaskManager keeps of the deployment for the next leader, which knows none of it (P45). */
export interface DeploymentFacts {
  /** Of the plan that was deployed (plan-digest.ts). */
  planDigest: string;
  /** Restarts of the job until this attempt, and the job's start, wall time, ms. */
  restarts: number;
  jobStartedAt: number;
}

/** The attempt that a TaskManager runs while it registers with a new leader. */
export interface RunningAttempt extends DeploymentFacts {
  /** The newest that it was told of. */
  attempt: number;
  /** Of all tasks of the job, attempts[s]: several once lost tasks were replaced alone. */
  attempts: number[];
  /** Key-group owner table of the attempt. */
  ranges: KeyGroupRange[];
  /** All TaskManagers of the attempt, this one included. */
  members: string[];
  /** Of those, the ones whose connection with this one broke, or whose tasks were lost (P51). */
  lostPeers: string[];
  /** Lets another TaskManager into its shuffle port. */
  secret: string;
  tasks: RunningTask[];
}

export interface RunningTask {
  subtask: number;
  slot: number;
  /** false: its state is still being restored. */
  running: boolean;
  /** Highest checkpoint whose barrier it sent or has seen; 0 = none. */
  seen: number;
  /** Highest checkpoint that it took, and whether that one's frozen set is written out (P7). */
  taken: number;
  drained: boolean;
  /** All splits it knows, held ones included. */
  splits: SplitPosition[];
}

/** Tasks for one TaskManager, and whom they speak with. */
export interface Deployment {
  leaderEpoch: number;
  /** The newest of the tasks' attempts. */
  attempt: number;
  jobId: string;
  lineage: string;
  plan: JobPlan;
  script: ScriptVersion;
  /** Key-group owner table: subtask s owns ranges[s]. */
  ranges: KeyGroupRange[];
  /** Attempts of all tasks: attempts[s]. They differ once lost tasks were replaced alone. */
  attempts: number[];
  tasks: TaskDeployment[];
  /** All TaskManagers with tasks, the addressed one included. */
  members: AttemptMember[];
  /** Lets them into each other's shuffle port, until all tasks are deployed anew. */
  secret: string;
  facts: DeploymentFacts;
}

/** JobManager -> TaskManager. `attempt`: the newest one that was deployed or told by `replace`. */
export type Command =
  | { type: 'registered'; version: number; leaderEpoch: number; taskManagerId: string }
  /** `standby`: this one does not lead; `leader` is host:port of who does, null = unknown. */
  | { type: 'refused'; reason: string; code: 'standby' | 'unfit' | 'ended'; leader: string | null }
  /**
   * The answer to a heartbeat: this leader lives. Every split there was at `discoveredAt` (wall
   * time, ms) has been told (P37); 0 = it has not looked yet, null = there never are new ones.
   */
  | { type: 'alive'; leaderEpoch: number; discoveredAt: number | null }
  | ({ type: 'deploy' } & Deployment)
  /** The tasks of these subtasks are lost; all others run on (P51). */
  | { type: 'detach'; leaderEpoch: number; attempt: number; subtasks: number[] }
  /** Their successors' attempts and places, beside what runs; `tasks` are those for this one. */
  | ({ type: 'replace' } & Deployment)
  /** All tasks know the successors, which have restored: sources read once more (P52, P53). */
  | {
      type: 'replay';
      leaderEpoch: number;
      attempt: number;
      /** Of the restored checkpoint. */
      positions: SplitPosition[];
      /** What the others have accepted of the lost sources' splits. */
      goals: AcceptedPosition[];
    }
  | { type: 'cancel'; leaderEpoch: number; attempt: number }
  | {
      type: 'trigger';
      leaderEpoch: number;
      attempt: number;
      checkpointId: number;
      triggeredAt: number;
      /** The version the tasks switch to at this barrier (P34). */
      script: ScriptVersion;
    }
  | { type: 'notify'; leaderEpoch: number; attempt: number; checkpointId: number }
  | { type: 'abort'; leaderEpoch: number; attempt: number; checkpointId: number }
  /**
   * Sources emit no record until they are let go again; barriers pass. For stop-with-savepoint: no
   * record behind the savepoint's barrier may have an effect.
   */
  | { type: 'hold-sources'; leaderEpoch: number; attempt: number; held: boolean }
  | {
      type: 'add-splits';
      leaderEpoch: number;
      attempt: number;
      subtask: number;
      splits: SplitPosition[];
    }
  /** Answered by `log`. */
  | { type: 'tell-log'; leaderEpoch: number }
  /** Answered by `answer` with this id, by whoever runs the subtask in that attempt. */
  | {
      type: 'query';
      leaderEpoch: number;
      attempt: number;
      subtask: number;
      id: string;
      query: SlotQuery;
    }
  /**
   * End the process after finishing what runs; sent at a graceful stop, after the final checkpoint.
   */
  | { type: 'shutdown'; leaderEpoch: number };

/** TaskManager -> JobManager. */
export type Report =
  | {
      type: 'register';
      version: number;
      taskManagerId: string;
      host: string;
      pid: number;
      slots: number;
      /** Where other TaskManagers reach its shuffle port. */
      shuffleHost: string;
      shufflePort: number;
      /** Newest leader it has heard of; 0 = none. An older one must not have it. */
      leaderEpoch: number;
      running: RunningAttempt | null;
    }
  | { type: 'heartbeat'; taskManagerId: string; leaderEpoch: number; metrics: TaskManagerMetrics }
  | { type: 'running'; taskManagerId: string; attempt: number; subtask: number; restoreMs: number }
  /** Nothing of the lost tasks is in it any more, beyond what it accepted up to `positions`. */
  | {
      type: 'detached';
      taskManagerId: string;
      attempt: number;
      subtask: number;
      positions: AcceptedPosition[];
    }
  /** The TaskManager knows the successors. */
  | { type: 'replaced'; taskManagerId: string; attempt: number }
  /** Its source is where it would be without the loss. */
  | { type: 'caught-up'; taskManagerId: string; attempt: number; subtask: number }
  /** The source of the task took the barrier; the coordinator counts progress by it. */
  | {
      type: 'ack';
      taskManagerId: string;
      attempt: number;
      checkpointId: number;
      snapshot: SubtaskSnapshot;
    }
  | {
      type: 'decline';
      taskManagerId: string;
      attempt: number;
      checkpointId: number;
      subtask: number;
      reason: string;
    }
  /** F(checkpointId) is written out (P7): the next checkpoint may be triggered. */
  | {
      type: 'drained';
      taskManagerId: string;
      attempt: number;
      checkpointId: number;
      subtask: number;
    }
  | {
      type: 'failed';
      taskManagerId: string;
      attempt: number;
      subtask: number;
      code: string;
      error: string;
    }
  /** Its connection with another TaskManager of the attempt broke: that one is lost to it (P51). */
  | {
      type: 'peer-lost';
      taskManagerId: string;
      attempt: number;
      peer: string;
      code: string;
      error: string;
    }
  | { type: 'canceled'; taskManagerId: string; attempt: number }
  /** null: it can't be read. */
  | { type: 'log'; taskManagerId: string; log: LogText | null }
  | { type: 'answer'; taskManagerId: string; attempt: number; id: string; answer: SlotAnswer };

/** Sent with each heartbeat. Counters are totals since the attempt's start. */
export interface TaskManagerMetrics extends TaskManagerFigures {
  subtasks: SubtaskMetrics[];
  /** Connections with other TaskManagers, of the running attempt. */
  shuffle: ShuffleMetrics;
}

export interface ShuffleMetrics {
  links: number;
  bytesSent: number;
  framesSent: number;
  /** Bytes that wait for the network. */
  queuedBytes: number;
  /** Frames of an older attempt, dropped (P38). */
  staleFrames: number;
}

export interface SubtaskMetrics {
  subtask: number;
  attempt: number;
  slot: number;
  /** CPU of the slot's thread, seconds. */
  cpuSeconds: number;
  recordsRead: number;
  recordsProcessed: number;
  bytesRead: number;
  matched: number;
  delivered: number;
  deadLettered: number;
  filterErrors: number;
  profileRequests: number;
  profileErrors: number;
  parked: number;
  outbox: number;
  outboxBytes: number;
  usersCached: number;
  /** Users in state, cached or not. */
  users: number;
  stateBytes: number;
  cacheBytes: number;
  /** Cache lookups answered from memory, from RocksDB, and by the Profile API. */
  cacheHits: number;
  cacheMisses: number;
  expired: number;
  truncatedEvents: number;
  divergent: number;
  /** Records still to read, where the source tells (lag). -1 unknown. */
  pendingRecords: number;
  /** Of the split that is furthest behind. */
  recordsLagMax: number;
  /** Emission minus timestamp of the newest records, of the split with the oldest; -1 unknown. */
  emitEventTimeLagMs: number;
  /** Splits that have not ended for good; -1 before the subtask has got its splits. */
  openSplits: number;
  busyMs: number;
  backPressuredMs: number;
  idleMs: number;
  /** Of the subtask's key groups since the job's first start, as in a checkpoint (P35). */
  ledger: Ledger;
  /** accepted minus the rest of the ledger; 0 unless a bug (I9). */
  ledgerImbalance: number;
  restoreMs: number;
  /** Pauses of processing by checkpoints so far: count, p50/p99/max in ms. */
  pauseCount: number;
  pauseP99Ms: number;
  pauseMaxMs: number;
  tallies: Tallies;
  histograms: Histograms;
  /** Of the slot's thread, over the last seconds; 0 where it is not measured. */
  eventLoopLagP99Ms: number;
  /** Everything else worth a metric, by name. */
  extra: Record<string, number>;
}
