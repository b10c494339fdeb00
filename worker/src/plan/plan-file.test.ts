/** Loading from YAML: positions, syntax faults, scripts from elsewhere, local directories. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type LoadOptions, loadPlanFile } from './plan-file.ts';

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'plan-file-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const put = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

const load = (text: string, options?: LoadOptions) => loadPlanFile(put('job.yaml', text), options);

/** `line:column path` of each fault. */
const placesOf = async (text: string) => {
  const { faults } = await load(text);
  return faults.map(({ line, column, path }) => `${line}:${column} ${path}`);
};

const HEAD = `apiVersion: triggerjob.io/v1alpha1
kind: TriggerJob
metadata:
  name: x
`;
/** Lines 5 to 12. */
const GOOD = `${HEAD}spec:
  source:
    datagen: {}
  filter:
    script: "true"
  action:
    debug: {}
`;

describe('a good file', () => {
  it('gives plan and document', async () => {
    const { plan, doc, faults } = await load(GOOD);
    assert.deepEqual(faults, []);
    assert.equal(plan?.name, 'x');
    assert.equal((doc as { kind: string }).kind, 'TriggerJob');
  });

  it('keeps its state below the working directory, or where it is told to', async () => {
    const here = await load(GOOD);
    const expected = `file://${resolve('.triggerjob')}/checkpoints/`;
    assert.equal(here.plan?.checkpointing.directory, expected);
    const there = await load(GOOD, { stateDir: '/some/where' });
    assert.equal(there.plan?.checkpointing.directory, 'file:///some/where/checkpoints/');
    assert.equal(there.plan?.localStateDir, '/some/where/rocksdb');
  });

  it('must name its directories when it is read for a cluster', async () => {
    const { faults } = await load(GOOD, { stateDir: null });
    assert.deepEqual(
      faults.map(({ path, line }) => [path, line]),
      [['spec.checkpointing.directory', 5]],
    );
  });

  it('may use anchors and merge keys', async () => {
    const { plan, faults } = await load(`${GOOD}  jobManager:
    resources: &r { limits: { memory: 2Gi } }
  taskManager:
    resources: { <<: *r, requests: { memory: 1Gi } }
`);
    assert.deepEqual(faults, []);
    assert.equal(plan?.memory.processBytes, 2 * 1024 ** 3);
  });
});

describe('positions', () => {
  it("are those of the field, an unknown one's own, a missing one's nearest parent", async () => {
    const text = `${HEAD}spec:
  source:
    kafka:
      bootstrapServers: nowhere
  filter: { script: "true", langage: aviator }
  action:
    debug: {}
  state: { ttl: 5 }
`;
    assert.deepEqual(await placesOf(text), [
      '7:5 spec.source.kafka.topic',
      '8:7 spec.source.kafka.bootstrapServers',
      '9:29 spec.filter.langage',
      '12:12 spec.state.ttl',
    ]);
  });

  it('reach into lists, aliases and dotted keys', async () => {
    const text = `${HEAD}spec:
  source:
    file:
      paths:
        - ok.ndjson
        - 5
  filter: { script: "true" }
  action: { debug: {} }
  flinkConfiguration:
    execution:
      checkpointing.interval: soon
    state.backend: heap
  jobManager: &j
    resources: { limits: { cpu: many } }
  taskManager: *j
`;
    assert.deepEqual(await placesOf(text), [
      '10:11 spec.source.file.paths[1]',
      '15:7 spec.flinkConfiguration.execution.checkpointing.interval',
      '16:5 spec.flinkConfiguration.state.backend',
      '18:28 spec.jobManager.resources.limits.cpu',
      '18:28 spec.taskManager.resources.limits.cpu',
    ]);
  });

  it("of what is missing everywhere are the document's", async () => {
    assert.deepEqual(await placesOf('# nothing yet\nkind: TriggerJob\n'), [
      '2:1 apiVersion',
      '2:1 metadata',
      '2:1 spec',
    ]);
  });
});

describe('YAML faults', () => {
  const first = async (text: string) => {
    const { faults, plan } = await load(text);
    assert.equal(plan, null);
    const [fault] = faults;
    return `${fault?.line}:${fault?.column} ${fault?.message}`;
  };

  it('name the place of a syntax error', async () => {
    assert.match(await first(`${HEAD}spec: {\n  a: [1\n`), /^\d+:\d+ YAML: /);
    assert.match(await first(`${HEAD}spec:\n\tsource: x\n`), /^6:\d+ YAML: .*[Tt]ab/);
  });

  it('stand beside the others for a key that is given twice', async () => {
    const text = `${GOOD}  keyBy: a\n  keyBy: b\n  parallelism: x\n`;
    const { faults } = await load(text);
    assert.deepEqual(
      faults.map(({ line, message }) => [line, message.slice(0, 30)]),
      [
        [13, 'YAML: this key is given twice:'],
        [14, 'spec.parallelism must be a who'],
      ],
    );
    const alone = await load(`${GOOD}  keyBy: a\n  keyBy: a\n`);
    assert.equal(alone.plan, null);
    assert.equal(alone.faults.length, 1);
  });

  it('are unknown tags, an anchor within itself, and too many aliases', async () => {
    assert.match(await first(`${GOOD}  keyBy: !secret x\n`), /^12:\d+ YAML: .*tag/);
    assert.match(await first(`${GOOD}  flinkConfiguration: &a { b: *a }\n`), /YAML: /);
    const bomb = ['a: &a0 [x, x]'];
    for (let i = 1; i < 20; i++) {
      bomb.push(
        `b${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      );
    }
    assert.match(await first(bomb.join('\n')), /YAML: .*alias/);
  });

  it('are a file without a TriggerJob, or with two', async () => {
    assert.match(await first(''), /1:1 the file is empty/);
    assert.match(await first('# only a comment\n---\n'), /the file is empty/);
    assert.match(await first(`${GOOD}---\n${GOOD}`), /second TriggerJob/);
    assert.match(await first('just text\n'), /1:1 the document must be a TriggerJob/);
    assert.match(
      await first('kind: Deployment\n'),
      /kind is "Deployment", must be TriggerJob|apiVersion/,
    );
  });

  it('are files that are not there, or far too big', async () => {
    const gone = await loadPlanFile(join(folder, 'gone.yaml'));
    assert.match(gone.faults[0]?.message ?? '', /gone\.yaml can't be read: ENOENT/);
    const big = await load(`# ${'x'.repeat(1024 * 1024)}\n`);
    assert.match(big.faults[0]?.message ?? '', /at most 1048576/);
  });
});

describe('scripts', () => {
  const withFilter = (filter: string) => GOOD.replace('script: "true"', filter);

  it('come from a file beside the job file', async () => {
    put('match.av', 'event.triggerable');
    const { plan } = await load(withFilter('scriptFile: match.av'));
    assert.deepEqual([plan?.filter.script, plan?.filter.origin], ['event.triggerable', 'match.av']);
  });

  it('are a fault at scriptFile when that file is gone or too big', async () => {
    const gone = await load(withFilter('scriptFile: gone.av'));
    assert.match(gone.faults[0]?.message ?? '', /^spec\.filter\.scriptFile was not read: .*ENOENT/);
    assert.equal(gone.faults[0]?.line, 9);
    put('big.av', 'x'.repeat(70_000));
    const big = await load(withFilter('scriptFile: big.av'));
    assert.match(big.faults[0]?.message ?? '', /at most 65536/);
  });

  const ref = 'scriptFrom: { configMapKeyRef: { name: filter, key: f.av } }';
  const configMap = (data: string) =>
    `apiVersion: v1\nkind: ConfigMap\nmetadata: { name: filter }\n${data}\n---\n`;

  it('come from a ConfigMap in the same file', async () => {
    const { plan } = await load(configMap('data: { f.av: "true" }') + withFilter(ref));
    assert.deepEqual(
      [plan?.filter.script, plan?.filter.origin],
      ['true', 'ConfigMap filter, key f.av'],
    );
  });

  it('are a fault when the ConfigMap lacks the key or is nowhere', async () => {
    const lacking = await load(configMap('data: { other: "true" }') + withFilter(ref));
    assert.match(lacking.faults[0]?.message ?? '', /ConfigMap filter does not have: add it/);
    assert.equal(lacking.faults[0]?.line, 14);
    const nowhere = await load(withFilter(ref));
    assert.match(
      nowhere.faults[0]?.message ?? '',
      /into this file, or the script at \/etc\/triggerjob\/config\/filter\/f\.av/,
    );
  });

  it('are not looked for outside of the mount', async () => {
    const odd = ref.replace('f.av', '../../../../etc/hostname');
    const { faults } = await load(withFilter(odd));
    assert.ok(faults.some(({ path }) => path.endsWith('configMapKeyRef.key')));
    assert.ok(faults.every(({ message }) => !message.includes('/etc/triggerjob')));
  });
});

describe('a file in a cluster', () => {
  it('finds every secret where the operator mounts it, and needs no local directory', async () => {
    const { plan, faults } = await load(
      `${HEAD}spec:
  parallelism: 2
  source:
    kafka:
      bootstrapServers: kafka:9093
      topic: events
      securityRef: { name: kafka-creds }
      tls: { ca: ca.crt, cert: tls.crt, key: tls.key }
      sasl: { mechanism: SCRAM-SHA-512 }
  filter:
    scriptFrom: { configMapKeyRef: { name: filters, key: events.av } }
  action:
    webhook: { url: "https://example.com/hook", signingSecretRef: { name: hook, key: hmac } }
  checkpointing:
    directory: s3://checkpoints/
    s3: { credentialsRef: { name: s3-creds } }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: filters }
data: { events.av: "true" }
`,
      { stateDir: null },
    );
    assert.deepEqual(faults, []);
    assert.ok(plan?.source.kind === 'kafka' && plan.action.kind === 'webhook');
    const mounted = (name: string, key: string) => `/etc/triggerjob/secrets/${name}/${key}`;
    const { tls, sasl } = plan.source.connection;
    assert.equal(tls?.ca, mounted('kafka-creds', 'ca.crt'));
    assert.equal(tls?.key, mounted('kafka-creds', 'tls.key'));
    assert.equal(sasl?.password.path, mounted('kafka-creds', 'password'));
    assert.equal(plan.action.signingSecret?.path, mounted('hook', 'hmac'));
    assert.deepEqual(plan.checkpointing.s3.credentials, {
      accessKey: { path: mounted('s3-creds', 'access-key') },
      secretKey: { path: mounted('s3-creds', 'secret-key') },
    });
    assert.equal(plan.savepointDirectory, 's3://checkpoints/_savepoints/');
    assert.deepEqual([plan.rest.bindAddress, plan.rpc.bindAddress], ['0.0.0.0', '0.0.0.0']);
  });
});
