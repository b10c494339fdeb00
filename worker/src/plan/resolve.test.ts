/** Each rule of the spec, red and green: what is refused, where, and with which words. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { faultsOf, jobWith, planOf } from './job-for-tests.ts';
import { resolveJob } from './resolve.ts';

type Spec = Record<string, unknown>;

/** [what it is, the change, path of the one fault, what its message says]. */
type Red = [string, Spec, string, RegExp];

function refuses(rules: Red[]): void {
  for (const [name, spec, path, message] of rules) {
    it(`refuses ${name}`, () => {
      const faults = faultsOf(spec);
      assert.deepEqual(
        faults.map((fault) => fault.path),
        [path],
        faults.map((fault) => fault.message).join('\n'),
      );
      assert.match(faults[0]?.message ?? '', message);
      assert.ok(faults[0]?.message.startsWith(path), 'the message names the field');
    });
  }
}

function accepts(greens: [string, Spec][]): void {
  for (const [name, spec] of greens) it(`accepts ${name}`, () => assert.ok(planOf(spec)));
}

const noKafka = { source: { kafka: undefined, datagen: {} } };
const sasl = { mechanism: 'PLAIN', usernameFile: '/u', passwordFile: '/p' };
const hook = (webhook: Spec) => ({
  action: { debug: undefined, webhook: { url: 'https://h/', ...webhook } },
});
const configMap = { configMapKeyRef: { name: 'filter', key: 'f.av' } };

describe('the whole document', () => {
  const pathsOf = (doc: unknown) => {
    const resolution = resolveJob(doc);
    return 'faults' in resolution ? resolution.faults.map(({ path }) => path) : [];
  };

  it('must be a map', () => {
    for (const doc of [null, 5, 'x', [], undefined]) assert.deepEqual(pathsOf(doc), ['']);
  });

  it('must not be nested without end', () => {
    let deep: Spec = {};
    for (let level = 0; level < 20_000; level++) deep = { a: deep };
    const endless: Spec = {};
    endless['a'] = endless;
    const metadata = { ownerReferences: [{ a: [{ b: {} }] }] };
    assert.deepEqual(pathsOf({ ...jobWith(), status: deep }), ['']);
    assert.deepEqual(pathsOf({ ...jobWith(), status: endless }), ['']);
    assert.deepEqual(pathsOf(jobWith({}, { metadata })), []);
  });

  it('must have every required part', () => {
    assert.deepEqual(pathsOf({}), ['apiVersion', 'kind', 'metadata', 'spec']);
    assert.deepEqual(pathsOf({ ...jobWith(), spec: {} }), [
      'spec.source',
      'spec.filter',
      'spec.action',
      'spec.checkpointing.directory',
    ]);
  });

  it('must be of this version and kind', () => {
    assert.deepEqual(pathsOf(jobWith({}, { apiVersion: 'triggerjob.io/v2' })), ['apiVersion']);
    assert.deepEqual(pathsOf(jobWith({}, { kind: 'Job' })), ['kind']);
  });

  it('has a name that fits into names of pods', () => {
    for (const name of ['', 'Upper', '1x', 'a_b', 'x'.repeat(41)]) {
      assert.deepEqual(pathsOf(jobWith({}, { metadata: { name } })), ['metadata.name'], name);
    }
    assert.deepEqual(pathsOf(jobWith({}, { metadata: { name: 'x'.repeat(40) } })), []);
  });

  it('may hold what the API server adds', () => {
    const metadata = { uid: 'u', generation: 3, managedFields: [{}], labels: { a: 'b' } };
    assert.deepEqual(pathsOf(jobWith({}, { metadata, status: { state: 'RUNNING' } })), []);
    assert.deepEqual(pathsOf(jobWith({}, { metadata: { labels: { a: 1 } } })), [
      'metadata.labels.a',
    ]);
  });

  it('reports all faults at once, each once', () => {
    const faults = faultsOf({
      parallelism: 'four',
      maxParalelism: 10,
      source: { kafka: { topic: 'no blanks' } },
      state: { ttl: '10', profileApi: {} },
      checkpointing: { maxConcurrent: 2, directory: 'hdfs://namenode/x' },
      heartbeat: { interval: '10s' },
      flinkConfiguration: { 'no.such.key': 1 },
    });
    assert.deepEqual(faults.map(({ path }) => path).toSorted(), [
      'spec.checkpointing.directory',
      'spec.checkpointing.maxConcurrent',
      'spec.flinkConfiguration.no.such.key',
      'spec.heartbeat.timeout',
      'spec.maxParalelism',
      'spec.parallelism',
      'spec.source.kafka.topic',
      'spec.state.profileApi.url',
      'spec.state.ttl',
    ]);
  });
});

describe('fields by themselves', () => {
  refuses([
    ['an unknown field', { keyby: 'x' }, 'spec.keyby', /did you mean spec\.keyBy/],
    ['a field without any near one', { zzzzz: 1 }, 'spec.zzzzz', /known here: parallelism/],
    ['a deep unknown field', { state: { tll: '1s' } }, 'spec.state.tll', /spec\.state\.ttl/],
    ['a field one level up', { ttl: '5m' }, 'spec.ttl', /did you mean spec\.state\.ttl\?/],
    ['a field in debug', { action: { debug: { x: 1 } } }, 'spec.action.debug.x', /no fields/],
    ['an empty debug:', { action: { debug: null } }, 'spec.action.debug', /write \{\}/],
    ['text for a number', { parallelism: '4' }, 'spec.parallelism', /whole number, not "4"/],
    ['a broken number', { parallelism: 1.5 }, 'spec.parallelism', /whole number/],
    ['a number for text', { keyBy: 5 }, 'spec.keyBy', /put it in quotes/],
    ['a scalar for a map', { state: 5 }, 'spec.state', /map of fields, not 5/],
    ['a list for a map', { state: [] }, 'spec.state', /map of fields/],
    ['a duration without unit', { state: { ttl: '600' } }, 'spec.state.ttl', /10m|h30m/],
    ['a duration as a number', { state: { ttl: 600 } }, 'spec.state.ttl', /must be text, not 600/],
    ['a ttl of nothing', { state: { ttl: '0s' } }, 'spec.state.ttl', /at least 1ms/],
    [
      'a size in Flink style',
      { state: { maxBytesPerUser: '16m' } },
      'spec.state.maxBytesPerUser',
      /write 16Mi/,
    ],
    [
      'a size that is none',
      { state: { maxBytesPerUser: 'big' } },
      'spec.state.maxBytesPerUser',
      /not a size/,
    ],
    [
      'a size that is too small',
      { state: { maxBytesPerUser: 10 } },
      'spec.state.maxBytesPerUser',
      /at least 4Ki/,
    ],
    [
      'a size that is too big',
      { state: { maxBytesPerUser: '1Ti' } },
      'spec.state.maxBytesPerUser',
      /at most 256Mi/,
    ],
    [
      'a size of another type',
      { state: { maxBytesPerUser: true } },
      'spec.state.maxBytesPerUser',
      /text or a whole number/,
    ],
    [
      'an unknown word',
      { upgradeMode: 'savepoints' },
      'spec.upgradeMode',
      /did you mean savepoint\?/,
    ],
    ['keyBy as a path', { keyBy: 'user.id' }, 'spec.keyBy', /one top-level field/],
    ['an empty keyBy', { keyBy: '' }, 'spec.keyBy', /is empty/],
    [
      'a fraction of 1',
      { taskManager: { memory: { managedFraction: 1 } } },
      'spec.taskManager.memory.managedFraction',
      /less than 1/,
    ],
    ['maxParallelism 0', { maxParallelism: 0 }, 'spec.maxParallelism', /1 to 32768/],
    ['maxParallelism 32769', { maxParallelism: 32_769 }, 'spec.maxParallelism', /1 to 32768/],
    [
      'a CPU amount that is none',
      { jobManager: { resources: { limits: { cpu: 'two' } } } },
      'spec.jobManager.resources.limits.cpu',
      /500m/,
    ],
    [
      'a timer beyond what Node can wait',
      { heartbeat: { timeout: '30d' } },
      'spec.heartbeat.timeout',
      /at most 596h/,
    ],
  ]);
  accepts([
    ['maxParallelism 1', { maxParallelism: 1, parallelism: 1 }],
    ['maxParallelism 32768', { maxParallelism: 32_768 }],
    ['sizes in bytes', { state: { maxBytesPerUser: 65_536 } }],
    ['a long ttl', { state: { ttl: '365d' } }],
    ['a duration in words', { state: { ttl: '10 min' } }],
    [
      'half a CPU',
      { jobManager: { resources: { limits: { cpu: '500m' }, requests: { cpu: '0.25' } } } },
    ],
  ]);
});

describe('exactly one', () => {
  refuses([
    [
      'no source',
      { source: { kafka: undefined } },
      'spec.source',
      /kafka, datagen, file; it has none/,
    ],
    ['two sources', { source: { datagen: {} } }, 'spec.source', /it has kafka and datagen/],
    ['no action', { action: { debug: undefined } }, 'spec.action', /webhook, debug/],
    [
      'two actions',
      { action: { webhook: { url: 'http://h' } } },
      'spec.action',
      /webhook and debug/,
    ],
    [
      'no script',
      { filter: { script: undefined } },
      'spec.filter',
      /script, scriptFile, scriptFrom/,
    ],
    ['two scripts', { filter: { scriptFrom: configMap } }, 'spec.filter', /script and scriptFrom/],
    ['a dead letter to nowhere', { deadLetter: {} }, 'spec.deadLetter', /kafka, file/],
    [
      'two dead letters',
      { deadLetter: { kafka: { topic: 'd' }, file: { path: '/d' } } },
      'spec.deadLetter',
      /kafka and file/,
    ],
    ['a blank script', { filter: { script: ' \n' } }, 'spec.filter.script', /blank/],
  ]);
  accepts([
    ['datagen', noKafka],
    ['file', { source: { kafka: undefined, file: { paths: ['/a'] } } }],
    ['webhook', hook({})],
    ['a dead letter file', { deadLetter: { file: { path: '/d' } } }],
  ]);
});

describe('filter scripts from elsewhere', () => {
  const fromFile = { filter: { script: undefined, scriptFile: 'f.av' } };
  it('are taken from the caller', () => {
    const plan = planOf(fromFile, { script: { text: 'true', origin: 'f.av' } });
    assert.deepEqual([plan.filter.script, plan.filter.origin], ['true', 'f.av']);
  });
  it('are a fault when the caller could not have them', () => {
    const [fault] = faultsOf(fromFile, { script: { problem: 'was not read: gone' } });
    assert.equal(fault?.message, 'spec.filter.scriptFile was not read: gone');
    assert.match(faultsOf(fromFile)[0]?.message ?? '', /was not read/);
  });
  it('must not be blank', () => {
    const script = { text: '\n', origin: 'f.av' };
    assert.match(faultsOf(fromFile, { script })[0]?.message ?? '', /is blank \(f\.av\)/);
  });
  const withRef = (name: string, key: string): Spec => ({
    filter: { script: undefined, scriptFrom: { configMapKeyRef: { name, key } } },
  });
  it('name an object that can exist', () => {
    const script = { text: 'true', origin: 'x' };
    assert.equal(planOf(withRef('filter', 'a.av'), { script }).filter.origin, 'x');
    const paths = faultsOf(withRef('../etc', '../passwd'), { script }).map(({ path }) => path);
    const ref = 'spec.filter.scriptFrom.configMapKeyRef';
    assert.deepEqual(paths, [`${ref}.name`, `${ref}.key`]);
  });
});

describe('parallelism', () => {
  refuses([
    [
      'more than slots x replicas',
      { parallelism: 9, taskManager: { replicas: 2, slots: 4 } },
      'spec.parallelism',
      /is 9, more than .*\(4 x 2\)/,
    ],
    [
      'more than maxParallelism',
      { parallelism: 8, maxParallelism: 4 },
      'spec.parallelism',
      /is 8, more than maxParallelism 4/,
    ],
    [
      'a left out one beyond maxParallelism',
      { maxParallelism: 4, taskManager: { replicas: 2 } },
      'spec.parallelism',
      /left out.*at most 4/,
    ],
    ['zero', { parallelism: 0 }, 'spec.parallelism', /1 to 32768/],
    ['no slots', { taskManager: { slots: 0 } }, 'spec.taskManager.slots', /1 to 256/],
  ]);

  it('defaults to slots x replicas, replicas to what parallelism needs', () => {
    const sizes = (spec: Spec) => {
      const plan = planOf(spec);
      return [plan.parallelism, plan.slotsPerTaskManager, plan.taskManagers];
    };
    assert.deepEqual(sizes({}), [4, 4, 1]);
    assert.deepEqual(sizes({ taskManager: { replicas: 3, slots: 2 } }), [6, 2, 3]);
    assert.deepEqual(sizes({ parallelism: 9 }), [9, 4, 3]);
    assert.deepEqual(sizes({ parallelism: 8, taskManager: { replicas: 2 } }), [8, 4, 2]);
  });
});

describe('kafka', () => {
  const at = 'spec.source.kafka';
  const security = (fields: Spec) => ({ source: { kafka: fields } });
  refuses([
    [
      'no topic',
      { source: { kafka: { topic: undefined } } },
      `${at}.topic`,
      /missing.*topic: user-tracking/,
    ],
    ['no brokers', security({ bootstrapServers: undefined }), `${at}.bootstrapServers`, /missing/],
    [
      'a broker without port',
      security({ bootstrapServers: 'a:1,b' }),
      `${at}.bootstrapServers`,
      /"b": write host:port/,
    ],
    [
      'a port that is none',
      security({ bootstrapServers: 'a:70000' }),
      `${at}.bootstrapServers`,
      /host:port/,
    ],
    ['a topic with blanks', security({ topic: 'a b' }), `${at}.topic`, /letters, digits/],
    ['a topic of dots', security({ topic: '..' }), `${at}.topic`, /dot/],
    [
      'an unknown offset',
      security({ startingOffsets: 'newest' }),
      `${at}.startingOffsets`,
      /earliest, latest, timestamp/,
    ],
    [
      'timestamp without one',
      security({ startingOffsets: 'timestamp' }),
      `${at}.startingTimestamp`,
      /is missing/,
    ],
    [
      'a timestamp that is not used',
      security({ startingTimestamp: 5 }),
      `${at}.startingTimestamp`,
      /no effect with startingOffsets earliest/,
    ],
    [
      'a timestamp without zone',
      security({ startingOffsets: 'timestamp', startingTimestamp: '2026-01-31T08:00:00' }),
      `${at}.startingTimestamp`,
      /point in time/,
    ],
    [
      'a Secret of which nothing is used',
      security({ securityRef: { name: 's' } }),
      `${at}.securityRef`,
      /nothing is used/,
    ],
    [
      'a login without password',
      security({ sasl: { ...sasl, passwordFile: undefined } }),
      `${at}.sasl.passwordFile`,
      /missing.*securityRef/,
    ],
    [
      'a login without mechanism',
      security({ sasl: { usernameFile: '/u', passwordFile: '/p' } }),
      `${at}.sasl.mechanism`,
      /missing/,
    ],
    [
      'a login of another kind',
      security({ sasl: { ...sasl, mechanism: 'GSSAPI' } }),
      `${at}.sasl.mechanism`,
      /SCRAM-SHA-512/,
    ],
    [
      'a certificate without key',
      security({ tls: { cert: '/c' } }),
      `${at}.tls.key`,
      /tls\.cert needs it/,
    ],
    [
      'a key without certificate',
      security({ tls: { key: '/c' } }),
      `${at}.tls.cert`,
      /tls\.key needs it/,
    ],
    [
      'a relative file in a cluster',
      security({ tls: { ca: 'ca.crt' } }),
      `${at}.tls.ca`,
      /absolute path/,
    ],
  ]);
  accepts([
    ['TLS without files', security({ tls: {} })],
    ['brokers by IPv6', security({ bootstrapServers: '[::1]:9092, b:9092' })],
  ]);

  it('reads earliest, latest and timestamp', () => {
    const offsets = (fields: Spec) => {
      const { source } = planOf(security(fields));
      return source.kind === 'kafka' ? source.startingOffsets : null;
    };
    assert.deepEqual(offsets({}), { kind: 'earliest' });
    assert.deepEqual(offsets({ startingOffsets: 'latest' }), { kind: 'latest' });
    const startingOffsets = 'timestamp';
    const expected = { kind: 'timestamp', timestampMs: 1_769_846_400_000 };
    for (const startingTimestamp of [
      '2026-01-31T08:00:00Z',
      '2026-01-31T09:00:00+01:00',
      1_769_846_400_000,
    ]) {
      assert.deepEqual(offsets({ startingOffsets, startingTimestamp }), expected);
    }
  });

  it('takes files from a Secret, absolute ones as they are', () => {
    const { source } = planOf(
      security({
        securityRef: { name: 'creds', key: 'pw' },
        sasl: { mechanism: 'SCRAM-SHA-512', usernameFile: '/abs/user' },
        tls: { ca: 'ca.crt', serverName: 'k' },
      }),
    );
    assert.deepEqual(source.kind === 'kafka' ? source.connection : null, {
      bootstrapServers: ['kafka:9092'],
      tls: { ca: '/etc/triggerjob/secrets/creds/ca.crt', serverName: 'k' },
      sasl: {
        mechanism: 'SCRAM-SHA-512',
        username: { path: '/abs/user' },
        password: { path: '/etc/triggerjob/secrets/creds/pw' },
      },
    });
  });

  it('defaults the group to namespace and name', () => {
    const resolution = resolveJob(jobWith({}, { metadata: { namespace: 'team' } }));
    assert.ok('plan' in resolution && resolution.plan.source.kind === 'kafka');
    assert.equal(resolution.plan.source.groupId, 'triggerjob.team.user-events');
    assert.equal(resolution.plan.namespace, 'team');
  });
});

describe('whatever a user writes', () => {
  /** Every path of `value`, from the root to the leaves. */
  const pathsIn = (value: unknown, path: string[] = []): string[][] =>
    typeof value === 'object' && value !== null
      ? [path, ...Object.entries(value).flatMap(([key, child]) => pathsIn(child, [...path, key]))]
      : [path];
  const full = jobWith({
    ...hook({ headers: { a: 'b' }, signingSecretRef: { name: 's', key: 'k' } }),
    source: { kafka: { securityRef: { name: 's' }, sasl: { mechanism: 'PLAIN' }, tls: {} } },
    deadLetter: { kafka: { topic: 'dlq', bootstrapServers: 'k:1' } },
    state: { ttl: '5m', profileApi: { url: 'http://api' } },
    taskManager: { replicas: 2, slots: 2, memory: { managedFraction: 0.5, networkMin: '32Mi' } },
    restartStrategy: { type: 'fixed-delay', fixedDelay: { attempts: 3 } },
    savepoints: { directory: 's3://bucket/savepoints' },
    flinkConfiguration: { 'rest.port': 8082, heartbeat: { interval: '1 s' } },
  });

  it('is a plan or faults that name their field, never an exception', () => {
    assert.ok('plan' in resolveJob(full));
    const paths = pathsIn(full).filter((path) => path.length > 0);
    let refused = 0;
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.jsonValue({ maxDepth: 3 }), (path, value) => {
        const doc = structuredClone(full);
        let parent: Record<string, unknown> = doc;
        for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>;
        parent[path.at(-1) ?? ''] = value;
        const resolution = resolveJob(doc);
        if ('plan' in resolution) return;
        refused++;
        for (const fault of resolution.faults) assert.ok(fault.message.startsWith(fault.path));
      }),
      { seed: 11, numRuns: 2000 },
    );
    assert.ok(refused > 1000, `${refused} of 2000 refused`);
  });
});
