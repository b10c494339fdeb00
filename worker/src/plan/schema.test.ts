/** The schema is a manual, and the walk of validate.ts agrees with TypeBox's own reading of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Value } from 'typebox/value';
import { Faults } from './fault.ts';
import { jobWith, planOf } from './job-for-tests.ts';
import { type TriggerJob, triggerJobSchema } from './schema.ts';
import { nodeOf, type SchemaNode } from './schema-fields.ts';
import { checkShape } from './validate.ts';

function* fieldsOf(node: SchemaNode, path: string): Generator<[string, SchemaNode]> {
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    yield [`${path}.${name}`, child];
    yield* fieldsOf(child, `${path}.${name}`);
  }
}

const spec = nodeOf(triggerJobSchema).properties?.['spec'] ?? {};

describe('the schema', () => {
  it('describes every field with example, default or choices', () => {
    let count = 0;
    for (const [path, node] of fieldsOf(spec, 'spec')) {
      count++;
      assert.ok((node.description ?? '').length > 8, `${path} has no description`);
      if (node.type === 'object') continue;
      assert.match(node.description ?? '', /Example: |Values: /, path);
      if (node.default !== undefined) assert.match(node.description ?? '', /Default: /, path);
    }
    assert.ok(count > 120, `${count} fields`);
  });

  it('names a default for every optional scalar, or says what leaving it out means', () => {
    const leftOut = /Default: |instead of|Kubernetes|With startingOffsets|default/i;
    const plain = /(tls|sasl|limits|requests)\.|script|signingSecretFile|securityRef|bootstrap/;
    for (const [path, node] of fieldsOf(spec, 'spec')) {
      const required = path.split('.').at(-1) ?? '';
      if (node.type === 'object' || node.default !== undefined || plain.test(path)) continue;
      const parent = path
        .slice(0, -required.length - 1)
        .split('.')
        .slice(1);
      let owner = spec;
      for (const key of parent) owner = owner.properties?.[key] ?? {};
      if (owner.required?.includes(required)) continue;
      if (node.type === undefined && node.rule === undefined) continue;
      assert.match(node.description ?? '', leftOut, path);
    }
  });

  it('accepts its own examples and defaults', () => {
    for (const [path, node] of fieldsOf(spec, 'spec')) {
      const own = [...(node.examples ?? []), ...(node.default === undefined ? [] : [node.default])];
      for (const example of own) {
        const faults = new Faults();
        checkShape(node, example, path, faults);
        assert.deepEqual(faults.list, [], path);
      }
    }
  });

  it("gives the user's type", () => {
    const job: TriggerJob = {
      apiVersion: 'triggerjob.io/v1alpha1',
      kind: 'TriggerJob',
      metadata: { name: 'x' },
      spec: { source: { datagen: {} }, filter: { script: 'true' }, action: { debug: {} } },
    };
    assert.ok(Value.Check(triggerJobSchema, job));
    // @ts-expect-error an unknown language is no TriggerJob
    job.spec.filter.language = 'cel';
    assert.ok(!Value.Check(triggerJobSchema, job));
  });
});

describe('validate.ts and TypeBox', () => {
  const verdicts: [string, Record<string, unknown>][] = [
    ['a valid job', {}],
    ['a wrong type', { parallelism: 'x' }],
    ['a broken number', { parallelism: 1.5 }],
    ['a number beyond its limit', { maxParallelism: 40_000 }],
    ['a missing field', { filter: undefined }],
    ['a deep missing field', { state: { profileApi: {} } }],
    ['a word that is none', { upgradeMode: 'never' }],
    ['a list for a map', { state: [] }],
    ['a map for a list', { source: { kafka: undefined, file: { paths: {} } } }],
    ['an empty list', { source: { kafka: undefined, file: { paths: [] } } }],
    ['a list with a number', { source: { kafka: undefined, file: { paths: [1] } } }],
    ['a pattern that does not match', { keyBy: 'a.b' }],
    ['an empty text', { keyBy: '' }],
    ['a long text', { keyBy: 'x'.repeat(300) }],
    ['a fraction at its limit', { taskManager: { memory: { networkFraction: 0 } } }],
    ['a flag that is none', { action: { webhook: { url: 'http://h', allowPrivateAddresses: 1 } } }],
    ['a header that is no text', { action: { webhook: { url: 'http://h', headers: { a: 1 } } } }],
    ['null', { state: null }],
  ];
  for (const [name, patch] of verdicts) {
    it(`agree on ${name}`, () => {
      const job = jobWith({ source: { file: undefined }, ...patch });
      const faults = new Faults();
      checkShape(nodeOf(triggerJobSchema), job, '', faults);
      // What TypeBox does not know: exactly one of several fields.
      const own = faults.list.filter(({ message }) => !message.includes('exactly one'));
      const missing = faults.list.some(({ message }) => message.includes('is missing'));
      assert.equal(own.length === 0 && !missing, Value.Check(triggerJobSchema, job));
      assert.equal(name === 'a valid job', Value.Check(triggerJobSchema, job));
    });
  }

  it('a field named like a member of every object is unknown, not inherited', () => {
    for (const name of ['constructor', '__proto__', 'toString']) {
      const job = structuredClone(jobWith());
      const odd = JSON.parse(`{"${name}": {}}`) as object;
      const faults = new Faults();
      const node = nodeOf(triggerJobSchema);
      Object.defineProperty(job, name, { value: odd, enumerable: true });
      checkShape(node, job, '', faults);
      assert.deepEqual(
        faults.list.map(({ path }) => path),
        [name],
      );
    }
  });
});

it('a plan is plain JSON: it travels in RPCs', () => {
  const headers = JSON.parse('{"__proto__": "x", "a": "b"}') as Record<string, string>;
  const plan = planOf({ action: { debug: undefined, webhook: { url: 'http://h', headers } } });
  assert.deepEqual(JSON.parse(JSON.stringify(plan)), plan);
});
