/** What the UI reads of the REST API's answers; everything else in them is left alone. */

export interface JobsOverview {
  jobs: {
    jid: string;
    name: string;
    state: string;
    'start-time': number;
    'end-time': number;
    duration: number;
    tasks: Record<string, number>;
  }[];
}

export interface Overview {
  taskmanagers: number;
  'slots-total': number;
  'slots-available': number;
  'flink-version': string;
}

export interface JobDetail {
  jid: string;
  name: string;
  state: string;
  'start-time': number;
  duration: number;
  now: number;
  maxParallelism: number;
  timestamps: Record<string, number>;
  vertices: Vertex[];
}

export interface Vertex {
  id: string;
  name: string;
  parallelism: number;
  status: string;
  metrics: Record<string, number | boolean>;
}

export interface Details {
  now: number;
  state: string;
  eventsPerSecond: number;
  processed: number;
  matched: number;
  delivered: number;
  deadLettered: number;
  users: number;
  parked: number;
  outbox: number;
  lag: number | null;
  restarts: number;
  parallelism: number;
  wantedParallelism: number;
  restoredCheckpoint: { id: number; at: number } | null;
  lastCheckpoint: {
    id: number;
    at: number;
    bytes: number;
    stateBytes: number;
    durationMs: number;
  } | null;
  taskManagers: TaskManagerDetail[];
  tasks: { subtask: number; taskManagerId: string }[];
  filter: { version: string; wanted: string; refused: string | null };
  failure: string | null;
  ledgerImbalance: number;
  subtasks: SubtaskDetail[];
}

export interface TaskManagerDetail {
  id: string;
  pid: number;
  slots: number;
  freeSlots: number;
  rssBytes: number;
  cpuSeconds: number;
  /** The rest is told by newer TaskManagers alone. */
  heapBytes?: number;
  heapTotalBytes?: number;
  memoryLimitBytes?: number;
  eventLoopLagP99Ms?: number;
  system?: SystemFigures | null;
  shuffle: { links: number; bytesSent: number; queuedBytes: number } | null;
}

export interface SystemFigures {
  readBytes: number;
  writtenBytes: number;
  network: { device: string; receivedBytes: number; sentBytes: number }[];
  diskFreeBytes: number;
  diskBytes: number;
}

export interface SubtaskDetail {
  subtask: number;
  attempt: number;
  slot: number;
  cpuSeconds: number;
  recordsRead: number;
  recordsProcessed: number;
  matched: number;
  delivered: number;
  parked: number;
  outbox: number;
  users: number;
  stateBytes: number;
  cacheBytes: number;
  pendingRecords: number;
  busyMs: number;
  backPressuredMs: number;
  idleMs: number;
  restoreMs: number;
  pauseMaxMs: number;
  extra: Record<string, number>;
}

export interface TaskManagers {
  taskmanagers: {
    id: string;
    path: string;
    dataPort: number;
    timeSinceLastHeartbeat: number;
    slotsNumber: number;
    freeSlots: number;
    hardware: { cpuCores: number; physicalMemory: number; managedMemory: number };
  }[];
}

export interface Checkpoint {
  id: number;
  status: 'IN_PROGRESS' | 'COMPLETED' | 'FAILED';
  is_savepoint: boolean;
  checkpoint_type: string;
  trigger_timestamp: number;
  end_to_end_duration: number;
  checkpointed_size: number;
  state_size: number;
  num_subtasks: number;
  num_acknowledged_subtasks: number;
  external_path?: string;
  discarded?: boolean;
  failure_message?: string | null;
  tasks: Record<string, object>;
}

export interface Figures {
  min: number;
  max: number;
  avg: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface Checkpoints {
  counts: {
    restored: number;
    total: number;
    in_progress: number;
    completed: number;
    failed: number;
  };
  summary: { checkpointed_size: Figures; state_size: Figures; end_to_end_duration: Figures };
  latest: {
    completed: Checkpoint | null;
    savepoint: Checkpoint | null;
    failed: Checkpoint | null;
    restored: {
      id: number;
      restore_timestamp: number;
      is_savepoint: boolean;
      external_path: string | null;
    } | null;
  };
  history: Checkpoint[];
}

export interface CheckpointConfig {
  interval: number;
  timeout: number;
  min_pause: number;
  tolerable_failed_checkpoints: number;
  checkpoint_storage: string;
}

export interface CheckpointSubtasks {
  subtasks: {
    index: number;
    status: string;
    ack_timestamp?: number;
    end_to_end_duration?: number;
    state_size?: number;
    checkpointed_size?: number;
    checkpoint?: { sync: number; async: number };
    alignment?: { duration: number };
  }[];
}

export interface Operation {
  status: { id: string };
  progress?: { 'copied-bytes'?: number; 'total-bytes'?: number };
  operation?: {
    location?: string;
    checkpointId?: number;
    'failure-cause'?: { 'stack-trace': string };
    failureCause?: { 'stack-trace': string };
  };
}

export interface ExceptionEntry {
  exceptionName: string;
  stacktrace: string;
  timestamp: number;
  taskName: string | null;
  taskManagerId: string | null;
  failureLabels?: Record<string, string>;
}

export interface Exceptions {
  exceptionHistory: { entries: ExceptionEntry[]; truncated: boolean };
  firstCause?: { timestamp: number; code: string; message: string } | null;
}

export interface Series {
  stepSeconds: number;
  at: number[];
  series: Record<string, (number | null)[]>;
}

export interface Diagnosis {
  healthy: boolean;
  sentence: string;
  /** '' when there is nothing to do. */
  knob: string;
  bottleneck: string | null;
  evidence: string[];
}

export interface UserState {
  userId: string;
  keyGroup: number;
  subtask: number;
  taskManagerId: string;
  from: 'memory' | 'disk';
  bytes: number;
  lastAccess: number;
  expiresAt: number | null;
  sequence: number;
  user: unknown;
  visit: unknown;
  history: unknown[];
  historyEvents: number;
  parked: number;
  outbox: number;
  decisions: Decision[];
}

export interface Decision {
  at: number;
  topic: string | null;
  partition: number | null;
  offset: string | number | null;
  verdict: Verdict;
  error: string | null;
  scriptVersion: string;
}

export type Verdict = 'match' | 'no-match' | 'error';

export interface TraceNode {
  text: string;
  line: number;
  column: number;
  value: unknown;
  /** Rounds of a loop that are left out. */
  omitted?: number;
  children: TraceNode[];
}

export interface Explanation {
  verdict: Verdict;
  value: unknown;
  error: string | null;
  scriptVersion: string | null;
  trace: TraceNode | null;
  deciding: { text: string; line: number; column: number; value: unknown } | null;
  truncated?: boolean;
}

export interface HotKeys {
  since: number;
  events: number;
  keys: {
    userId: string;
    events: number;
    bytes: number;
    errorBound: number;
    share: number;
    stateBytes: number | null;
    subtask: number;
    keyGroup: number;
  }[];
}

export interface LedgerSums {
  accepted: number;
  noMatch: number;
  delivered: number;
  deadLettered: number;
  parked: number;
  outbox: number;
  imbalance: number;
}

export interface Ledger {
  balanced: boolean;
  /** null: not all tasks have told theirs. */
  now: LedgerSums | null;
}

export interface TapRecord {
  at: number;
  stage: string;
  /** null: it has none that can be read. */
  userId: string | null;
  topic: string | null;
  partition: number | null;
  offset: string | number | null;
  subtask: number;
  event: unknown;
  verdict: string | null;
  reason: string | null;
}
