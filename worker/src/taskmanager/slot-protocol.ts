/**
 * Messages between the TaskManager's main thread and the thread of one slot, and between two slots.
 */
import type { MessagePort } from 'node:worker_threads';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import type { AcceptedPosition } from '../exchange/accepted-offsets.ts';
import type { Frame } from '../exchange/frame.ts';
import type { Attempts } from '../exchange/wire.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { SlotAnswer, SlotQuery } from '../rpc/inspection.ts';
import type {
  RunningTask,
  ScriptVersion,
  SubtaskMetrics,
  TaskDeployment,
} from '../rpc/messages.ts';
import type { SplitPosition } from '../source/source.ts';
import type { TaskReport } from './checkpointer.ts';

/** The first message to a slot thread. */
export interface SlotStart {
  jobId: string;
  lineage: string;
  plan: JobPlan;
  script: ScriptVersion;
  ranges: KeyGroupRange[];
  attempts: number[];
  task: TaskDeployment;
  localStateDir: string;
  logLevel: string;
  mutant: string | null;
  /** One per subtask, null at our own number: the channel pair with that slot. */
  peers: (MessagePort | null)[];
}

export type SlotCommand =
  | { type: 'trigger'; checkpointId: number; triggeredAt: number; script: ScriptVersion }
  | { type: 'abort'; checkpointId: number }
  | { type: 'hold-sources'; held: boolean }
  | { type: 'add-splits'; splits: SplitPosition[] }
  | { type: 'discovered'; at: number }
  | { type: 'describe' }
  | { type: 'detach'; subtasks: number[] }
  | { type: 'replace'; attempts: number[] }
  | { type: 'replay'; positions: SplitPosition[]; goals: AcceptedPosition[] }
  | { type: 'query'; id: string; query: SlotQuery }
  | { type: 'close' };

export type SlotMessage =
  | { type: 'report'; report: TaskReport }
  | { type: 'metrics'; metrics: SubtaskMetrics }
  /** The answer to `describe`, behind all commands before it. */
  | { type: 'described'; task: RunningTask }
  | { type: 'answer'; id: string; answer: SlotAnswer }
  | { type: 'fault'; code: string; error: string }
  | { type: 'closed' };

/** On the port of a pair: frames one way, credit (with the buffer) the other. */
export type PeerMessage =
  | { type: 'frame'; frame: Frame; attempts: Attempts }
  | { type: 'credit'; bytes: Uint8Array | null; attempts: Attempts };
