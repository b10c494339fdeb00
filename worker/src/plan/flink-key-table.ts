/**
 * The Flink keys that flinkConfiguration understands, one entry each, with its effect here. A key
 * is either taken over into a spec field, checked against the only values possible here, accepted
 * without meaning, or refused with what to write instead. Any other key is refused by name.
 */

import { SCALING_KEYS } from './flink-scaling-keys.ts';

/** How the value of a key is written. */
export type FlinkValue = 'duration' | 'size' | 'integer' | 'number' | 'boolean' | 'text';

export type FlinkKey =
  /** Becomes the spec field `to`; `words` translates Flink's words, any other is refused. */
  | { use: 'field'; value: FlinkValue; to: string; doc: string; words?: Record<string, string> }
  /** Only these values (lower case) describe what happens here anyway; `doc` says why. */
  | { use: 'fixed'; accepts: string[]; doc: string }
  /** Accepted and without effect, for the reason in `doc`. The value must still be well formed. */
  | { use: 'none'; value: FlinkValue; doc: string }
  | { use: 'refused'; doc: string };

type Table = Record<string, FlinkKey>;

const field = (value: FlinkValue, to: string, doc: string): FlinkKey => ({
  use: 'field',
  value,
  to,
  doc,
});
const fixed = (accepts: string[], doc: string): FlinkKey => ({ use: 'fixed', accepts, doc });
const none = (value: FlinkValue, doc: string): FlinkKey => ({ use: 'none', value, doc });
const refused = (doc: string): FlinkKey => ({ use: 'refused', doc });
const ELECTION = 'high-availability.kubernetes.leader-election';
const election = (name: string, doc: string): FlinkKey =>
  field('duration', `spec.jobManager.leaderElection.${name}`, doc);

const TOLERABLE = 'failed checkpoints in a row that are tolerated';
const RETAINED = 'completed checkpoints that are kept';
const CHECKPOINT_DIR = 'where checkpoints are stored';
const SAVEPOINT_DIR = 'where savepoints are stored';
const INCREMENTAL = 'checkpoints are always incremental';
const KEPT = 'checkpoints outlive the job until they are deleted';
const ALIGNED = 'barriers are always aligned; a slow stage pauses the sources instead (P17)';
const LOCAL_RECOVERY = 'a task restores from the checkpoint store alone (P10)';

const checkpointing: Table = {
  'execution.checkpointing.interval': field(
    'duration',
    'spec.checkpointing.interval',
    'time between two triggers',
  ),
  'execution.checkpointing.mode': {
    use: 'field',
    value: 'text',
    to: 'spec.checkpointing.mode',
    doc: 'state is always exactly once',
    words: { exactly_once: 'EXACTLY_ONCE', 'exactly-once': 'EXACTLY_ONCE' },
  },
  'execution.checkpointing.timeout': field('duration', 'spec.checkpointing.timeout', 'its limit'),
  'execution.checkpointing.min-pause': field(
    'duration',
    'spec.checkpointing.minPause',
    'least time from the end of one checkpoint to the next trigger',
  ),
  'execution.checkpointing.max-concurrent-checkpoints': field(
    'integer',
    'spec.checkpointing.maxConcurrent',
    'must be 1: a task holds at most one frozen set of writes (P7)',
  ),
  'execution.checkpointing.tolerable-failed-checkpoints': field(
    'integer',
    'spec.checkpointing.tolerableFailures',
    TOLERABLE,
  ),
  'execution.checkpointing.num-retained': field('integer', 'spec.checkpointing.retained', RETAINED),
  'state.checkpoints.num-retained': field('integer', 'spec.checkpointing.retained', RETAINED),
  'execution.checkpointing.dir': field('text', 'spec.checkpointing.directory', CHECKPOINT_DIR),
  'state.checkpoints.dir': field('text', 'spec.checkpointing.directory', CHECKPOINT_DIR),
  'execution.checkpointing.savepoint-dir': field(
    'text',
    'spec.savepoints.directory',
    SAVEPOINT_DIR,
  ),
  'state.savepoints.dir': field('text', 'spec.savepoints.directory', SAVEPOINT_DIR),
  'execution.savepoint.path': field('text', 'spec.restore.savepoint', 'savepoint to start from'),
  'execution.state-recovery.path': field(
    'text',
    'spec.restore.savepoint',
    'savepoint to start from',
  ),
  'execution.checkpointing.externalized-checkpoint-retention': fixed(
    ['retain_on_cancellation'],
    KEPT,
  ),
  'execution.checkpointing.incremental': fixed(['true'], INCREMENTAL),
  'state.backend.incremental': fixed(['true'], INCREMENTAL),
  'execution.checkpointing.unaligned': fixed(['false'], ALIGNED),
  'execution.checkpointing.unaligned.enabled': fixed(['false'], ALIGNED),
  'execution.checkpointing.aligned-checkpoint-timeout': none('duration', ALIGNED),
  'execution.checkpointing.storage': fixed(
    ['filesystem'],
    'checkpoints are always stored as files',
  ),
  'state.checkpoint-storage': fixed(['filesystem'], 'checkpoints are always stored as files'),
  'execution.checkpointing.checkpoints-after-tasks-finish': fixed(
    ['true'],
    'finished sources do not stop checkpoints (P20)',
  ),
  'execution.checkpointing.checkpoints-after-tasks-finish.enabled': fixed(
    ['true'],
    'finished sources do not stop checkpoints (P20)',
  ),
  'execution.checkpointing.snapshot-compression': none('boolean', 'segments are always compressed'),
  'execution.checkpointing.local-recovery.enabled': none('boolean', LOCAL_RECOVERY),
  'state.backend.local-recovery': none('boolean', LOCAL_RECOVERY),
  'execution.checkpointing.data-inline-threshold': none('size', 'nothing is stored in a manifest'),
  'state.storage.fs.memory-threshold': none('size', 'nothing is stored in a manifest'),
};

const ROCKSDB_BUDGET = 'shares come from managed memory, as in Flink with memory.managed: true';
const ROCKSDB_OWN = "RocksDB is set up for this job's access pattern and has no such option here";

const stateBackend: Table = {
  'state.backend': fixed(['rocksdb'], 'state is always in RocksDB'),
  'state.backend.type': fixed(['rocksdb'], 'state is always in RocksDB'),
  'state.backend.rocksdb.localdir': field(
    'text',
    'spec.taskManager.localState.directory',
    'directory of the working state, lost with its disk',
  ),
  'state.backend.rocksdb.memory.managed': fixed(['true'], 'RocksDB always uses managed memory'),
  'state.backend.rocksdb.memory.write-buffer-ratio': none('number', ROCKSDB_BUDGET),
  'state.backend.rocksdb.memory.high-prio-pool-ratio': none('number', ROCKSDB_BUDGET),
  'state.backend.rocksdb.memory.partitioned-index-filters': none('boolean', ROCKSDB_BUDGET),
  'state.backend.rocksdb.memory.fixed-per-slot': refused(
    'write taskmanager.memory.managed.size, the bytes of all slots',
  ),
  'state.backend.rocksdb.memory.fixed-per-tm': field(
    'size',
    'spec.taskManager.memory.managedSize',
    'bytes for RocksDB and the caches, all slots',
  ),
  'state.backend.rocksdb.block.cache-size': none('size', ROCKSDB_BUDGET),
  'state.backend.rocksdb.block.blocksize': none('size', ROCKSDB_OWN),
  'state.backend.rocksdb.block.metadata-blocksize': none('size', ROCKSDB_OWN),
  'state.backend.rocksdb.writebuffer.size': none('size', ROCKSDB_BUDGET),
  'state.backend.rocksdb.writebuffer.count': none('integer', ROCKSDB_BUDGET),
  'state.backend.rocksdb.writebuffer.number-to-merge': none('integer', ROCKSDB_BUDGET),
  'state.backend.rocksdb.thread.num': none('integer', ROCKSDB_OWN),
  'state.backend.rocksdb.checkpoint.transfer.thread.num': none(
    'integer',
    'uploads are limited by the store client',
  ),
  'state.backend.rocksdb.files.open': none('integer', ROCKSDB_OWN),
  'state.backend.rocksdb.use-bloom-filter': none('boolean', ROCKSDB_OWN),
  'state.backend.rocksdb.bloom-filter.bits-per-key': none('number', ROCKSDB_OWN),
  'state.backend.rocksdb.predefined-options': none('text', ROCKSDB_OWN),
  'state.backend.rocksdb.log.level': none('text', ROCKSDB_OWN),
  'state.backend.rocksdb.log.dir': none('text', ROCKSDB_OWN),
  'state.backend.rocksdb.timer-service.factory': none('text', 'there are no timers in the state'),
  'state.backend.rocksdb.ttl.compaction.filter.enabled': none(
    'boolean',
    'the owner of a user deletes it (P37), compaction never does',
  ),
  'state.backend.rocksdb.write-batch-size': none('size', ROCKSDB_OWN),
  'state.backend.rocksdb.compaction.style': none('text', ROCKSDB_OWN),
  'state.backend.rocksdb.compaction.level.use-dynamic-size': none('boolean', ROCKSDB_OWN),
  'state.backend.rocksdb.compaction.level.target-file-size-base': none('size', ROCKSDB_OWN),
  'state.backend.rocksdb.compaction.level.max-size-level-base': none('size', ROCKSDB_OWN),
  'state.backend.rocksdb.compression.per.level': none('text', ROCKSDB_OWN),
};

export const NO_JVM = 'there is no JVM; its counterpart is the fixed overhead of memory.ts';
const KEYSTORE = "there are no certificates: the processes get the job's secret as --secret-file";
const MEMORY = 'spec.taskManager.memory';

const processes: Table = {
  'taskmanager.numberOfTaskSlots': field(
    'integer',
    'spec.taskManager.slots',
    'subtasks per process',
  ),
  'taskmanager.memory.process.size': field(
    'size',
    'spec.taskManager.resources.limits.memory',
    "bytes of the whole process, the pod's memory limit",
  ),
  'taskmanager.memory.flink.size': refused('write taskmanager.memory.process.size'),
  'taskmanager.heap.size': refused('write taskmanager.memory.process.size'),
  'taskmanager.memory.managed.fraction': field(
    'number',
    `${MEMORY}.managedFraction`,
    'share of the process for RocksDB and the caches',
  ),
  'taskmanager.memory.managed.size': field(
    'size',
    `${MEMORY}.managedSize`,
    'bytes for RocksDB and the caches, all slots',
  ),
  'taskmanager.memory.network.fraction': field(
    'number',
    `${MEMORY}.networkFraction`,
    'share of the process for exchange buffers',
  ),
  'taskmanager.memory.network.min': field('size', `${MEMORY}.networkMin`, 'least network bytes'),
  'taskmanager.memory.network.max': field('size', `${MEMORY}.networkMax`, 'most network bytes'),
  'taskmanager.memory.task.heap.size': field(
    'size',
    `${MEMORY}.heapSize`,
    'bytes for events under way, all slots',
  ),
  'taskmanager.memory.segment-size': field(
    'size',
    'spec.exchange.bufferSize',
    'bytes of an exchange buffer',
  ),
  'execution.buffer-timeout': field(
    'duration',
    'spec.exchange.bufferTimeout',
    'longest wait of a record in a buffer',
  ),
  'execution.buffer-timeout.interval': field(
    'duration',
    'spec.exchange.bufferTimeout',
    'longest wait of a record in a buffer',
  ),
  'taskmanager.memory.task.off-heap.size': none('size', NO_JVM),
  'taskmanager.memory.framework.heap.size': none('size', NO_JVM),
  'taskmanager.memory.framework.off-heap.size': none('size', NO_JVM),
  'taskmanager.memory.jvm-metaspace.size': none('size', NO_JVM),
  'taskmanager.memory.jvm-overhead.fraction': none('number', NO_JVM),
  'taskmanager.memory.jvm-overhead.min': none('size', NO_JVM),
  'taskmanager.memory.jvm-overhead.max': none('size', NO_JVM),
  'taskmanager.host': none('text', 'a TaskManager announces the address of its pod'),
  'taskmanager.bind-host': none('text', "a TaskManager listens on its pod's address"),
  'taskmanager.rpc.port': none('text', 'a TaskManager connects, it is not connected to'),
  'taskmanager.data.port': field(
    'integer',
    'spec.taskManager.dataPort',
    'where other TaskManagers connect',
  ),
  'security.ssl.internal.enabled': field(
    'boolean',
    'spec.security.internal.enabled',
    'TLS between the processes',
  ),
  'security.ssl.enabled': refused('write security.ssl.internal.enabled'),
  'security.ssl.internal.keystore': refused(KEYSTORE),
  'security.ssl.internal.truststore': refused(KEYSTORE),
  'security.ssl.rest.enabled': fixed(['false'], 'the REST API is plain HTTP'),
  'jobmanager.memory.process.size': field(
    'size',
    'spec.jobManager.resources.limits.memory',
    "bytes of the whole process, the pod's memory limit",
  ),
  'jobmanager.memory.flink.size': refused('write jobmanager.memory.process.size'),
  'jobmanager.memory.heap.size': none('size', NO_JVM),
  'jobmanager.memory.off-heap.size': none('size', NO_JVM),
  'jobmanager.memory.jvm-metaspace.size': none('size', NO_JVM),
  'jobmanager.memory.jvm-overhead.fraction': none('number', NO_JVM),
  'jobmanager.memory.jvm-overhead.min': none('size', NO_JVM),
  'jobmanager.memory.jvm-overhead.max': none('size', NO_JVM),
  'jobmanager.rpc.address': none('text', "TaskManagers find the leader by the job's Service"),
  'jobmanager.rpc.port': field('integer', 'spec.jobManager.rpc.port', 'where TaskManagers connect'),
  'jobmanager.bind-host': field('text', 'spec.jobManager.rpc.bindAddress', 'address to listen on'),
  'jobmanager.execution.failover-strategy': field(
    'text',
    'spec.restartStrategy.failover',
    'what restarts when a TaskManager is lost',
  ),
  'rest.port': field('integer', 'spec.jobManager.rest.port', 'REST API and user interface'),
  'rest.bind-address': field('text', 'spec.jobManager.rest.bindAddress', 'address to listen on'),
  'rest.address': none('text', "the REST API is found by the job's Service"),
  'rest.bind-port': refused('write rest.port'),
  [`${ELECTION}.lease-duration`]: election('lease', 'silence after which a standby takes over'),
  [`${ELECTION}.renew-deadline`]: election('renewDeadline', 'without a renewal a leader ends'),
  [`${ELECTION}.retry-period`]: election('retryPeriod', 'time between two renewals'),
  'heartbeat.interval': field('duration', 'spec.heartbeat.interval', 'time between heartbeats'),
  'heartbeat.timeout': field('duration', 'spec.heartbeat.timeout', 'silence that means death'),
};

const STRATEGY: FlinkKey = {
  use: 'field',
  value: 'text',
  to: 'spec.restartStrategy.type',
  doc: 'how a failed job is started again',
  words: {
    'exponential-delay': 'exponential-delay',
    exponentialdelay: 'exponential-delay',
    'fixed-delay': 'fixed-delay',
    fixeddelay: 'fixed-delay',
    'failure-rate': 'failure-rate',
    failurerate: 'failure-rate',
    none: 'none',
    off: 'none',
    disable: 'none',
  },
};
const RESTART = 'spec.restartStrategy';

const restarts: Table = {
  'restart-strategy': STRATEGY,
  'restart-strategy.type': STRATEGY,
  'restart-strategy.exponential-delay.initial-backoff': field(
    'duration',
    `${RESTART}.exponentialDelay.initialBackoff`,
    'first wait',
  ),
  'restart-strategy.exponential-delay.max-backoff': field(
    'duration',
    `${RESTART}.exponentialDelay.maxBackoff`,
    'longest wait',
  ),
  'restart-strategy.exponential-delay.backoff-multiplier': field(
    'number',
    `${RESTART}.exponentialDelay.multiplier`,
    'growth of the wait',
  ),
  'restart-strategy.exponential-delay.jitter-factor': field(
    'number',
    `${RESTART}.exponentialDelay.jitter`,
    'random part of a wait',
  ),
  'restart-strategy.exponential-delay.reset-backoff-threshold': field(
    'duration',
    `${RESTART}.exponentialDelay.resetAfter`,
    'healthy time after which waits start anew',
  ),
  'restart-strategy.exponential-delay.attempts-before-reset-backoff': fixed(
    ['infinity', '2147483647'],
    'restarts with exponential-delay never end',
  ),
  'restart-strategy.fixed-delay.attempts': field(
    'integer',
    `${RESTART}.fixedDelay.attempts`,
    'restarts before the job fails',
  ),
  'restart-strategy.fixed-delay.delay': field(
    'duration',
    `${RESTART}.fixedDelay.delay`,
    'wait before each restart',
  ),
  'restart-strategy.failure-rate.max-failures-per-interval': field(
    'integer',
    `${RESTART}.failureRate.maxFailures`,
    'failures before the job fails',
  ),
  'restart-strategy.failure-rate.failure-rate-interval': field(
    'duration',
    `${RESTART}.failureRate.interval`,
    'the interval they are counted in',
  ),
  'restart-strategy.failure-rate.delay': field(
    'duration',
    `${RESTART}.failureRate.delay`,
    'wait before each restart',
  ),
};

const NO_SECRETS =
  'a secret has no place in this file: write spec.checkpointing.s3.credentialsRef, or ' +
  'accessKeyFile and secretKeyFile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY';
const S3_ENDPOINT = 'spec.checkpointing.s3';
const PATH_STYLE = 'the bucket is in the path, not in the host name';
const S3_OWN = 'the S3 store chooses its own parts, retries and connections';

/** Hadoop's, Presto's and the native plugin's spellings of one thing. */
const s3: Table = {
  's3.endpoint': field('text', `${S3_ENDPOINT}.endpoint`, 'URL of an S3-compatible store'),
  's3.endpoint.region': field('text', `${S3_ENDPOINT}.region`, 'region to sign for'),
  's3.region': field('text', `${S3_ENDPOINT}.region`, 'region to sign for'),
  's3.path.style.access': field('boolean', `${S3_ENDPOINT}.pathStyle`, PATH_STYLE),
  's3.path-style-access': field('boolean', `${S3_ENDPOINT}.pathStyle`, PATH_STYLE),
  's3.access-key': refused(NO_SECRETS),
  's3.access.key': refused(NO_SECRETS),
  's3.secret-key': refused(NO_SECRETS),
  's3.secret.key': refused(NO_SECRETS),
  's3.aws.credentials.provider': none('text', "the AWS SDK's own chain finds credentials"),
  's3.upload.min.part.size': none('size', S3_OWN),
  's3.upload.max.concurrent.uploads': none('integer', S3_OWN),
  's3.connection.maximum': none('integer', S3_OWN),
};

export const FLINK_KEYS: ReadonlyMap<string, FlinkKey> = new Map(
  Object.entries({
    ...checkpointing,
    ...stateBackend,
    ...processes,
    ...restarts,
    ...SCALING_KEYS,
    ...s3,
  }),
);
