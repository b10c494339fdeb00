/**
 * Issue 5, admission: a real API server takes the CRD and refuses every bad spec by itself, naming
 * the field; each rule in CEL is needed, since without it one of them is accepted; kubectl shows
 * what the CRD says. Objects are created with dry-run, by the server's own validation.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ApiException, CustomObjectsApi, KubeConfig } from '@kubernetes/client-node';
import { parseAllDocuments } from 'yaml';
import type { CelRule } from '../../worker/src/plan/cel.ts';
import { triggerJobCrd } from '../../worker/src/plan/crd.ts';
import { jobWith } from '../../worker/src/plan/job-for-tests.ts';
import { resolveJob } from '../../worker/src/plan/resolve.ts';
import { type ControlPlane, startControlPlane } from '../testbed/kubernetes/control-plane.ts';
import { BAD_SPECS, type BadSpec } from './bad-specs.ts';

type Fields = Record<string, unknown>;

const SAMPLES = fileURLToPath(new URL('../../config/samples/', import.meta.url));
const CRD_FILE = fileURLToPath(new URL('../../crds/triggerjobs.yaml', import.meta.url));
const VALIDATIONS = 'x-kubernetes-validations';
const GROUP = 'triggerjob.io';
const NAMESPACE = 'default';
/** Ten times what the server usually takes for a new CRD. */
const ESTABLISHED_LIMIT_MS = 60_000;
const POLL_MS = 50;
const MUTANTS_AT_ONCE = 4;
const MUTANTS_GOAL_S = 120;

let plane: ControlPlane;
let objects: CustomObjectsApi;

interface Refusal {
  text: string;
  /** Fields that the server names, in the notation of bad-specs.yaml. */
  fields: string[];
}

interface Kind {
  group: string;
}

const target = ({ group }: Kind) => ({
  group,
  version: 'v1alpha1',
  namespace: NAMESPACE,
  plural: 'triggerjobs',
});

/** `job` as an object of `kind`, without what undefined stands for. */
const asKind = (job: Fields, { group }: Kind): Fields =>
  JSON.parse(JSON.stringify({ ...job, apiVersion: `${group}/v1alpha1` })) as Fields;

/** null: it would be created. */
async function created(job: Fields, kind: Kind): Promise<Refusal | null> {
  const body = asKind(job, kind);
  return await refusalOf(
    objects.createNamespacedCustomObject({
      ...target(kind),
      body,
      dryRun: 'All',
      fieldValidation: 'Strict',
    }),
  );
}

/** null: the object, which is made for this, would be changed. */
async function changed(bad: BadSpec, kind: Kind): Promise<Refusal | null> {
  const name = (jobWith().metadata as { name: string }).name;
  const old = asKind(jobWith(bad.before), kind);
  const made = await objects.createNamespacedCustomObject({ ...target(kind), body: old });
  try {
    const { metadata } = made as { metadata: Fields };
    const body = { ...asKind(jobWith(bad.spec), kind), metadata };
    return await refusalOf(
      objects.replaceNamespacedCustomObject({ ...target(kind), name, body, dryRun: 'All' }),
    );
  } finally {
    await objects.deleteNamespacedCustomObject({ ...target(kind), name });
  }
}

const judged = (bad: BadSpec, kind: Kind): Promise<Refusal | null> =>
  bad.before === undefined ? created(jobWith(bad.spec), kind) : changed(bad, kind);

async function refusalOf(call: Promise<unknown>): Promise<Refusal | null> {
  try {
    await call;
    return null;
  } catch (error) {
    if (!(error instanceof ApiException) || ![400, 422].includes(error.code)) throw error;
    const body: unknown = error.body;
    const status = (typeof body === 'string' ? JSON.parse(body) : body) as {
      message: string;
      details?: { causes?: { field?: string }[] };
    };
    const unknown = [...status.message.matchAll(/unknown field "([^"]+)"/g)].map(
      ([, path]) => path,
    );
    const causes = (status.details?.causes ?? []).map(({ field }) => field);
    const fields = [...unknown, ...causes].filter((field) => field !== undefined);
    return { text: status.message, fields: fields.map(dotted) };
  }
}

/** `a[b].c` of a map as `a.b.c`; `a[0]` of a list stays. */
const dotted = (field: string): string => field.replaceAll(/\[([^\]]*[^\]0-9][^\]]*)\]/g, '.$1');

/** As any object: the client's own type of a CRD drops the names that begin with x-kubernetes. */
const DEFINITIONS = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
};

async function install(crd: Definition): Promise<Kind> {
  await objects.createClusterCustomObject({ ...DEFINITIONS, body: crd });
  return await served({ group: crd.spec.group });
}

/** The server says that it is established a moment before it serves it: asked is what counts. */
async function served(kind: Kind): Promise<Kind> {
  const end = Date.now() + ESTABLISHED_LIMIT_MS;
  while (!(await serves(kind))) {
    assert.ok(Date.now() < end, `waited for triggerjobs.${kind.group} to be served`);
    await wait(POLL_MS);
  }
  return kind;
}

const serves = (kind: Kind): Promise<boolean> =>
  objects.listNamespacedCustomObject(target(kind)).then(
    () => true,
    () => false,
  );

before(async () => {
  plane = await startControlPlane();
  const config = new KubeConfig();
  config.loadFromFile(plane.kubeconfig);
  objects = config.makeApiClient(CustomObjectsApi);
  await plane.kubectl(['create', '--validate=strict', '-f', CRD_FILE]);
  await served({ group: GROUP });
});

after(async () => {
  await plane?.stop();
});

describe('the API server by itself', () => {
  it('accepts the good spec', async () => {
    assert.equal(await created(jobWith(), { group: GROUP }), null);
  });

  for (const bad of BAD_SPECS) {
    it(`refuses ${bad.what}`, async () => {
      const refusal = await judged(bad, { group: GROUP });
      assert.ok(refusal, 'it was accepted');
      assert.ok(refusal.fields.includes(bad.field), `${bad.field}: ${refusal.text}`);
      assert.match(refusal.text, bad.says);
    });
  }

  it('judges the samples as a local check for a cluster does', async () => {
    const verdicts = new Map<string, boolean>();
    for (const file of readdirSync(SAMPLES).filter((name) => name.endsWith('.yaml'))) {
      for (const document of parseAllDocuments(readFileSync(`${SAMPLES}${file}`, 'utf8'))) {
        const job = document.toJS() as Fields | null;
        if (job?.['kind'] !== 'TriggerJob') continue;
        const resolution = resolveJob(job);
        const paths = 'faults' in resolution ? resolution.faults.map(({ path }) => path) : [];
        const refusal = await created(job, { group: GROUP });
        assert.deepEqual(refusal?.fields ?? [], paths, `${file}: ${refusal?.text}`);
        verdicts.set(file, refusal === null);
      }
    }
    for (const name of ['triggerjob', 'small', 'medium', 'large']) {
      assert.equal(verdicts.get(`${name}.yaml`), true, name);
    }
  });
});

describe('kubectl', () => {
  const job = jobWith({ parallelism: undefined, image: 'registry/worker:1.0' });
  const name = 'tj/user-events';

  before(async () => {
    await plane.kubectl(['apply', '-f', '-'], JSON.stringify(job));
  });

  after(async () => {
    await plane.kubectl(['delete', name]);
  });

  it('explains the fields', async () => {
    const text = await plane.kubectl(['explain', 'tj.spec.taskManager']);
    assert.match(text, /The processes that work\./);
    assert.match(text, /slots\s+<integer>\s+Subtasks per process, each with its own thread\./);
    assert.match(await plane.kubectl(['explain', 'tj.status.lag']), /not processed yet/);
  });

  it('shows what the status says', async () => {
    const completedAt = new Date(Date.now() - 20_000).toISOString();
    const status = {
      state: 'Running',
      ready: '1/1',
      replicas: 1,
      selector: 'triggerjob.io/job=user-events',
      parallelism: 4,
      lag: 120,
      restarts: 2,
      lastCheckpoint: { id: 12, completedAt },
      lastSavepoint: 's3://sp/1',
      conditions: [{ type: 'Ready', status: 'True', reason: 'AllRunning' }],
    };
    const patch = JSON.stringify({ status });
    await plane.kubectl(['patch', name, '--subresource=status', '--type=merge', '-p', patch]);
    const [header = '', row = ''] = (await plane.kubectl(['get', 'tj', '-o', 'wide'])).split('\n');
    assert.deepEqual(header.split(/\s+/), [
      ...['NAME', 'STATE', 'READY', 'PARALLELISM', 'LAG', 'LAST-CHECKPOINT', 'RESTARTS', 'AGE'],
      ...['TOPIC', 'LAST-SAVEPOINT', 'IMAGE', 'REASON'],
    ]);
    const shown = /^user-events +Running +1\/1 +4 +120 +[0-9]+s +2 +[0-9]+s +events +s3:\/\/sp\/1 /;
    assert.match(row, shown);
    assert.match(row, /registry\/worker:1\.0 +AllRunning$/);
    const short = await plane.kubectl(['get', 'tj']);
    assert.doesNotMatch(short, /TOPIC|IMAGE/);
  });

  it('refuses a status that is none', async () => {
    const patch = JSON.stringify({ status: { state: 'Fine' } });
    await assert.rejects(
      plane.kubectl(['patch', name, '--subresource=status', '--type=merge', '-p', patch]),
      /status\.state: Unsupported value: "Fine"/,
    );
  });

  it('scales TaskManagers whose number the spec leaves out, and not beyond the key groups', async () => {
    await plane.kubectl(['scale', name, '--replicas=3']);
    const path = ['get', name, '-o', 'jsonpath={.spec.taskManager.replicas} {.spec.parallelism}'];
    assert.equal(await plane.kubectl(path), '3 ');
    await assert.rejects(
      plane.kubectl(['scale', name, '--replicas=300']),
      /spec\.parallelism: Invalid value: .*is 1200, more than maxParallelism 1024/,
    );
    const selector = await plane.kubectl([
      'get',
      name,
      '--subresource=scale',
      '-o',
      'jsonpath={.status.selector}',
    ]);
    assert.equal(selector, 'triggerjob.io/job=user-events');
  });

  it('does not list TriggerJobs among everything', async () => {
    assert.doesNotMatch(await plane.kubectl(['get', 'all']), /user-events/);
    assert.match(await plane.kubectl(['get', 'triggers']), /user-events/);
  });
});

interface Definition {
  metadata: { name: string };
  spec: {
    group: string;
    names: Fields;
    versions: { schema: { openAPIV3Schema: Fields } }[];
  };
}

interface Mutant {
  crd: Definition;
  rule: CelRule;
  /** Where the rule stands, and the field that it is about. */
  at: string;
  field: string;
}

/** The CRD once for each rule, without that rule, in a group of its own. */
function mutants(): Mutant[] {
  const count = rulesIn(triggerJobCrd() as unknown as Definition).length;
  return Array.from({ length: count }, (_, index) => {
    const crd = structuredClone(triggerJobCrd()) as unknown as Definition;
    crd.spec.group = `m${index}.example.com`;
    crd.spec.names = { kind: 'TriggerJob', plural: 'triggerjobs' };
    crd.metadata.name = `triggerjobs.m${index}.example.com`;
    withoutDescriptions(crd);
    const found = rulesIn(crd)[index];
    assert.ok(found);
    const { list, rule, at } = found;
    list.splice(list.indexOf(rule), 1);
    const below = (rule.fieldPath ?? '').replaceAll(/\['(.*?)'\]/g, '.$1');
    return { crd, rule, at, field: `${at}${below}` };
  });
}

interface PlacedRule {
  list: CelRule[];
  rule: CelRule;
  at: string;
}

function rulesIn(crd: Definition): PlacedRule[] {
  return crd.spec.versions.flatMap(({ schema }) => [...placedRules(schema.openAPIV3Schema, '')]);
}

function* placedRules(node: Fields, at: string): Generator<PlacedRule> {
  const list = (node[VALIDATIONS] ?? []) as CelRule[];
  for (const rule of list) yield { list, rule, at };
  const dot = at === '' ? '' : `${at}.`;
  for (const [name, child] of Object.entries((node['properties'] ?? {}) as Fields)) {
    yield* placedRules(child as Fields, `${dot}${name}`);
  }
  if (node['items']) yield* placedRules(node['items'] as Fields, `${at}[]`);
  const entries = node['additionalProperties'];
  if (entries) yield* placedRules(entries as Fields, `${at}.*`);
}

/** The server need not publish the manual a hundred times. */
function withoutDescriptions(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, child] of Object.entries(value as Fields)) {
    if (key === 'description' && typeof child === 'string') delete (value as Fields)[key];
    else withoutDescriptions(child);
  }
}

/** A bad spec's field in the notation of a mutant: `env[0].name` as `env[].name`. */
function isAbout(bad: BadSpec, { field }: Mutant): boolean {
  const pattern = field
    .split('.')
    .map((name) => (name === '*' ? '[^.]+' : name.replaceAll('[]', '\\[\\]')));
  return new RegExp(`^${pattern.join('[.]')}$`).test(bad.field.replaceAll(/\[\d+\]/g, '[]'));
}

/** A bad spec that is accepted without the rule, or what the server said of all that were tried. */
async function survivor(mutant: Mutant): Promise<{ red: BadSpec } | { refusals: string[] }> {
  const kind = await install(mutant.crd);
  const refusals: string[] = [];
  try {
    for (const bad of BAD_SPECS.filter((candidate) => isAbout(candidate, mutant))) {
      const refusal = await judged(bad, kind);
      if (refusal === null) return { red: bad };
      refusals.push(`${bad.what}: ${refusal.text}`);
    }
    return { refusals };
  } finally {
    const { name } = mutant.crd.metadata;
    await objects.deleteClusterCustomObject({ ...DEFINITIONS, name });
  }
}

describe('each rule in CEL', () => {
  it('is needed: without it a bad spec is accepted', async () => {
    const startedAt = performance.now();
    const queue = mutants();
    const total = queue.length;
    const faults: string[] = [];
    const work = async () => {
      for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
        const outcome = await survivor(mutant);
        if ('red' in outcome) continue;
        const { field, rule } = mutant;
        faults.push([`${field}: ${rule.message}`, ...outcome.refusals].join('\n    '));
      }
    };
    await Promise.all(Array.from({ length: MUTANTS_AT_ONCE }, work));
    const seconds = (performance.now() - startedAt) / 1000;
    const verdict = seconds <= MUTANTS_GOAL_S ? 'reached' : 'missed';
    process.stdout.write(
      `${total} CRDs, each without one of its rules: ${seconds.toFixed(1)} s, ` +
        `goal ${MUTANTS_GOAL_S} s, ${verdict}\n`,
    );
    assert.ok(total > 120, `${total} rules`);
    assert.deepEqual(faults, [], 'rules whose absence no bad spec shows');
  });
});
