/**
 * The CustomResourceDefinition, generated from the schema of the spec and of the status. What a
 * structural schema can't say is said in CEL (cel-scalars.ts, cel-block-rules.ts, cel-rules.ts).
 */
import type { CelRule } from './cel.ts';
import { BLOCK_RULES } from './cel-block-rules.ts';
import { SPEC_RULES } from './cel-rules.ts';
import { MAX_DURATION_LENGTH, scalarCel } from './cel-scalars.ts';
import { DURATION_PATTERN } from './duration.ts';
import { CPU_PATTERN, TIMESTAMP_PATTERN } from './scalar-rules.ts';
import { specSchema, triggerJobSchema } from './schema.ts';
import { nodeOf, type SchemaNode } from './schema-fields.ts';
import { SIZE_PATTERN } from './size.ts';
import { statusSchema } from './status-schema.ts';

export type Json = string | number | boolean | Json[] | { [key: string]: Json };
export type JsonFields = { [key: string]: Json };

/** The CRD as plain JSON. */
export function triggerJobCrd(): JsonFields {
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
        // Not `all`: `kubectl get all` would list every TriggerJob of every operator's version.
        categories: ['streaming', 'triggers'],
      },
      versions: [
        {
          name: 'v1alpha1',
          served: true,
          storage: true,
          additionalPrinterColumns: printerColumns(),
          subresources: {
            status: {},
            scale: {
              specReplicasPath: '.spec.taskManager.replicas',
              statusReplicasPath: '.status.replicas',
              labelSelectorPath: '.status.selector',
            },
          },
          schema: { openAPIV3Schema: rootSchema() },
        },
      ],
    },
  };
}

function rootSchema(): JsonFields {
  const job = nodeOf(triggerJobSchema);
  const { pattern = '', maxLength = 0 } = job.properties?.['metadata']?.properties?.['name'] ?? {};
  return {
    type: 'object',
    description: job.description ?? '',
    required: ['spec'],
    properties: {
      apiVersion: {
        type: 'string',
        description: 'Version of this schema: triggerjob.io/v1alpha1.',
      },
      kind: { type: 'string', description: 'Kind of object: TriggerJob.' },
      metadata: { type: 'object', properties: { name: { type: 'string', maxLength, pattern } } },
      spec: withRules(structural(nodeOf(specSchema), 'spec'), SPEC_RULES),
      status: structural(nodeOf(statusSchema), 'status'),
    },
  };
}

/** What `kubectl get` shows; those of priority 1 only with `-o wide`. */
function printerColumns(): JsonFields[] {
  const column = (name: string, type: string, jsonPath: string, priority = 0): JsonFields => ({
    name,
    type,
    jsonPath,
    ...(priority === 0 ? {} : { priority }),
  });
  return [
    column('STATE', 'string', '.status.state'),
    column('READY', 'string', '.status.ready'),
    column('PARALLELISM', 'integer', '.status.parallelism'),
    column('LAG', 'integer', '.status.lag'),
    column('LAST-CHECKPOINT', 'date', '.status.lastCheckpoint.completedAt'),
    column('RESTARTS', 'integer', '.status.restarts'),
    column('AGE', 'date', '.metadata.creationTimestamp'),
    column('TOPIC', 'string', '.spec.source.kafka.topic', 1),
    column('LAST-SAVEPOINT', 'string', '.status.lastSavepoint', 1),
    column('IMAGE', 'string', '.spec.image', 1),
    column('REASON', 'string', '.status.conditions[?(@.type=="Ready")].reason', 1),
  ];
}

/**
 * A structural schema: no additionalProperties: false (the API server prunes or refuses unknown
 * fields by itself), no `const`, and no `default`, which would be written into every stored
 * object and keep it from following a later version's default.
 */
function structural(node: SchemaNode, path: string): JsonFields {
  const rules = [...scalarCel(node), ...(BLOCK_RULES.get(path) ?? [])];
  const description: JsonFields = node.description ? { description: node.description } : {};
  return withRules({ ...description, ...formOf(node, path) }, rules);
}

function withRules(node: JsonFields, rules: readonly CelRule[]): JsonFields {
  if (rules.length === 0) return node;
  return { ...node, 'x-kubernetes-validations': rules.map((rule) => ({ ...rule })) };
}

function formOf(node: SchemaNode, path: string): JsonFields {
  if (node.enum) return { type: 'string', enum: node.enum };
  switch (node.type) {
    case 'object':
      return { type: 'object', ...objectPart(node, path) };
    case 'array':
      return {
        type: 'array',
        ...present({ minItems: node.minItems, maxItems: node.maxItems }),
        ...listPart(node),
        items: structural(node.items ?? {}, `${path}[]`),
      };
    case 'integer':
    case 'number':
      return { type: node.type, ...rangePart(node) };
    case 'boolean':
      return { type: 'boolean' };
    case 'string':
      return { type: 'string', ...textPart(node) };
    default:
      return numberOrText(node);
  }
}

function objectPart(node: SchemaNode, path: string): JsonFields {
  const [entry] = Object.values(node.patternProperties ?? {});
  if (entry) {
    const { maxProperties } = node;
    return { ...present({ maxProperties }), additionalProperties: structural(entry, `${path}{}`) };
  }
  if (!node.properties) return { 'x-kubernetes-preserve-unknown-fields': true };
  const properties: JsonFields = {};
  for (const [name, child] of Object.entries(node.properties)) {
    properties[name] = structural(child, `${path}.${name}`);
  }
  const required = node.required ?? [];
  return { ...(required.length > 0 ? { required } : {}), properties };
}

/** The API server refuses a second entry by itself; several may own entries of one list (SSA). */
function listPart({ uniqueBy }: SchemaNode): JsonFields {
  if (uniqueBy === undefined) return {};
  if (uniqueBy === '') return { 'x-kubernetes-list-type': 'set' };
  return { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [uniqueBy] };
}

function textPart(node: SchemaNode): JsonFields {
  const { minLength = 0, maxLength, format, pattern } = node;
  const needed = minLength > 0 && !(pattern && !new RegExp(pattern).test(''));
  if (node.rule?.kind !== 'duration') {
    return present({
      minLength: needed ? minLength : undefined,
      maxLength: limit(maxLength),
      format,
      pattern,
    });
  }
  return { maxLength: MAX_DURATION_LENGTH, pattern: DURATION_PATTERN };
}

/** What only says that there is none is left out. */
const limit = (most: number | undefined): number | undefined =>
  most === Number.MAX_SAFE_INTEGER ? undefined : most;

/** OpenAPI 3.0 writes an exclusive limit as a limit and a flag. */
function rangePart(node: SchemaNode): JsonFields {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node;
  return present({
    minimum: minimum ?? exclusiveMinimum,
    exclusiveMinimum: exclusiveMinimum === undefined ? undefined : true,
    maximum: limit(maximum ?? exclusiveMaximum),
    exclusiveMaximum: exclusiveMaximum === undefined ? undefined : true,
  });
}

/** What is a number or a text says its form by a pattern, which judges texts only. */
const PATTERNS: Record<string, string> = {
  size: SIZE_PATTERN,
  cpu: CPU_PATTERN,
  timestamp: TIMESTAMP_PATTERN,
};

function numberOrText(node: SchemaNode): JsonFields {
  const pattern = PATTERNS[node.rule?.kind ?? ''];
  return { 'x-kubernetes-int-or-string': true, ...present({ pattern }) };
}

function present(fields: Record<string, Json | undefined>): JsonFields {
  return Object.fromEntries(
    Object.entries(fields).filter((entry): entry is [string, Json] => entry[1] !== undefined),
  );
}
