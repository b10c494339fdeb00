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
const ESTABLISHED_LIMIT_MS = 120_000;
const STARVED_LIMIT_MS = 300_000;
const POLL_MS = 50;
const REQUESTS_AT_ONCE = 3;
const RULES_GOAL_S = 120;

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
  return await refusalOf(() =>
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
    return await refusalOf(() =>
      objects.replaceNamespacedCustomObject({ ...target(kind), name, body, dryRun: 'All' }),
    );
  } finally {
    await objects.deleteNamespacedCustomObject({ ...target(kind), name });
  }
}

const judged = (bad: BadSpec, kind: Kind): Promise<Refusal | null> =>
  bad.before === undefined ? created(jobWith(bad.spec), kind) : changed(bad, kind);

/** Again while a starved server cuts the connection or gives up by itself. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (const end = Date.now() + STARVED_LIMIT_MS; ; await wait(1000)) {
    try {
      return await call();
    } catch (error) {
      const busy = error instanceof ApiException && [429, 500, 503, 504].includes(error.code);
      if ((!busy && !(error instanceof TypeError)) || Date.now() > end) throw error;
    }
  }
}

async function refusalOf(call: () => Promise<unknown>): Promise<Refusal | null> {
  try {
    await patiently(call);
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
  await patiently(() => objects.createClusterCustomObject({ ...DEFINITIONS, body: crd })).catch(
    (error: unknown) => {
      // Made by a try whose answer was lost.
      if (!(error instanceof ApiException) || error.code !== 409) throw error;
    },
  );
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

  it('scales TaskManagers whose number the spec leaves out, up to the key groups', async () => {
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

/** The CRD without the rules whose index is `removed`, in a group of its own. */
function crdWithout(removed: (index: number) => boolean, name: string): Definition {
  const crd = definition();
  crd.spec.group = `${name}.example.com`;
  crd.spec.names = { kind: 'TriggerJob', plural: 'triggerjobs' };
  crd.metadata.name = `triggerjobs.${name}.example.com`;
  withoutDescriptions(crd);
  for (const [index, { list, rule }] of rulesIn(crd).entries()) {
    if (removed(index)) list.splice(list.indexOf(rule), 1);
  }
  return crd;
}

const definition = () => structuredClone(triggerJobCrd()) as unknown as Definition;

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

/**
 * Whether the field of a bad spec is the one of a rule. A rule on the entries of a list or map says
 * `[]` or `*` where the spec says which one.
 */
function isAbout(bad: BadSpec, { at, rule }: PlacedRule): boolean {
  const below = (rule.fieldPath ?? '').replaceAll(/\['(.*?)'\]/g, '.$1');
  const names = `${at}${below}`.split('.').map((name) => (name === '*' ? '[^.]+' : name));
  const pattern = names.map((name) => name.replaceAll('[]', '\\[\\d+\\]'));
  return new RegExp(`^${pattern.join('[.]')}$`).test(bad.field);
}

/** For each of `specs`, whether the CRD accepts it. The CRD goes afterwards. */
async function accepted(crd: Definition, specs: readonly BadSpec[]): Promise<boolean[]> {
  const kind = await install(crd);
  const verdicts: boolean[] = [];
  const queue = [...specs.entries()].toReversed();
  const work = async () => {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      verdicts[next[0]] = (await created(jobWith(next[1].spec), kind)) === null;
    }
  };
  await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, work));
  // One after another: each makes and removes an object of the same name.
  for (const [index, bad] of specs.entries()) {
    if (bad.before !== undefined) verdicts[index] = (await changed(bad, kind)) === null;
  }
  const { name } = crd.metadata;
  await patiently(() => objects.deleteClusterCustomObject({ ...DEFINITIONS, name }));
  return verdicts;
}

/**
 * A hundred and more CRDs, each without one rule, would take an API server many minutes. Half of
 * the rules are left out at a time instead, by each bit of their index and its opposite. A bad spec
 * that is accepted exactly where rule R is left out shows R alone at work: for every other rule
 * there is a CRD that has it, lacks R, and accepts the spec; so the CRD that lacks R alone accepts
 * it too.
 */
describe('each rule in CEL', () => {
  it('is needed: exactly where it is left out, a bad spec is accepted', async () => {
    const startedAt = performance.now();
    const rules = rulesIn(definition());
    assert.ok(rules.length > 120, `${rules.length} rules`);
    const specs = BAD_SPECS.filter((bad) => rules.some((rule) => isAbout(bad, rule)));
    const bits = Math.ceil(Math.log2(rules.length));
    const halves = Array.from({ length: 2 * bits }, (_, half) => (index: number) => {
      return ((index >> (half >> 1)) & 1) === (half & 1);
    });
    const verdicts: boolean[][] = [];
    for (const [half, removed] of halves.entries()) {
      verdicts.push(await accepted(crdWithout(removed, `half${half}`), specs));
    }
    const witnessOf = (placed: PlacedRule, index: number) =>
      specs.find(
        (bad, at) =>
          isAbout(bad, placed) &&
          halves.every((removed, half) => verdicts[half]?.[at] === removed(index)),
      );
    const unseen = rules.filter((placed, index) => witnessOf(placed, index) === undefined);
    const seconds = (performance.now() - startedAt) / 1000;
    const verdict = seconds <= RULES_GOAL_S ? 'reached' : 'missed';
    process.stdout.write(
      `${rules.length} rules, ${specs.length} bad specs, ${halves.length} CRDs: ` +
        `${seconds.toFixed(1)} s, goal ${RULES_GOAL_S} s, ${verdict}\n`,
    );
    assert.deepEqual(
      unseen.map(({ at, rule }) => `${at}${rule.fieldPath ?? ''}: ${rule.message}`),
      [],
      'rules whose absence no bad spec shows',
    );
  });

  it('is seen to be missing: a spec only it refuses passes without it', async () => {
    const index = rulesIn(definition()).findIndex(({ rule }) => rule.fieldPath === '.keyBy');
    const specs = BAD_SPECS.filter(({ field }) => field === 'spec.keyBy');
    const crd = crdWithout((other) => other === index, 'alone');
    const passed = (await accepted(crd, specs)).flatMap((yes, at) =>
      yes ? [specs[at]?.what] : [],
    );
    assert.deepEqual(passed, ['another key', 'a key taken away']);
  });
});
