/**
 * The CustomResourceDefinition, generated from the schema. What the API server can't check by a
 * structural schema (rules over several fields) is checked by resolve.ts.
 */
import { DURATION_PATTERN } from './duration.ts';
import { specSchema } from './schema.ts';
import { nodeOf, type SchemaNode } from './schema-fields.ts';
import { SIZE_PATTERN } from './size.ts';

type Json = string | number | boolean | Json[] | { [key: string]: Json };
type JsonFields = { [key: string]: Json };

/** The CRD as plain JSON. */
export function triggerJobCrd(): JsonFields {
  const schema: JsonFields = {
    type: 'object',
    description: 'A job that triggers actions from a stream of events.',
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: { type: 'object' },
      spec: structural(nodeOf(specSchema)),
      status: {
        type: 'object',
        description: 'Written by the operator.',
        'x-kubernetes-preserve-unknown-fields': true,
      },
    },
  };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'triggerjobs.triggerjob.io' },
    spec: {
      group: 'triggerjob.io',
      scope: 'Namespaced',
      names: {
        kind: 'TriggerJob',
        listKind: 'TriggerJobList',
        plural: 'triggerjobs',
        singular: 'triggerjob',
        shortNames: ['tj'],
      },
      versions: [
        {
          name: 'v1alpha1',
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}

/**
 * A structural schema: no additionalProperties: false (the API server prunes or refuses unknown
 * fields by itself), no `const`, and no `default`, which would be written into every stored
 * object and keep it from following a later version's default.
 */
function structural(node: SchemaNode): JsonFields {
  const description: JsonFields = node.description ? { description: node.description } : {};
  if (node.enum) return { ...description, type: 'string', enum: node.enum };
  switch (node.type) {
    case 'object':
      return { type: 'object', ...description, ...objectPart(node) };
    case 'array':
      return {
        type: 'array',
        ...description,
        ...present({ minItems: node.minItems, maxItems: node.maxItems }),
        items: structural(node.items ?? {}),
      };
    case 'integer':
    case 'number':
      return { type: node.type, ...description, ...rangePart(node) };
    case 'boolean':
      return { type: 'boolean', ...description };
    case 'string': {
      const pattern = node.rule?.kind === 'duration' ? DURATION_PATTERN : node.pattern;
      const { minLength, maxLength } = node;
      return { type: 'string', ...description, ...present({ minLength, maxLength, pattern }) };
    }
    default:
      return { ...description, ...numberOrText(node) };
  }
}

function objectPart(node: SchemaNode): JsonFields {
  const [entry] = Object.values(node.patternProperties ?? {});
  if (entry) {
    const { maxProperties } = node;
    return { ...present({ maxProperties }), additionalProperties: structural(entry) };
  }
  if (!node.properties) return { 'x-kubernetes-preserve-unknown-fields': true };
  const properties: JsonFields = {};
  for (const [name, child] of Object.entries(node.properties)) properties[name] = structural(child);
  const required = node.required ?? [];
  return { ...(required.length > 0 ? { required } : {}), properties };
}

/** OpenAPI 3.0 writes an exclusive limit as a limit and a flag. */
function rangePart(node: SchemaNode): JsonFields {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node;
  return present({
    minimum: minimum ?? exclusiveMinimum,
    exclusiveMinimum: exclusiveMinimum === undefined ? undefined : true,
    maximum: maximum ?? exclusiveMaximum,
    exclusiveMaximum: exclusiveMaximum === undefined ? undefined : true,
  });
}

/**
 * The API server takes exactly this form of `anyOf` beside the extension. A pattern judges texts
 * only.
 */
function numberOrText(node: SchemaNode): JsonFields {
  return {
    anyOf: [{ type: 'integer' }, { type: 'string' }],
    'x-kubernetes-int-or-string': true,
    ...(node.rule?.kind === 'size' ? { pattern: SIZE_PATTERN } : {}),
  };
}

function present(fields: Record<string, Json | undefined>): JsonFields {
  return Object.fromEntries(
    Object.entries(fields).filter((entry): entry is [string, Json] => entry[1] !== undefined),
  );
}

/** YAML in block style. Every text is quoted as JSON quotes it, which YAML reads alike. */
function toYaml(value: Json, indent: string): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return ' []\n';
    return `\n${value.map((item) => `${indent}-${nested(item, `${indent}  `)}`).join('')}`;
  }
  if (typeof value !== 'object') return ` ${JSON.stringify(value)}\n`;
  const entries = Object.entries(value);
  if (entries.length === 0) return ' {}\n';
  const lines = entries.map(([key, child]) => `${indent}${key}:${toYaml(child, `${indent}  `)}`);
  return `\n${lines.join('')}`;
}

/** A list's item: its first field stands beside the dash. */
function nested(item: Json, indent: string): string {
  const text = toYaml(item, indent);
  return text.startsWith('\n') ? ` ${text.slice(1 + indent.length)}` : text;
}

/** The text of crds/triggerjobs.yaml. */
export function crdYaml(): string {
  const header =
    '# Generated from worker/src/plan/schema.ts: npx node worker/src/plan/generate-crd.ts\n';
  return `${header}${toYaml(triggerJobCrd(), '').slice(1)}`;
}
