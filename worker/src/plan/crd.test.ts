/**
 * crds/triggerjobs.yaml is what the schema says, and a structural schema as Kubernetes wants it.
 * That an API server takes it and refuses what it must is shown in e2e/kubernetes/admission.e2e.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import type { CelRule } from './cel.ts';
import { BLOCK_RULES } from './cel-block-rules.ts';
import { triggerJobCrd } from './crd.ts';
import { crdYaml } from './crd-yaml.ts';
import { specSchema } from './schema.ts';
import { nodeOf, type SchemaNode } from './schema-fields.ts';
import { statusSchema } from './status-schema.ts';

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
      ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'format'],
      ...['x-kubernetes-int-or-string', 'x-kubernetes-preserve-unknown-fields'],
      ...['x-kubernetes-list-type', 'x-kubernetes-list-map-keys', 'x-kubernetes-validations'],
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

  it('has every field of the schema', () => {
    const names = (node: { properties?: Record<string, SchemaNode> }, path: string): string[] =>
      Object.entries(node.properties ?? {}).flatMap(([name, child]) => [
        `${path}.${name}`,
        ...names(child, `${path}.${name}`),
      ]);
    for (const [part, own] of Object.entries({ spec: specSchema, status: statusSchema })) {
      const inCrd = new Map(nodesOf(root.properties?.[part] ?? {}, part));
      const fields = names(nodeOf(own), part);
      assert.ok(fields.length > 30);
      for (const path of fields) assert.ok(inCrd.has(path), path);
    }
  });

  it('describes every field: kubectl explain is the manual', () => {
    for (const part of ['spec', 'status']) {
      for (const [path, node] of nodesOf(root.properties?.[part] ?? {}, part)) {
        if (/(\[\]|\{\})$/.test(path)) continue;
        assert.ok((node.description ?? '').length > 8, path);
      }
    }
  });

  it('leaves no field of status open', () => {
    const status = root.properties?.['status'] ?? {};
    for (const [path, node] of nodesOf(status, 'status')) {
      assert.equal(node['x-kubernetes-preserve-unknown-fields'], undefined, path);
    }
  });

  it('has rules only about fields that are there, each with a message', () => {
    const inCrd = new Map(nodesOf(root, ''));
    const all = [...inCrd].flatMap(([path, node]) =>
      rulesOf(node).map((rule) => [path, rule] as const),
    );
    assert.ok(all.length > 120, `${all.length} rules`);
    for (const [path, { fieldPath = '', message }] of all) {
      const target = `${path}${fieldPath.replaceAll(/\['(.*?)'\]/g, '.$1')}`;
      assert.ok(inCrd.has(target), `${target}: ${message}`);
      assert.doesNotMatch(message, /\n|^$/);
    }
    for (const path of BLOCK_RULES.keys()) assert.ok(inCrd.has(`.${path}`), path);
  });
});

function rulesOf(node: Structural): CelRule[] {
  return (node['x-kubernetes-validations'] ?? []) as CelRule[];
}
