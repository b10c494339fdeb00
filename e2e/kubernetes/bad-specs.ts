/**
 * The specs that the API server must refuse: bad-specs.yaml, and for each field with a notation of
 * its own (durations, sizes, URLs, ...) one value that has the form and is out of its limits.
 */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { specSchema } from '../../worker/src/plan/schema.ts';
import { nodeOf, type SchemaNode } from '../../worker/src/plan/schema-fields.ts';

type Spec = Record<string, unknown>;

export interface BadSpec {
  what: string;
  /** A patch of the good spec; undefined takes a field away. */
  spec: Spec;
  /** What the API server names; the local check names it or something below it. */
  field: string;
  says: RegExp;
  /** The patch of the spec that is there before. */
  before?: Spec;
}

interface Row {
  what: string;
  spec: Spec;
  field: string;
  says: string;
  before?: Spec;
}

const TABLE = parse(readFileSync(new URL('bad-specs.yaml', import.meta.url), 'utf8')) as Record<
  'spec' | 'kafkaConnection' | 'podTemplate',
  Row[]
>;

const CONNECTIONS = ['spec.source.kafka', 'spec.deadLetter.kafka'];
const TEMPLATES = [
  'spec.podTemplate',
  'spec.jobManager.podTemplate',
  'spec.taskManager.podTemplate',
];

/** What must be there besides, for the field at a path to be the only fault. */
const CONTEXTS: readonly [path: string, spec: Spec][] = [
  ['spec.source.datagen', { source: { kafka: undefined } }],
  ['spec.source.file', { source: { kafka: undefined, file: { paths: ['/a'] } } }],
  ['spec.deadLetter.kafka', { deadLetter: { kafka: { topic: 'dlq' } } }],
  ['spec.state.profileApi', { state: { profileApi: { url: 'http://api/' } } }],
  ['spec.action.webhook', { action: { debug: undefined, webhook: { url: 'https://h/' } } }],
  ['spec.restartStrategy.fixedDelay', { restartStrategy: { type: 'fixed-delay' } }],
  ['spec.restartStrategy.failureRate', { restartStrategy: { type: 'failure-rate' } }],
  // With it, the server judges no duration beside another one's default.
  ['spec.restartStrategy.exponentialDelay', { flinkConfiguration: {} }],
  ['spec.heartbeat', { flinkConfiguration: {} }],
  ['spec.jobManager.leaderElection', { flinkConfiguration: {} }],
  ['spec.upgrade', { flinkConfiguration: {} }],
];

/** `patch` over `base`. */
function merged(base: Spec, patch: Spec): Spec {
  const result: Spec = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const old = result[key];
    result[key] = isSpec(value) && isSpec(old) ? merged(old, value) : value;
  }
  return result;
}

/** The table's null, which takes a field away, as `merged` and jobWith want it. */
function patchIn(spec: Spec): Spec {
  const entries = Object.entries(spec).map(([key, value]) => [
    key,
    value === null ? undefined : isSpec(value) ? patchIn(value) : value,
  ]);
  return Object.fromEntries(entries) as Spec;
}

const isSpec = (value: unknown): value is Spec =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The patch that sets the field at `path`, which begins with `spec.`, to `value`. */
function patchOf(path: string, value: unknown): Spec {
  const names = path.split('.').slice(1);
  return names.reduceRight<unknown>((inner, name) => ({ [name]: inner }), value) as Spec;
}

function contextOf(path: string): Spec {
  const fitting = CONTEXTS.filter(([prefix]) => path.startsWith(prefix));
  return fitting.reduce<Spec>((all, [, spec]) => merged(all, spec), {});
}

function written({ what, spec, field, says, before }: Row): BadSpec {
  const bad = { what, spec: patchIn(spec), field, says: new RegExp(says) };
  return before === undefined ? bad : { ...bad, before: patchIn(before) };
}

const below = (rows: Row[], places: string[]): BadSpec[] =>
  places.flatMap((path) =>
    rows.map(({ what, spec, field, says }) => ({
      what: `${what} in ${path}`,
      spec: merged(contextOf(path), patchOf(path, patchIn(spec))),
      field: `${path}.${field}`,
      says: new RegExp(says),
    })),
  );

/** A value of the right form that `rule` forbids; undefined where the server has no rule. */
function outOfLimits({ rule }: SchemaNode): unknown {
  switch (rule?.kind) {
    case 'duration':
      if (rule.min > 0) return `${rule.min - 1}ms`;
      return rule.max > 2 ** 31 ? '36500d' : undefined;
    case 'size':
      return rule.min - 1;
    case 'cpu':
      return '0';
    case 'location':
      return 'hdfs://namenode/x';
    case 'url':
      return 'ftp://h/';
    case 'servers':
      return 'kafka';
    default:
      return undefined;
  }
}

function* scalars(node: SchemaNode, path: string): Generator<BadSpec> {
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    const field = `${path}.${name}`;
    yield* scalars(child, field);
    const value = outOfLimits(child);
    if (value === undefined) continue;
    const spec = merged(contextOf(field), patchOf(field, value));
    yield { what: `${value} for ${field}`, spec, field, says: /: write / };
  }
}

export const WRITTEN: readonly BadSpec[] = [
  ...TABLE.spec.map(written),
  ...below(TABLE.kafkaConnection, CONNECTIONS),
  ...below(TABLE.podTemplate, TEMPLATES),
];

export const BAD_SPECS: readonly BadSpec[] = [...WRITTEN, ...scalars(nodeOf(specSchema), 'spec')];
