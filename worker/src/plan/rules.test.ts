/** The rules about actions, state, checkpoints, directories and restarts, red and green. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { faultsOf, planOf } from './job-for-tests.ts';

type Spec = Record<string, unknown>;
type Red = [string, Spec, string, RegExp];

function refuses(rules: Red[]): void {
  for (const [name, spec, path, message] of rules) {
    it(`refuses ${name}`, () => {
      const faults = faultsOf(spec);
      const all = faults.map((fault) => fault.message).join('\n');
      assert.deepEqual(
        faults.map((fault) => fault.path),
        [path],
        all,
      );
      assert.match(all, message);
      assert.ok(all.startsWith(path), 'the message names the field');
    });
  }
}

function accepts(greens: [string, Spec][]): void {
  for (const [name, spec] of greens) it(`accepts ${name}`, () => assert.ok(planOf(spec)));
}

const hook = (webhook: Spec) => ({
  action: { debug: undefined, webhook: { url: 'https://h/', ...webhook } },
});
const api = (fields: Spec) => ({ state: { profileApi: { url: 'http://api/', ...fields } } });
const local = { baseDir: '/jobs', stateDir: '/state' };

describe('webhook and profile API', () => {
  const at = 'spec.action.webhook';
  const secret = { name: 's', key: 'k' };
  refuses([
    ['another scheme', hook({ url: 'ftp://h/' }), `${at}.url`, /only http:\/\/ and https/],
    ['no URL', hook({ url: 'example.com/hook' }), `${at}.url`, /not a URL/],
    ['a password in the URL', hook({ url: 'http://u:p@h/' }), `${at}.url`, /user name or password/],
    ['a fragment', hook({ url: 'http://h/#x' }), `${at}.url`, /fragment #x/],
    [
      'a deadline below the timeout',
      hook({ deadline: '5s' }),
      `${at}.deadline`,
      /less than .*timeout \(10s\)/,
    ],
    ['a falling backoff', hook({ maxBackoff: '100ms' }), `${at}.maxBackoff`, /initialBackoff/],
    [
      'two signing keys',
      hook({ signingSecretFile: '/f', signingSecretRef: secret }),
      `${at}.signingSecretFile`,
      /remove one/,
    ],
    [
      'a relative key file in a cluster',
      hook({ signingSecretFile: 'f' }),
      `${at}.signingSecretFile`,
      /absolute/,
    ],
    [
      'a header that HTTP sets',
      hook({ headers: { Host: 'x' } }),
      `${at}.headers.Host`,
      /set by the webhook/,
    ],
    [
      'a header that the action sets',
      hook({ headers: { 'CE-id': 'x' } }),
      `${at}.headers.CE-id`,
      /set by/,
    ],
    ['no header name', hook({ headers: { 'a b': 'x' } }), `${at}.headers.a b`, /valid header name/],
    [
      'a header with a line break',
      hook({ headers: { a: 'x\ny' } }),
      `${at}.headers.a`,
      /line break/,
    ],
    ['a header that is no text', hook({ headers: { a: 1 } }), `${at}.headers.a`, /must be text/],
    ['nothing in flight', hook({ maxInFlight: 0 }), `${at}.maxInFlight`, /1 to 10000/],
    [
      'a query in the API',
      api({ url: 'http://api/?x=1' }),
      'spec.state.profileApi.url',
      /remove the query/,
    ],
    [
      'an unknown onError',
      api({ onError: 'fail' }),
      'spec.state.profileApi.onError',
      /retry, deadLetter, empty/,
    ],
    [
      'a falling API backoff',
      api({ initialBackoff: '1m' }),
      'spec.state.profileApi.maxBackoff',
      /initialBackoff/,
    ],
  ]);
  accepts([
    ['plain http', hook({ url: 'http://127.0.0.1:8091/hook?x=1' })],
    ['other headers', hook({ headers: { Authorization: 'Bearer x', 'x-team': 'a' } })],
  ]);

  it('has the documented defaults', () => {
    const { action, state } = planOf({ ...hook({}), ...api({}) });
    assert.deepEqual(action, {
      kind: 'webhook',
      url: 'https://h/',
      timeoutMs: 10_000,
      deadlineMs: 600_000,
      maxInFlight: 64,
      initialBackoffMs: 500,
      maxBackoffMs: 30_000,
      allowPrivateAddresses: false,
      headers: {},
      signingSecret: null,
    });
    assert.deepEqual(state, {
      ttlMs: 600_000,
      ttlGraceMs: 60_000,
      allowedSkewMs: 60_000,
      historyMaxEvents: 100,
      maxBytesPerUser: 16 * 1024 ** 2,
      profileApi: {
        url: 'http://api',
        timeoutMs: 2000,
        maxConcurrent: 64,
        maxResponseBytes: 32 * 1024 ** 2,
        onError: 'retry',
        maxAttempts: 5,
        initialBackoffMs: 200,
        maxBackoffMs: 10_000,
      },
    });
  });

  it('finds the signing key in a file or a Secret', () => {
    const secretOf = (spec: Spec) => {
      const { action } = planOf(spec, { local });
      return action.kind === 'webhook' ? action.signingSecret?.path : null;
    };
    assert.equal(secretOf(hook({ signingSecretRef: secret })), '/etc/triggerjob/secrets/s/k');
    assert.equal(secretOf(hook({ signingSecretFile: 'f' })), '/jobs/f');
  });
});

describe('checkpointing', () => {
  const at = 'spec.checkpointing';
  const with_ = (checkpointing: Spec) => ({ checkpointing });
  refuses([
    ['two at a time', with_({ maxConcurrent: 2 }), `${at}.maxConcurrent`, /must be 1: .*P7/],
    ['at least once', with_({ mode: 'AT_LEAST_ONCE' }), `${at}.mode`, /must be EXACTLY_ONCE/],
    ['no time at all', with_({ timeout: '0s' }), `${at}.timeout`, /at least 1ms/],
    ['a negative pause', with_({ minPause: '-1s' }), `${at}.minPause`, /not a duration/],
    ['no interval', with_({ interval: '0s' }), `${at}.interval`, /at least 10ms/],
    ['keeping none', with_({ retained: 0 }), `${at}.retained`, /1 to 1000/],
    ['tolerating -1', with_({ tolerableFailures: -1 }), `${at}.tolerableFailures`, /0 to/],
  ]);
  it('has the documented defaults', () => {
    assert.deepEqual(planOf().checkpointing, {
      intervalMs: 60_000,
      timeoutMs: 600_000,
      minPauseMs: 30_000,
      tolerableFailures: 3,
      retained: 3,
      directory: 's3://bucket/checkpoints/',
      s3: { endpoint: null, region: null, pathStyle: null, credentials: null },
    });
  });
  it('pauses 30s unless told otherwise or faster than that', () => {
    const pauseOf = (checkpointing: Spec) => planOf({ checkpointing }).checkpointing.minPauseMs;
    assert.equal(pauseOf({ interval: '30s' }), 30_000);
    assert.equal(pauseOf({ interval: '29s' }), 0);
    assert.equal(pauseOf({ interval: '10s', minPause: '20s' }), 20_000);
    assert.equal(pauseOf({ minPause: '0s' }), 0);
  });
});

describe('directories', () => {
  const at = 'spec.checkpointing.directory';
  const directory = (text: unknown) => ({ checkpointing: { directory: text } });
  refuses([
    ['hdfs', directory('hdfs://namenode:8020/ck'), at, /hdfs:\/\/ is not supported/],
    ['hdfs in capitals', directory('HDFS://namenode/ck'), at, /hdfs/],
    ['s3a', directory('s3a://bucket/ck'), at, /write s3:\/\//],
    ['another store', directory('gs://bucket/ck'), at, /gs:\/\/ is not supported/],
    ['a bucket that is none', directory('s3://B/ck'), at, /no valid bucket/],
    ['a file on a host', directory('file://host/ck'), at, /three slashes/],
    ['a relative path in a cluster', directory('ck'), at, /absolute path/],
    ['none in a cluster', directory(undefined), at, /missing.*outlives/],
    [
      'hdfs for savepoints',
      { savepoints: { directory: 'hdfs://n/s' } },
      'spec.savepoints.directory',
      /hdfs/,
    ],
    [
      'hdfs to restore from',
      { restore: { savepoint: 'hdfs://n/s' } },
      'spec.restore.savepoint',
      /hdfs/,
    ],
    [
      'savepoints among checkpoints',
      { savepoints: { directory: 's3://bucket/checkpoints/' } },
      'spec.savepoints.directory',
      /another directory/,
    ],
    [
      "savepoints in the job's folder",
      { savepoints: { directory: 's3://bucket/checkpoints/default/user-events/s' } },
      'spec.savepoints.directory',
      /another directory/,
    ],
    [
      'a relative state directory',
      { taskManager: { localState: { directory: 'rocks' } } },
      'spec.taskManager.localState.directory',
      /absolute/,
    ],
  ]);

  it('end in one slash, paths as file URLs', () => {
    const directoryOf = (text: string) =>
      planOf(directory(text), { local }).checkpointing.directory;
    assert.equal(directoryOf('s3://bucket'), 's3://bucket/');
    assert.equal(directoryOf('s3://bucket/a//'), 's3://bucket/a/');
    assert.equal(directoryOf('file:///data/ck'), 'file:///data/ck/');
    assert.equal(directoryOf('/data/ck/'), 'file:///data/ck/');
    assert.equal(directoryOf('/my data#1'), 'file:///my%20data%231/');
    assert.equal(directoryOf('ck'), 'file:///jobs/ck/');
    assert.equal(directoryOf('/'), 'file:///');
  });

  it('default below the state directory in a local run', () => {
    const plan = planOf(directory(undefined), { local });
    assert.equal(plan.checkpointing.directory, 'file:///state/checkpoints/');
    assert.equal(plan.savepointDirectory, 'file:///state/checkpoints/_savepoints/');
    assert.equal(plan.localStateDir, '/state/rocksdb');
    assert.deepEqual(plan.rest, { port: 8081, bindAddress: '127.0.0.1' });
  });

  it("are the pod's in a cluster", () => {
    const plan = planOf({ restore: { savepoint: '/sp' } });
    assert.equal(plan.localStateDir, '/data/rocksdb');
    assert.equal(plan.restoreSavepoint, 'file:///sp');
    assert.equal(planOf().restoreSavepoint, null);
    assert.deepEqual(plan.rpc, { port: 6123, bindAddress: '0.0.0.0' });
  });
});

describe('dead letter', () => {
  const letters = (kafka: Spec) => ({ deadLetter: { kafka: { topic: 'dlq', ...kafka } } });
  const noKafka = { source: { kafka: undefined, datagen: {} } };
  const at = 'spec.deadLetter.kafka';
  refuses([
    ['the topic of the source', letters({ topic: 'events' }), `${at}.topic`, /topic of the source/],
    [
      'no brokers without a Kafka source',
      { ...noKafka, ...letters({}) },
      `${at}.bootstrapServers`,
      /missing/,
    ],
    [
      'a relative file in a cluster',
      { deadLetter: { file: { path: 'd' } } },
      'spec.deadLetter.file.path',
      /absolute/,
    ],
  ]);
  it('is the checkpoint store, a file or a topic', () => {
    assert.deepEqual(planOf().deadLetter, { kind: 'store' });
    const file = { deadLetter: { file: { path: 'd' } } };
    assert.deepEqual(planOf(file, { local }).deadLetter, { kind: 'file', path: '/jobs/d' });
    assert.deepEqual(planOf(letters({})).deadLetter, {
      kind: 'kafka',
      topic: 'dlq',
      connection: { bootstrapServers: ['kafka:9092'] },
    });
  });
  it("takes the source's login to the source's brokers, never to others", () => {
    const source = { kafka: { tls: { serverName: 'k' } } };
    const connectionOf = (fields: Spec) => {
      const { deadLetter } = planOf({ source, ...letters(fields) });
      return deadLetter.kind === 'kafka' ? deadLetter.connection : null;
    };
    assert.deepEqual(connectionOf({})?.tls, { serverName: 'k' });
    assert.equal(connectionOf({ bootstrapServers: 'other:9092' })?.tls, undefined);
    assert.ok(planOf({ source, ...letters({ bootstrapServers: 'other:1', topic: 'events' }) }));
  });
});

describe('processes', () => {
  const resources = (requests: Spec, limits: Spec) => ({
    jobManager: { resources: { requests, limits } },
  });
  const at = 'spec.jobManager.resources.requests';
  refuses([
    [
      'one port for two',
      { jobManager: { rpc: { port: 8081 } } },
      'spec.jobManager.rpc.port',
      /rest\.port/,
    ],
    [
      'a port that is none',
      { jobManager: { rest: { port: 65_536 } } },
      'spec.jobManager.rest.port',
      /65535/,
    ],
    [
      'a deadly heartbeat',
      { heartbeat: { timeout: '1500ms' } },
      'spec.heartbeat.timeout',
      /two times .*interval \(1s\)/,
    ],
    [
      'memory above its limit',
      resources({ memory: '2Gi' }, { memory: '1Gi' }),
      `${at}.memory`,
      /limit 1Gi/,
    ],
    ['CPU above its limit', resources({ cpu: '2' }, { cpu: '1500m' }), `${at}.cpu`, /limit 1500m/],
    ['a volume without size', { taskManager: { tmp: {} } }, 'spec.taskManager.tmp.size', /missing/],
  ]);
  accepts([
    ['any free ports', { jobManager: { rest: { port: 0 }, rpc: { port: 0 } } }],
    ['equal amounts', resources({ cpu: 1, memory: '1Gi' }, { cpu: '1000m', memory: '1024Mi' })],
  ]);
  it('has the documented defaults', () => {
    const plan = planOf();
    assert.deepEqual([plan.heartbeatIntervalMs, plan.heartbeatTimeoutMs], [1000, 10_000]);
    assert.deepEqual(plan.scaling, {
      resourceWaitMs: 10_000,
      stabilizationMs: 1_000,
      minIntervalMs: 30_000,
    });
    assert.deepEqual([plan.bufferBytes, plan.bufferTimeoutMs], [32_768, 5]);
    assert.deepEqual(
      [plan.maxParallelism, plan.keyBy, plan.name],
      [1024, 'user_id', 'user-events'],
    );
    assert.equal(plan.filter.stepBudget, 100_000);
  });
});

describe('sources that are not Kafka', () => {
  const files = (...paths: string[]) => ({ source: { kafka: undefined, file: { paths } } });
  refuses([
    ['no files', files(), 'spec.source.file.paths', /1 to 1024/],
    ['a file twice', files('/a', '/a'), 'spec.source.file.paths[1]', /listed before/],
    ['a relative file in a cluster', files('/a', 'b'), 'spec.source.file.paths[1]', /absolute/],
    [
      'one path that is no list',
      { source: { kafka: undefined, file: { paths: '/a' } } },
      'spec.source.file.paths',
      /write \["\/a"\]/,
    ],
    [
      'no users',
      { source: { kafka: undefined, datagen: { users: 0 } } },
      'spec.source.datagen.users',
      /1 to/,
    ],
  ]);
  it('resolve relative files beside the job file', () => {
    const { source } = planOf(files('b', '/a'), { local });
    assert.deepEqual(source, { kind: 'file', paths: ['/jobs/b', '/a'], maxRecordBytes: 1024 ** 2 });
  });
  it('generate an endless stream by default', () => {
    assert.deepEqual(planOf({ source: { kafka: undefined, datagen: {} } }).source, {
      kind: 'datagen',
      eventsPerSecond: 2000,
      users: 1000,
      seed: 1,
      splits: 4,
      limit: null,
      maxRecordBytes: 1024 ** 2,
    });
  });
});

describe('restart strategies', () => {
  const strategy = (restartStrategy: Spec) => ({ restartStrategy });
  const at = 'spec.restartStrategy';
  refuses([
    ['another one', strategy({ type: 'always' }), `${at}.type`, /exponential-delay, fixed-delay/],
    [
      'settings of another one',
      strategy({ fixedDelay: { attempts: 3 } }),
      `${at}.fixedDelay`,
      /no effect with restartStrategy.type exponential-delay/,
    ],
    [
      'a falling wait',
      strategy({ exponentialDelay: { maxBackoff: '10ms' } }),
      `${at}.exponentialDelay.maxBackoff`,
      /initialBackoff/,
    ],
    [
      'a shrinking multiplier',
      strategy({ exponentialDelay: { multiplier: 0.5 } }),
      `${at}.exponentialDelay.multiplier`,
      /1 to 100/,
    ],
  ]);
  it('become plans', () => {
    const planned = (fields: Spec) => planOf(strategy(fields)).restartStrategy;
    assert.deepEqual(planned({}), {
      type: 'exponential-delay',
      initialMs: 1000,
      maxMs: 60_000,
      multiplier: 1.5,
      jitter: 0.1,
      resetAfterMs: 3_600_000,
    });
    assert.deepEqual(planned({ type: 'none' }), { type: 'none' });
    assert.deepEqual(planned({ type: 'fixed-delay', fixedDelay: { attempts: 3, delay: '10s' } }), {
      type: 'fixed-delay',
      attempts: 3,
      delayMs: 10_000,
    });
    assert.deepEqual(planned({ type: 'failure-rate' }), {
      type: 'failure-rate',
      maxFailures: 1,
      intervalMs: 60_000,
      delayMs: 1000,
    });
  });
});
