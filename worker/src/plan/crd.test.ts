/**
 * crds/triggerjobs.yaml is what the schema says, and a structural schema as Kubernetes wants it.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { crdYaml, triggerJobCrd } from './crd.ts';
import { specSchema } from './schema.ts';
import { nodeOf, type SchemaNode } from './schema-fields.ts';

type Fields = Record<string, unknown>;

const GENERATOR = 'worker/src/plan/generate-crd.ts';
const FILE = new URL('../../../crds/triggerjobs.yaml', import.meta.url);
const MAX_BYTES = 100_000;

interface Structural extends Fields {
  type?: string;
  description?: string;
  properties?: Record<string, Structural>;
  items?: Structural;
  additionalProperties?: Structural;
  required?: string[];
}

const [version] = (parse(crdYaml()) as { spec: { versions: Fields[] } }).spec.versions;
const schema = (version?.['schema'] ?? {}) as { openAPIV3Schema?: Structural };
const root = schema.openAPIV3Schema ?? {};

function* nodesOf(node: Structural, path: string): Generator<[string, Structural]> {
  yield [path, node];
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    yield* nodesOf(child, `${path}.${name}`);
  }
  if (node.items) yield* nodesOf(node.items, `${path}[]`);
  if (node.additionalProperties) yield* nodesOf(node.additionalProperties, `${path}{}`);
}

describe('the CRD', () => {
  it('in crds/ is the one that the schema makes', () => {
    assert.equal(readFileSync(FILE, 'utf8'), crdYaml(), `run npx node ${GENERATOR}`);
  });

  it('is YAML of the same content', () => {
    assert.deepEqual(parse(crdYaml()), triggerJobCrd());
    assert.ok(crdYaml().length < MAX_BYTES, `${crdYaml().length} bytes`);
  });

  it('is structural', () => {
    const allowed = new Set([
      ...['type', 'description', 'properties', 'required', 'items', 'additionalProperties'],
      ...['enum', 'pattern', 'minLength', 'maxLength', 'minItems', 'maxItems', 'maxProperties'],
      ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'anyOf'],
      ...['x-kubernetes-int-or-string', 'x-kubernetes-preserve-unknown-fields'],
    ]);
    for (const [path, node] of nodesOf(root, '')) {
      for (const key of Object.keys(node)) assert.ok(allowed.has(key), `${path}: ${key}`);
      const intOrString = node['x-kubernetes-int-or-string'] === true;
      assert.ok(intOrString !== (node.type !== undefined), `${path} has a type`);
      assert.ok(!(node.properties && node.additionalProperties), path);
      for (const name of node.required ?? []) assert.ok(node.properties?.[name], `${path}.${name}`);
      if (node['pattern']) assert.doesNotMatch(String(node['pattern']), /\(\?|\\[1-9]/, 'RE2');
    }
  });

  it('has every field of the schema, described', () => {
    const names = (node: { properties?: Record<string, SchemaNode> }, path: string): string[] =>
      Object.entries(node.properties ?? {}).flatMap(([name, child]) => [
        `${path}.${name}`,
        ...names(child, `${path}.${name}`),
      ]);
    const spec = root.properties?.['spec'];
    assert.ok(spec);
    const inCrd = new Map(nodesOf(spec, 'spec'));
    for (const path of names(nodeOf(specSchema), 'spec')) {
      assert.ok(inCrd.get(path)?.description, path);
    }
  });
});
