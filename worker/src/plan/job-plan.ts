/**
 * The resolved job: what every process of a job runs from. Made only by `resolveJob` (resolve.ts)
 * from the user's TriggerJob; every default is filled, every duration in milliseconds (`*Ms`),
 * every size in bytes (`*Bytes`), every cross-field rule already checked. Plain JSON: it travels in
 * RPCs.
 */

/** Where one secret is read from: a file, read again at each use so that rotation works. */
export interface SecretFile {
  path: string;
}

export interface KafkaConnectionPlan {
  bootstrapServers: string[];
  /** TLS when present. Paths of PEM files. */
  tls?: { ca?: string; cert?: string; key?: string; serverName?: string };
  /** SASL when present. `username`/`password` are files. */
  sasl?: {
    mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512';
    username: SecretFile;
    password: SecretFile;
  };
}

export type StartingOffsets =
  | { kind: 'earliest' }
  | { kind: 'latest' }
  | { kind: 'timestamp'; timestampMs: number };

export interface KafkaSourcePlan {
  kind: 'kafka';
  connection: KafkaConnectionPlan;
  topic: string;
  groupId: string;
  startingOffsets: StartingOffsets;
  discoveryIntervalMs: number;
  /** How long a newly found partition may wait for the older ones (P26). */
  discoveryHoldMs: number;
  /** A larger value goes to the dead letter. */
  maxRecordBytes: number;
}

/** Deterministic stream: record `n` of split `s` is a pure function of (seed, s, n). */
export interface DatagenSourcePlan {
  kind: 'datagen';
  eventsPerSecond: number;
  users: number;
  seed: number;
  splits: number;
  /** Records per split; null = endless. */
  limit: number | null;
  maxRecordBytes: number;
}

/** NDJSON files; one split each, the offset is the byte position of the line. */
export interface FileSourcePlan {
  kind: 'file';
  paths: string[];
  maxRecordBytes: number;
}

export type SourcePlan = KafkaSourcePlan | DatagenSourcePlan | FileSourcePlan;

export interface ProfileApiPlan {
  /** Base URL with no trailing slash; GET {url}/users/{id}/profile, /visit, /history. */
  url: string;
  timeoutMs: number;
  /** Per slot. */
  maxConcurrent: number;
  maxResponseBytes: number;
  onError: 'retry' | 'deadLetter' | 'empty';
  /** Attempts before `deadLetter` or `empty` applies; `retry` never stops. */
  maxAttempts: number;
  initialBackoffMs: number;
  maxBackoffMs: number;
}

export interface StatePlan {
  ttlMs: number;
  /** A user is purged only this long after it expired (P37). */
  ttlGraceMs: number;
  /** A record's time counts at most this far ahead of the wall clock (P36). */
  allowedSkewMs: number;
  historyMaxEvents: number;
  maxBytesPerUser: number;
  /** null: every unknown user starts with an empty profile, visit and history. */
  profileApi: ProfileApiPlan | null;
}

export type FilterLanguage = 'aviator' | 'filtrex';

export interface FilterPlan {
  language: FilterLanguage;
  script: string;
  /** Where the script came from, for messages: `spec.filter.script` or a file name. */
  origin: string;
  /** Steps one evaluation may take before it counts as an error. */
  stepBudget: number;
}

export interface WebhookPlan {
  kind: 'webhook';
  url: string;
  /** One attempt. */
  timeoutMs: number;
  /** All attempts and waits of one delivery. */
  deadlineMs: number;
  maxInFlight: number;
  initialBackoffMs: number;
  maxBackoffMs: number;
  /** Addresses of private, loopback and link-local ranges are refused unless this is true. */
  allowPrivateAddresses: boolean;
  headers: Record<string, string>;
  signingSecret: SecretFile | null;
}

export type ActionPlan = { kind: 'debug' } | WebhookPlan;

export type DeadLetterPlan =
  | { kind: 'kafka'; connection: KafkaConnectionPlan; topic: string }
  | { kind: 'file'; path: string }
  /** NDJSON below `dead-letter/` in the checkpoint directory. */
  | { kind: 'store' };

/**
 * How every s3:// directory of the job is reached. null: what the AWS SDK finds in the process's
 * environment (AWS_ENDPOINT_URL, AWS_REGION, its chain of credentials).
 */
export interface S3Plan {
  endpoint: string | null;
  region: string | null;
  /** null: true where there is an endpoint. */
  pathStyle: boolean | null;
  /** Files, so that no secret is in the plan. */
  credentials: { accessKey: SecretFile; secretKey: SecretFile } | null;
}

export interface CheckpointingPlan {
  intervalMs: number;
  timeoutMs: number;
  minPauseMs: number;
  /** Consecutive failed checkpoints before the job is restarted. */
  tolerableFailures: number;
  retained: number;
  /** `file:///...` or `s3://bucket/prefix/`. The job's folder in it is `<namespace>/<name>/`. */
  directory: string;
  s3: S3Plan;
}

export type RestartStrategyPlan =
  | { type: 'none' }
  | { type: 'fixed-delay'; attempts: number; delayMs: number }
  | { type: 'failure-rate'; maxFailures: number; intervalMs: number; delayMs: number }
  | {
      type: 'exponential-delay';
      initialMs: number;
      maxMs: number;
      multiplier: number;
      jitter: number;
      resetAfterMs: number;
    };

/** How the parallelism follows the slots (jobmanager/scaling-decision.ts). */
export interface ScalingPlan {
  /** Longest wait for missing slots, while there is one. */
  resourceWaitMs: number;
  /** New slots must stay this long before the job is rescaled to them. */
  stabilizationMs: number;
  /** From one rescale to the next. */
  minIntervalMs: number;
}

/** Byte budgets of one TaskManager process (Flink's memory model) and of one slot. */
export interface MemoryPlan {
  processBytes: number;
  /** taskmanager.memory.managed.fraction of the process: RocksDB, write-back caches, all slots. */
  managedBytes: number;
  /** taskmanager.memory.network.fraction: exchange buffers, all slots. */
  networkBytes: number;
  /** V8 heap limit of the slot threads together. */
  heapBytes: number;
  /** Per slot: live user objects. */
  slotCacheBytes: number;
  /** Per slot: RocksDB block cache, and memtables. */
  slotBlockCacheBytes: number;
  slotMemtableBytes: number;
  /** Per slot: parked events plus outbox before the input is paused. */
  slotOutboxBytes: number;
  /** Per slot: delta rows held in memory before they are spooled to disk. */
  slotDeltaBytes: number;
}

export interface LeaderElectionPlan {
  /** A leader that gave no sign of life for this long may be succeeded. */
  leaseMs: number;
  /** A leader that could not renew for this long ends itself; below `leaseMs`. */
  renewDeadlineMs: number;
  /** Between two renewals, and between two looks of a standby. */
  retryMs: number;
  /** How long a TaskManager acts without a leader (P38); above `leaseMs`, see plan/build.ts. */
  graceMs: number;
}

export interface JobPlan {
  name: string;
  namespace: string;
  /** Subtasks that the user wants; an attempt may have others (scaling-decision.ts). */
  parallelism: number;
  maxParallelism: number;
  slotsPerTaskManager: number;
  taskManagers: number;
  source: SourcePlan;
  /** Top-level field of the event that names the user. */
  keyBy: string;
  state: StatePlan;
  filter: FilterPlan;
  action: ActionPlan;
  deadLetter: DeadLetterPlan;
  checkpointing: CheckpointingPlan;
  savepointDirectory: string;
  /** `everyMs` null: none. The newest `maxCount` of them are kept. */
  periodicSavepoints: { everyMs: number | null; maxCount: number };
  /** Savepoint to start from, once (P43); null = none. */
  restoreSavepoint: string | null;
  restartStrategy: RestartStrategyPlan;
  /** A lost TaskManager's tasks are replaced alone; else all tasks restart. */
  selectiveReplay: boolean;
  scaling: ScalingPlan;
  memory: MemoryPlan;
  heartbeatIntervalMs: number;
  heartbeatTimeoutMs: number;
  /** JobManager processes. With one there is no election: who starts leads. */
  jobManagers: number;
  leaderElection: LeaderElectionPlan;
  /** Exchange buffer bytes, and the longest a record waits in a partly filled one. */
  bufferBytes: number;
  bufferTimeoutMs: number;
  /** RocksDB directory of this TaskManager; subfolders per slot and attempt. */
  localStateDir: string;
  rest: { port: number; bindAddress: string };
  rpc: { port: number; bindAddress: string };
  /** TLS on RPC and shuffle. */
  internalTls: boolean;
  /** Of each TaskManager, for the others; 0 = any free one. */
  dataPort: number;
}
