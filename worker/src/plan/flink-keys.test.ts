/**
 * Flink's configuration keys: nested and dotted, taken over, agreed with the spec, or refused by
 * name.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { FLINK_FAMILIES } from './flink-families.ts';
import { FLINK_KEYS } from './flink-key-table.ts';
import { faultsOf, jobWith, planOf } from './job-for-tests.ts';
import { resolveJob } from './resolve.ts';
import { fieldAt } from './schema-path.ts';

type Fields = Record<string, unknown>;

/** Flink's settings for a large job as they stand in its configuration file. */
const LARGE_SCALE_NESTED = `
execution:
  checkpointing:
    interval: 60s
    mode: EXACTLY_ONCE
    timeout: 10m
    min-pause: 30s
    max-concurrent-checkpoints: 1
    tolerable-failed-checkpoints: 3
    externalized-checkpoint-retention: RETAIN_ON_CANCELLATION
    incremental: true
state:
  backend: rocksdb
  backend.incremental: true
  backend.rocksdb:
    localdir: /data/rocksdb
    memory.managed: true
    block.cache-size: 256mb
    writebuffer:
      size: 64mb
      count: 4
  checkpoints.dir: s3://flink-checkpoints/
  checkpoints.num-retained: 3
  savepoints.dir: s3://flink-savepoints/
taskmanager:
  numberOfTaskSlots: 4
  memory:
    process.size: 16g
    managed.fraction: 0.5
    network:
      fraction: 0.15
      min: 128mb
      max: 4gb
    jvm-overhead.fraction: 0.1
    jvm-metaspace.size: 256m
jobmanager:
  memory.process.size: 4g
  rpc:
    address: jobmanager
    port: 6123
parallelism.default: 64
pipeline.max-parallelism: 1024
restart-strategy:
  type: exponential-delay
  exponential-delay:
    initial-backoff: 1 s
    max-backoff: 1 min
    backoff-multiplier: 2.0
    jitter-factor: 0.1
    reset-backoff-threshold: 1 h
heartbeat:
  interval: 1000
  timeout: 10 s
rest:
  port: 8081
  bind-address: 0.0.0.0
high-availability:
  type: kubernetes
  storageDir: s3://flink-ha/
pekko.ask.timeout: 30 s
`;

function dotted(node: Fields, prefix = ''): Fields {
  return Object.assign(
    {},
    ...Object.entries(node).map(([key, value]) =>
      typeof value === 'object' && value !== null
        ? dotted(value as Fields, `${prefix}${key}.`)
        : { [`${prefix}${key}`]: value },
    ),
  );
}

const nested = parse(LARGE_SCALE_NESTED) as Fields;
/** The job says nothing by itself that the block says. */
const bare = { checkpointing: undefined };

describe('the large-scale block', () => {
  for (const [form, block] of [
    ['nested', nested],
    ['dotted', dotted(nested)],
  ] as const) {
    it(`takes effect when it is ${form}`, () => {
      const plan = planOf({ ...bare, flinkConfiguration: block });
      assert.deepEqual(plan.checkpointing, {
        intervalMs: 60_000,
        timeoutMs: 600_000,
        minPauseMs: 30_000,
        tolerableFailures: 3,
        retained: 3,
        directory: 's3://flink-checkpoints/',
        s3: { endpoint: null, region: null, pathStyle: null, credentials: null },
      });
      assert.equal(plan.savepointDirectory, 's3://flink-savepoints/');
      assert.equal(plan.localStateDir, '/data/rocksdb');
      assert.deepEqual(
        [plan.parallelism, plan.maxParallelism, plan.slotsPerTaskManager, plan.taskManagers],
        [64, 1024, 4, 16],
      );
      const gibi = 1024 ** 3;
      assert.equal(plan.memory.processBytes, 16 * gibi);
      assert.equal(plan.memory.managedBytes, 8 * gibi);
      assert.equal(plan.memory.networkBytes, Math.floor(16 * gibi * 0.15));
      assert.deepEqual(plan.restartStrategy, {
        type: 'exponential-delay',
        initialMs: 1000,
        maxMs: 60_000,
        multiplier: 2,
        jitter: 0.1,
        resetAfterMs: 3_600_000,
      });
      assert.deepEqual([plan.heartbeatIntervalMs, plan.heartbeatTimeoutMs], [1000, 10_000]);
      assert.deepEqual(plan.rest, { port: 8081, bindAddress: '0.0.0.0' });
    });
  }

  it('is the same plan in both forms, also when it arrives as text only', () => {
    const asText = Object.fromEntries(
      Object.entries(dotted(nested)).map(([key, value]) => [key, String(value)]),
    );
    const plans = [nested, dotted(nested), asText].map((flinkConfiguration) =>
      planOf({ ...bare, flinkConfiguration }),
    );
    assert.deepEqual(plans[1], plans[0]);
    assert.deepEqual(plans[2], plans[0]);
  });
});

describe('one key', () => {
  /** The messages of the faults of one dotted key beside a spec. */
  const messages = (key: string, value: unknown, spec: Fields = {}): string[] =>
    faultsOf({ ...spec, flinkConfiguration: { [key]: value } }).map(({ message }) => message);

  const red: [string, unknown, RegExp][] = [
    ['execution.checkpointing.intervall', '60s', /not understood: did you mean .*\.interval\?/],
    ['taskmanager.numberoftaskslots', 4, /did you mean taskmanager\.numberOfTaskSlots/],
    ['no.such.key', 1, /not understood: remove it/],
    ['high-availabilityx', 1, /not understood/],
    ['execution.checkpointing.interval', 'soon', /"soon", not a duration/],
    ['execution.checkpointing.interval', true, /not a duration/],
    ['execution.checkpointing.interval', 1, /at least 10ms/],
    ['execution.checkpointing.mode', 'AT_LEAST_ONCE', /AT_LEAST_ONCE.*exactly/],
    ['execution.checkpointing.max-concurrent-checkpoints', 2, /must be 1: .*P7/],
    ['execution.checkpointing.unaligned', true, /must be false: .*P17/],
    ['execution.checkpointing.incremental', false, /must be true/],
    [
      'execution.checkpointing.externalized-checkpoint-retention',
      'DELETE_ON_CANCELLATION',
      /retain/,
    ],
    ['execution.checkpointing.dir', 'hdfs:///flink', /hdfs:\/\/ is not supported/],
    ['state.backend', 'hashmap', /"hashmap", must be rocksdb/],
    ['state.backend.type', 'forst', /must be rocksdb/],
    ['state.backend.incremental', 'no', /must be true/],
    ['state.backend.rocksdb.memory.managed', false, /must be true/],
    ['state.backend.rocksdb.block.cache-size', 'big', /not a size/],
    ['state.backend.rocksdb.thread.num', '1.5', /not a whole number/],
    ['taskmanager.memory.managed.fraction', 1.2, /less than 1/],
    ['taskmanager.memory.managed.fraction', 'half', /not a number/],
    ['taskmanager.memory.jvm-overhead.fraction', 'x', /not a number/],
    ['taskmanager.memory.flink.size', '4g', /write taskmanager\.memory\.process\.size/],
    ['taskmanager.memory.process.size', '300m', /leaves less than/],
    ['taskmanager.numberOfTaskSlots', 0, /1 to 256/],
    ['restart-strategy', 'always', /must be one of exponential-delay/],
    ['restart-strategy.fixed-delay.attempts', 3, /no effect with restartStrategy\.type/],
    ['rest.port', '8081-8090', /not a whole number/],
    ['rest.bind-port', 8081, /write rest\.port/],
    ['jobmanager.rpc.port', 8081, /the same as spec\.jobManager\.rest\.port/],
    ['heartbeat.timeout', '1s', /less than two times/],
    ['jobmanager.scheduler', 'default', /must be adaptive/],
    ['scheduler-mode', 'reactive', /write parallelism\.default/],
    ['execution.checkpointing.snapshot-compression', 'maybe', /not true or false/],
    ['parallelism.default', 5000, /more than maxParallelism 1024/],
    ['rest.address', '', /not text/],
    ['rest.address', null, /no value/],
    ['rest.address', [{}], /no value/],
  ];
  for (const [key, value, message] of red) {
    it(`refuses ${key}: ${JSON.stringify(value)}`, () => {
      const found = messages(key, value);
      assert.match(found[0] ?? 'no fault', message);
      assert.ok(found[0]?.startsWith(`spec.flinkConfiguration.${key} `), found[0]);
      assert.equal(found.length, key === 'parallelism.default' ? 2 : 1, found.join('\n'));
    });
  }

  it('refuses a key that disagrees with the spec, naming both', () => {
    const checkpointing = { interval: '30s' };
    assert.deepEqual(messages('execution.checkpointing.interval', '60 s', { checkpointing }), [
      'spec.flinkConfiguration.execution.checkpointing.interval is "60 s", but ' +
        'spec.checkpointing.interval is "30s": make them agree, or remove one',
    ]);
    const limits = { taskManager: { resources: { limits: { memory: '8Gi' } } } };
    assert.match(
      messages('taskmanager.memory.process.size', '4g', limits)[0] ?? '',
      /but spec\.taskManager\.resources\.limits\.memory is "8Gi"/,
    );
    assert.match(
      messages('state.checkpoints.dir', 's3://other/')[0] ?? '',
      /but spec\.checkpointing\.directory is "s3:\/\/bucket\/checkpoints"/,
    );
  });

  it('accepts one that says the same in other words', () => {
    assert.deepEqual(
      messages('execution.checkpointing.interval', 60_000, { checkpointing: { interval: '1m' } }),
      [],
    );
    const limits = { taskManager: { resources: { limits: { memory: '8Gi' } } } };
    assert.deepEqual(messages('taskmanager.memory.process.size', '8192m', limits), []);
    assert.deepEqual(messages('state.checkpoints.dir', 's3://bucket/checkpoints/'), []);
  });

  it('overrides a default, not what is given', () => {
    const flinkConfiguration = { 'restart-strategy': 'fixeddelay' };
    assert.equal(planOf({ flinkConfiguration }).restartStrategy.type, 'fixed-delay');
  });

  it('refuses two keys that disagree, and one given twice', () => {
    const both = (flinkConfiguration: Fields) =>
      faultsOf({ ...bare, flinkConfiguration }).map(({ message }) => message);
    const at = 'spec.flinkConfiguration';
    const two = {
      'state.checkpoints.dir': 's3://aaa/',
      'execution.checkpointing.dir': 's3://bbb/',
    };
    assert.deepEqual(both(two), [
      `${at}.execution.checkpointing.dir is "s3://bbb/", but ${at}.state.checkpoints.dir is ` +
        '"s3://aaa/": make them agree, or remove one',
    ]);
    const twice = {
      'state.checkpoints.dir': 's3://aaa/',
      'rest.port': 8081,
      rest: { port: 8082 },
    };
    assert.deepEqual(both(twice), [`${at}.rest.port is given twice, as 8081 and 8082: remove one`]);
  });

  it('is judged by the rules of the field that it sets, under its own name', () => {
    const flinkConfiguration = { 'parallelism.default': 9, 'taskmanager.numberOfTaskSlots': 4 };
    const [fault] = faultsOf({ taskManager: { replicas: 2 }, flinkConfiguration });
    assert.equal(fault?.path, 'spec.flinkConfiguration.parallelism.default');
  });

  it('without meaning changes nothing', () => {
    for (const { prefix } of FLINK_FAMILIES) {
      for (const key of [prefix, `${prefix}.some.thing`]) {
        assert.deepEqual(planOf({ flinkConfiguration: { [key]: 'x' } }), planOf(), key);
      }
    }
    assert.deepEqual(planOf({ flinkConfiguration: { 'env.java.opts': ['-Da', '-Db'] } }), planOf());
  });
});

describe('the table', () => {
  const samples: Record<string, unknown> = {
    duration: '20s',
    size: '70mb',
    integer: 1,
    number: 0.25,
    // Not the default of any field.
    boolean: false,
    text: '/somewhere',
  };

  it('leads to fields that exist, and documents each key', () => {
    for (const [key, entry] of FLINK_KEYS) {
      if (entry.use === 'field') assert.ok(fieldAt(entry.to).description, key);
      assert.ok(entry.doc.length > 5, key);
    }
  });

  it('says what accepted keys do: a key without meaning leaves the plan as it is', () => {
    for (const [key, entry] of FLINK_KEYS) {
      if (entry.use !== 'none' && entry.use !== 'fixed') continue;
      const value = entry.use === 'none' ? samples[entry.value] : entry.accepts[0];
      assert.deepEqual(planOf({ flinkConfiguration: { [key]: value } }), planOf(), key);
    }
  });

  it('has no field key whose value never reaches the plan, those for Kubernetes apart', () => {
    const kubernetesOnly = ['jobmanager.memory.process.size'];
    const decided = [
      'execution.checkpointing.mode',
      'execution.checkpointing.max-concurrent-checkpoints',
    ];
    const values: Record<string, unknown> = {
      'heartbeat.interval': '2s',
      'high-availability.kubernetes.leader-election.renew-deadline': '5s',
      'high-availability.kubernetes.leader-election.retry-period': '2s',
      's3.endpoint': 'http://minio:9000',
      's3.endpoint.region': 'eu-central-1',
      's3.region': 'eu-central-1',
      'taskmanager.numberOfTaskSlots': 2,
      'taskmanager.memory.process.size': '6g',
      'taskmanager.memory.network.min': '1g',
      'taskmanager.memory.network.max': '90m',
      'taskmanager.memory.task.heap.size': '400m',
      'taskmanager.memory.segment-size': '64kb',
      'jobmanager.execution.failover-strategy': 'region',
      'restart-strategy': 'none',
      'restart-strategy.type': 'none',
      'restart-strategy.fixed-delay.attempts': 9,
      'restart-strategy.failure-rate.max-failures-per-interval': 9,
      'restart-strategy.exponential-delay.backoff-multiplier': 3,
    };
    for (const [key, entry] of FLINK_KEYS) {
      if (entry.use !== 'field' || kubernetesOnly.includes(key) || decided.includes(key)) continue;
      const type = /^restart-strategy[.](fixed-delay|failure-rate)[.]/.exec(key)?.[1];
      const strategy = type === undefined ? {} : { restartStrategy: { type } };
      const base = jobWith({ ...strategy, parallelism: 1 });
      if (key === 'parallelism.default') delete (base['spec'] as Fields)['parallelism'];
      const spec = base['spec'] as Fields;
      if (entry.to === 'spec.checkpointing.directory') delete spec['checkpointing'];
      const without = resolveJob(base, { local: { baseDir: '/b', stateDir: '/s' } });
      spec['flinkConfiguration'] = { [key]: values[key] ?? samples[entry.value] };
      const set = resolveJob(base, { local: { baseDir: '/b', stateDir: '/s' } });
      assert.ok('plan' in set && 'plan' in without, `${key}: ${JSON.stringify(set)}`);
      assert.notDeepEqual(set.plan, without.plan, `${key} has no effect`);
    }
  });
});
