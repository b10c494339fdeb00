/** The part of the schema for how the job runs: checkpoints, restarts, processes, memory. */
import Type from 'typebox';
import {
  block,
  choice,
  decimal,
  defaulted,
  duration,
  flag,
  fraction,
  integer,
  numberOrText,
  size,
  text,
} from './schema-fields.ts';
import { lostNodeTimeout, podTemplate } from './schema-kubernetes.ts';
import { s3Schema } from './schema-s3.ts';

const location = (description: string, example: string, minLength = 1) =>
  text(`${description} s3://, file:/// or a path.`, example, {
    minLength,
    rule: { kind: 'location' },
  });

export const checkpointingSchema = block('Checkpoints: exactly once, incremental, aligned.', {
  interval: defaulted(duration('Time between two triggers.', '30s', { min: 10 }), '60s'),
  mode: defaulted(
    choice('Guarantee.', ['EXACTLY_ONCE'], 'state is always exactly once, at no extra cost'),
    'EXACTLY_ONCE',
  ),
  timeout: defaulted(duration('A checkpoint that takes longer is aborted.', '5m'), '10m'),
  minPause: Type.Optional(
    duration(
      'Least time from the end of one checkpoint to the next trigger. ' +
        'Default: 30s, or 0s if interval is shorter than 30s.',
      '10s',
      { min: 0 },
    ),
  ),
  maxConcurrent: defaulted(
    integer('Checkpoints under way at the same time.', 1, {
      min: 1,
      max: 1,
      reason: 'a task holds at most one frozen set of writes (P7)',
    }),
    1,
  ),
  retained: defaulted(
    integer('Completed checkpoints that are kept, a count.', 5, { min: 1, max: 1000 }),
    3,
  ),
  tolerableFailures: defaulted(
    integer(
      'Failed checkpoints in a row that are tolerated; the next one restarts the job. Flink says ' +
        '0; here a failed checkpoint costs nothing but itself, so a short outage of the store ' +
        'does not stop the job.',
      0,
      { min: 0, max: 1_000_000 },
    ),
    3,
  ),
  directory: Type.Optional(
    location(
      'Where checkpoints are stored; the job uses DIRECTORY/NAMESPACE/NAME/. Required in a ' +
        'cluster; a local run defaults to its state directory.',
      's3://flink-checkpoints/',
    ),
  ),
  s3: defaulted(s3Schema, {}),
});

export const savepointsSchema = block('Savepoints: self-contained copies of the state.', {
  directory: Type.Optional(
    location(
      'Where savepoints are stored. Default: _savepoints/ in checkpointing.directory.',
      's3://flink-savepoints/',
    ),
  ),
  periodic: Type.Optional(
    duration('Takes one this often, in a cluster. Default: none.', '24h', { min: 60_000 }),
  ),
  maxCount: defaulted(
    integer('Periodic savepoints that are kept, a count.', 3, { min: 1, max: 1000 }),
    10,
  ),
});

export const restoreSchema = block('What the first start begins from.', {
  savepoint: defaulted(
    location(
      'Savepoint to start from, used once; "" starts fresh.',
      's3://flink-savepoints/sp-1',
      0,
    ),
    '',
  ),
});

export const restartStrategySchema = block('How a failed job is started again.', {
  type: defaulted(
    choice('Which of the strategies applies.', [
      'exponential-delay',
      'fixed-delay',
      'failure-rate',
      'none',
    ]),
    'exponential-delay',
  ),
  failover: defaulted(
    choice(
      'What restarts when a TaskManager is lost: all tasks, or its own alone while the others ' +
        'run on (Flink calls it a region).',
      ['full', 'region'],
    ),
    'full',
  ),
  exponentialDelay: defaulted(
    block('Growing waits, without end. Only with type exponential-delay.', {
      initialBackoff: defaulted(duration('First wait.', '500ms'), '1s'),
      maxBackoff: defaulted(duration('Longest wait.', '5m'), '1m'),
      multiplier: defaulted(
        decimal('Each wait is this many times the last one.', 2, { min: 1, max: 100 }),
        1.5,
      ),
      jitter: defaulted(
        decimal('Random part of a wait, a share of it.', 0.2, { min: 0, max: 1 }),
        0.1,
      ),
      resetAfter: defaulted(duration('Healthy time after which waits start anew.', '10m'), '1h'),
    }),
    {},
  ),
  fixedDelay: defaulted(
    block('A number of restarts. Only with type fixed-delay.', {
      attempts: defaulted(
        integer('Restarts before the job fails, a count.', 10, { min: 1, max: 2_147_483_647 }),
        1,
      ),
      delay: defaulted(duration('Wait before each.', '10s', { min: 0 }), '1s'),
    }),
    {},
  ),
  failureRate: defaulted(
    block('A number of restarts per time. Only with type failure-rate.', {
      maxFailures: defaulted(
        integer('Failures within the interval before the job fails.', 5, {
          min: 1,
          max: 2_147_483_647,
        }),
        1,
      ),
      interval: defaulted(duration('The interval they are counted in.', '10m'), '1m'),
      delay: defaulted(duration('Wait before each restart.', '10s', { min: 0 }), '1s'),
    }),
    {},
  ),
});

const amounts = (description: string) =>
  block(description, {
    cpu: Type.Optional(numberOrText('Cores, or thousandths with m.', '2', 'cpu')),
    memory: Type.Optional(size('Bytes of memory.', '4Gi')),
    'ephemeral-storage': Type.Optional(size("Bytes of the node's own disk.", '10Gi')),
  });

const resources = (description: string) =>
  Type.Optional(
    block(description, {
      requests: Type.Optional(amounts('What a pod is scheduled by.')),
      limits: Type.Optional(amounts('What a pod may use.')),
    }),
  );

const volume = (description: string) =>
  Type.Optional(
    block(description, {
      storageClassName: Type.Optional(
        text("Storage class. Default: the cluster's own.", 'local-nvme'),
      ),
      size: size('Bytes of the volume.', '50Gi'),
    }),
  );

const endpoint = (description: string, port: number) =>
  defaulted(
    block(description, {
      port: defaulted(
        integer('TCP port; 0 takes any free one, for tests.', port, { min: 0, max: 65_535 }),
        port,
      ),
      bindAddress: Type.Optional(
        text('Address to listen on. Default: 0.0.0.0, in a local run 127.0.0.1.', '0.0.0.0'),
      ),
    }),
    {},
  );

export const jobManagerSchema = block('The processes that coordinate.', {
  replicas: defaulted(
    integer(
      'Processes: one leader, the others standbys. A local run has --job-managers of them.',
      1,
      { min: 1, max: 9 },
    ),
    2,
  ),
  leaderElection: defaulted(
    block('How a standby finds the leader gone, and a leader itself cut off.', {
      lease: defaulted(
        duration('Silence of the leader after which a standby takes over.', '15s', { min: 100 }),
        '10s',
      ),
      renewDeadline: defaulted(
        duration('A leader that could not renew for this long ends. Less than the lease.', '5s', {
          min: 50,
        }),
        '7s',
      ),
      retryPeriod: defaulted(
        duration('Time between two renewals. Less than renewDeadline.', '2s', { min: 10 }),
        '1s',
      ),
    }),
    {},
  ),
  resources: resources('CPU and memory of a pod, as in Kubernetes.'),
  podTemplate: podTemplate('the pods of the JobManagers, in place of spec.podTemplate'),
  rest: endpoint('REST API and user interface.', 8081),
  rpc: endpoint('Where TaskManagers connect.', 6123),
});

const slotBytes = (description: string, example: string) =>
  Type.Optional(size(`${description} Default: a share of managed memory, see memory.ts.`, example));

const memory = block('How a TaskManager divides its memory; see memory.ts for the formulas.', {
  managedFraction: defaulted(
    fraction('Share of the process for RocksDB and the caches, if managedSize is not given.', 0.5),
    0.4,
  ),
  managedSize: Type.Optional(
    size(
      'Bytes for RocksDB and the caches, all slots. Default: managedFraction of the process.',
      '2Gi',
    ),
  ),
  networkFraction: defaulted(fraction('Share of the process for exchange buffers.', 0.15), 0.1),
  networkMin: defaulted(size('Least bytes for exchange buffers.', '32Mi'), '64Mi'),
  networkMax: Type.Optional(size('Most bytes for exchange buffers. Default: no limit.', '1Gi')),
  heapSize: Type.Optional(
    size('Bytes for events under way, all slots. Default: what the other parts leave.', '1Gi'),
  ),
  slotCache: slotBytes('Bytes of live users per slot.', '256Mi'),
  slotBlockCache: slotBytes("Bytes of RocksDB's block cache per slot.", '128Mi'),
  slotMemtables: slotBytes("Bytes of RocksDB's memtables per slot.", '64Mi'),
  slotDelta: slotBytes('Bytes of delta rows per slot before they go to disk.', '64Mi'),
  slotOutbox: Type.Optional(
    size(
      'Bytes of parked events and outbox per slot before the input waits. ' +
        "Default: a quarter of the slot's heap.",
      '64Mi',
    ),
  ),
});

export const taskManagerSchema = block('The processes that work.', {
  replicas: Type.Optional(
    integer('Processes. Default: as many as parallelism needs.', 4, { min: 1, max: 10_000 }),
  ),
  slots: defaulted(
    integer('Subtasks per process, each with its own thread.', 2, { min: 1, max: 256 }),
    4,
  ),
  resources: resources('CPU and memory of a pod. limits.memory defaults to 4Gi.'),
  podTemplate: podTemplate('the pods of the TaskManagers, in place of spec.podTemplate'),
  memory: defaulted(memory, {}),
  localState: defaulted(
    block('Disk of the working state; may be lost at any time.', {
      directory: Type.Optional(
        text(
          "RocksDB's directory. Default: /data/rocksdb, in a local run in its state directory.",
          '/data/rocksdb',
        ),
      ),
      storageClassName: Type.Optional(
        text("Storage class. Default: the cluster's own.", 'local-nvme'),
      ),
      size: defaulted(size('Bytes of the volume.', '200Gi'), '100Gi'),
      lostNodeTimeout: lostNodeTimeout(),
    }),
    {},
  ),
  dataPort: defaulted(
    integer(
      'TCP port for the other TaskManagers; 0 takes any free one. In a local run the second ' +
        'process takes the next port, and so on.',
      6121,
      { min: 0, max: 65_535 },
    ),
    0,
  ),
  tmp: volume('Volume at /tmp. Default: space of the node.'),
  logs: volume('Volume at /var/log/flink. Default: space of the node.'),
});

export const securitySchema = block('How the processes of the job know each other.', {
  internal: defaulted(
    block('RPC and shuffle.', {
      enabled: defaulted(
        flag(
          'TLS 1.3 by a secret of this job, for both ends of each connection. The processes get ' +
            'it as --secret-file; a local run makes its own. false = plain TCP, for whoever can ' +
            'reach the ports.',
        ),
        true,
      ),
    }),
    {},
  ),
});

export const heartbeatSchema = block("How JobManager and TaskManagers notice each other's death.", {
  interval: defaulted(duration('Time between two heartbeats.', '2s', { min: 10 }), '1s'),
  timeout: defaulted(duration('Silence after which the other is dead.', '30s', { min: 20 }), '10s'),
});

export const scalingSchema = block('How the parallelism follows the slots that are there.', {
  resourceWait: defaulted(
    duration('Longest wait for missing slots, while there is one; then fewer must do.', '5m', {
      min: 0,
    }),
    '10s',
  ),
  stabilization: defaulted(
    duration('Time that new slots must stay before the job is rescaled to them.', '10s', {
      min: 0,
    }),
    '1s',
  ),
  minInterval: defaulted(duration('Least time between two rescales.', '5m', { min: 0 }), '30s'),
});

export const exchangeSchema = block('Buffers between the slots.', {
  bufferSize: defaulted(
    size('Bytes of one buffer.', '64Ki', { min: 1024, max: 16 * 1024 * 1024 }),
    '32Ki',
  ),
  bufferTimeout: defaulted(
    duration('Longest wait of a record in a buffer that is not full.', '50ms', { min: 0 }),
    '5ms',
  ),
});
