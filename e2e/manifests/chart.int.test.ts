/**
 * The chart, rendered by Helm and installed on a real API server (without pods): what is generated
 * is up to date, the rights suffice for all that the operator applies and for nothing else, keys
 * and CRD outlive upgrades and the chart itself.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { V1PodSpec } from '@kubernetes/client-node';
import { parse, parseAllDocuments } from 'yaml';
import { desiredObjects } from '../../operator/src/desired/desired.ts';
import { SETTINGS, sampleJob } from '../../operator/src/desired/job-for-tests.ts';
import { restrictedFaults } from '../../operator/src/desired/restricted-pods.ts';
import { type ControlPlane, startControlPlane } from '../testbed/kubernetes/control-plane.ts';
import { DASHBOARDS, rulesYaml } from './monitoring/files.ts';
import { grafanaJson } from './monitoring/panel.ts';
import { CHART, generatedFiles, helm, ROOT, template } from './render.ts';

/** Ten times what it takes on a busy machine. */
const DISCOVERY_LIMIT_MS = 100_000;
const NAMESPACE = 'triggerjob-system';
const OPERATOR = `system:serviceaccount:${NAMESPACE}:triggerjob-operator`;

interface Rendered {
  kind: string;
  metadata: { name: string; namespace?: string; annotations?: Record<string, string> };
  spec?: { template?: { spec: V1PodSpec } } & Partial<V1PodSpec>;
  rules?: { resources: string[]; verbs: string[] }[];
  data?: Record<string, string>;
}

const set = (...settings: string[]): string[] => settings.flatMap((one) => ['--set', one]);

const render = async (...settings: string[]): Promise<Rendered[]> =>
  (await template(...set(...settings))).map((document) => document.toJS());

const names = (objects: Rendered[]): string[] =>
  objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort();

describe('the chart as rendered', () => {
  it('passes helm lint', async () => {
    assert.match(await helm('lint', '--strict', CHART), /0 chart\(s\) failed/);
  });

  it('is what its README, config/ and dist/install.yaml were generated from', async () => {
    for (const [path, text] of await generatedFiles()) {
      const stored = await readFile(join(ROOT, path), 'utf8').catch(() => '');
      assert.ok(stored === text, `${path} is out of date: npm run manifests`);
    }
  });

  it('has pods that the restricted Pod Security Standard lets in', async () => {
    const install = parseAllDocuments(await readFile(join(ROOT, 'dist/install.yaml'), 'utf8'));
    const objects = [...(await render()), ...install.map((document) => document.toJS())];
    const pods = objects.flatMap(({ kind, spec }) =>
      kind === 'Pod' ? (spec as V1PodSpec) : (spec?.template?.spec ?? []),
    );
    assert.equal(pods.length, 4);
    for (const pod of pods) assert.deepEqual(restrictedFaults(pod), []);
  });

  it('asks for no verb but create on Secrets', async () => {
    const rules = (await render()).flatMap(({ rules: given = [] }) => given);
    const verbs = rules.flatMap((rule) => (rule.resources.includes('secrets') ? rule.verbs : []));
    assert.deepEqual(verbs, ['create']);
    assert.ok(!rules.some((rule) => [...rule.resources, ...rule.verbs].includes('*')));
  });

  it('keeps to the namespaces that are named, but for nodes and volumes', async () => {
    const objects = await render('watchNamespaces={one,two}', 'rbac.aggregate=false');
    const cluster = objects.filter(({ kind }) => kind === 'ClusterRole');
    assert.deepEqual(
      cluster.flatMap(({ rules = [] }) => rules.flatMap((rule) => rule.resources)),
      ['nodes', 'persistentvolumes'],
    );
    const places = objects.flatMap(({ kind, metadata }) =>
      kind === 'Role' ? metadata.namespace : [],
    );
    assert.deepEqual(places.toSorted(), ['one', 'triggerjob-system', 'two']);
    const deployment = JSON.stringify(objects.find(({ kind }) => kind === 'Deployment'));
    assert.match(deployment, /"--namespaces=one,two"/);
  });

  it('has only what is asked for', async () => {
    const monitoring = ['serviceMonitor', 'podMonitor', 'prometheusRule', 'dashboards'];
    const objects = await render(...monitoring.map((one) => `${one}.enabled=true`));
    const all = names(objects);
    const few = names(
      await render(
        'crds.install=false',
        'podDisruptionBudget.enabled=false',
        'networkPolicy.enabled=false',
        'rbac.create=false',
        'serviceAccount.create=false',
        'hmacKey.existingSecret=mine',
      ),
    );
    assert.deepEqual(few, [
      'Deployment triggerjob-operator',
      'Pod triggerjob-operator-test',
      'Service triggerjob-operator',
    ]);
    assert.ok(all.includes('ServiceMonitor triggerjob-operator'));
    assert.ok(all.includes('PodMonitor triggerjob-operator-jobs'));
    // Helm's own braces and those of the alerts' texts are the same: these must come through.
    const rule = objects.find(({ kind }) => kind === 'PrometheusRule');
    assert.deepEqual(rule?.spec, parse(rulesYaml()));
    for (const [name, dashboard] of Object.entries(DASHBOARDS)) {
      const map = objects.find(
        (one) => one.metadata.name === `triggerjob-operator-dashboard-${name}`,
      );
      const data = JSON.parse(map?.data?.[`triggerjob-${name}.json`] ?? '{}');
      assert.deepEqual(data, JSON.parse(JSON.stringify(grafanaJson(dashboard))));
    }
    assert.ok(all.includes('CustomResourceDefinition triggerjobs.triggerjob.io'));
  });

  it('takes images by digest, who may read REST, and further variables', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const objects = await render(
      `image.digest=${digest}`,
      'jobs.restClients=anywhere',
      'extraEnv[0].name=HTTPS_PROXY',
      'extraEnv[0].value=http://proxy',
      'priorityClassName=system-cluster-critical',
    );
    const pod = objects.find(({ kind }) => kind === 'Deployment')?.spec?.template?.spec;
    const [container] = pod?.containers ?? [];
    assert.ok(container?.image?.endsWith(`@${digest}`));
    const env = new Map(container?.env?.map(({ name, value }) => [name, value]));
    assert.equal(env.get('REST_CLIENTS'), '"anywhere"');
    assert.equal(env.get('HTTPS_PROXY'), 'http://proxy');
    assert.equal(pod?.priorityClassName, 'system-cluster-critical');
  });

  for (const [setting, refusal] of [
    ['replica=2', /replica|additional/i],
    ['image.digest=latest', /image.digest/],
    ['watchNamespaces=one', /watchNamespaces/],
    ['leaderElection.leaseDuration=15', /leaseDuration/],
    ['jobs.restClients=nobody', /restClients/],
  ] as const) {
    it(`refuses ${setting}`, () => assert.rejects(render(setting), refusal));
  }
});

describe('the chart on an API server', () => {
  let plane: ControlPlane;
  const install = (verb: string, ...args: string[]) =>
    helm(verb, 'triggerjob', CHART, '-n', NAMESPACE, '--kubeconfig', plane.kubeconfig, ...args);
  const keyOf = async (): Promise<string> => {
    const get = ['-n', NAMESPACE, 'get', 'secret', 'triggerjob-operator-key', '-o', 'json'];
    return JSON.parse(await plane.kubectl(get)).data.hmac;
  };

  before(async () => {
    plane = await startControlPlane();
  });
  after(async () => {
    await plane?.stop();
  });

  it('installs, and tells three commands', async () => {
    const said = await install('install', '--create-namespace');
    const commands = said.match(/^ {2}kubectl .*$/gm) ?? [];
    assert.equal(commands.length, 3);
    // Discovery follows the CRD a moment later.
    const explain = () =>
      plane.kubectl(['explain', 'triggerjob.spec']).then(
        () => true,
        () => false,
      );
    const end = Date.now() + DISCOVERY_LIMIT_MS;
    while (!(await explain())) assert.ok(Date.now() < end, 'kubectl explain knows no triggerjob');
    assert.equal(await plane.kubectl(['get', 'triggerjobs', '-A']), '');
  });

  it('keeps the key over an upgrade', async () => {
    const key = await keyOf();
    await install('upgrade', '--set', 'replicas=3');
    assert.equal(await keyOf(), key);
  });

  it('gives the operator the rights that its objects need', async () => {
    await plane.kubectl(['create', 'namespace', 'triggers']);
    const job = sampleJob('first');
    const asOperator = (...args: string[]) => [`--as=${OPERATOR}`, ...args];
    for (const object of desiredObjects(job, { run: 1 }, SETTINGS)) {
      const verb = object.kind === 'Secret' ? ['create'] : ['apply', '--server-side'];
      await plane.kubectl(asOperator(...verb, '-f', '-'), JSON.stringify(object));
    }
    const replicas = [
      'patch',
      'statefulset/user-events-taskmanager',
      '-p',
      '{"spec":{"replicas":2}}',
    ];
    await plane.kubectl([...asOperator('-n', 'triggers'), ...replicas]);
    const can = async (...args: string[]) =>
      await plane.kubectl([...asOperator('auth', 'can-i', '-n', 'triggers'), ...args]).then(
        () => true,
        () => false,
      );
    for (const verb of ['get', 'list', 'watch', 'patch', 'update', 'delete']) {
      assert.equal(await can(verb, 'secrets'), false, `${verb} secrets`);
    }
    assert.equal(await can('create', 'pods'), false);
    assert.equal(await can('patch', 'triggerjobs', '--subresource=status'), true);
    assert.equal(await can('delete', 'persistentvolumeclaims'), true);
    assert.equal(await can('list', 'nodes'), true);
  });

  it('keeps CRD and key when it is uninstalled, and takes them over again', async () => {
    const key = await keyOf();
    await helm('uninstall', 'triggerjob', '-n', NAMESPACE, '--kubeconfig', plane.kubeconfig);
    await plane.kubectl(['get', 'crd/triggerjobs.triggerjob.io']);
    await install('install');
    assert.equal(await keyOf(), key);
  });

  it('is the same as kustomize builds and dist/install.yaml holds', async () => {
    const built = await plane.kubectl(['kustomize', join(ROOT, 'config/default')]);
    const file = join(ROOT, 'dist/install.yaml');
    const sorted = (text: string) =>
      names(parseAllDocuments(text).map((document): Rendered => document.toJS()));
    assert.deepEqual(sorted(built), sorted(await readFile(file, 'utf8')));
    await plane.kubectl(['apply', '--server-side', '--force-conflicts', '-f', file]);
  });

  it('makes a key without Helm, once, by a Job with no other right', async () => {
    await plane.kubectl(['-n', NAMESPACE, 'delete', 'secret', 'triggerjob-operator-key']);
    const documents = parseAllDocuments(
      await readFile(join(ROOT, 'config/manager/key.yaml'), 'utf8'),
    );
    const job = documents.map((document): Rendered => document.toJS()).at(-1);
    const [container] = job?.spec?.template?.spec.containers ?? [];
    const account = await mkdtemp(join(tmpdir(), 'triggerjob-key-'));
    try {
      const create = ['-n', NAMESPACE, 'create', 'token', 'triggerjob-operator-key'];
      await writeFile(join(account, 'token'), await plane.kubectl(create));
      await writeFile(join(account, 'namespace'), NAMESPACE);
      const config = parse(await readFile(plane.kubeconfig, 'utf8'));
      const authority = config.clusters[0].cluster['certificate-authority-data'];
      await writeFile(join(account, 'ca.crt'), Buffer.from(authority, 'base64'));
      const { hostname, port } = new URL(plane.server);
      const env = {
        ACCOUNT: account,
        KUBERNETES_SERVICE_HOST: hostname,
        KUBERNETES_SERVICE_PORT: port,
        NODE_EXTRA_CA_CERTS: join(account, 'ca.crt'),
      };
      const make = async () => {
        const args = container?.command?.slice(1) ?? [];
        const child = spawn(process.execPath, args, { env, stdio: 'inherit' });
        const [code] = await once(child, 'exit');
        assert.equal(code, 0);
        return await keyOf();
      };
      const key = await make();
      assert.match(Buffer.from(key, 'base64').toString(), /^[0-9a-f]{64}$/);
      assert.equal(await make(), key);
    } finally {
      await rm(account, { recursive: true });
    }
  });
});
