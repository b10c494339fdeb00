/** `triggerjob explain FIELD`: the schema in words, as `kubectl explain` does, offline. */
import { nearest } from '../plan/did-you-mean.ts';
import { DURATION_FORM, formatDuration, MAX_TIMER_MS } from '../plan/duration.ts';
import { triggerJobSchema } from '../plan/schema.ts';
import { nodeOf, type ScalarRule, type SchemaNode } from '../plan/schema-fields.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';
import type { OutputFormat } from './shared-options.ts';
import { printTable } from './table.ts';
import type { Terminal } from './terminal.ts';

interface Found {
  path: string;
  node: SchemaNode;
  required: boolean;
}

const ROOT = nodeOf(triggerJobSchema);

export function explainField(
  terminal: Terminal,
  field: string,
  options: { recursive: boolean; output: OutputFormat },
): number {
  const found = find(field);
  if (options.output === 'json') {
    terminal.print(JSON.stringify(factsOf(found, options.recursive), null, 2));
    return EXIT.ok;
  }
  const { node, path } = found;
  terminal.print(`${terminal.paint('bold', path)}  ${typeOf(node)}`);
  terminal.print(`  ${node.description ?? ''}`);
  const details = detailsOf(found);
  if (details.length > 0) terminal.print('');
  printTable(
    terminal,
    details.map(([name, value]) => [`  ${name}`, value]),
  );
  const below = options.recursive ? allBelow(found) : childrenOf(found);
  if (below.length === 0) return EXIT.ok;
  terminal.print('\nfields:');
  printTable(
    terminal,
    below.map((child) => [
      `  ${options.recursive ? child.path.slice(path.length + 1) : nameOf(child.path)}`,
      `${typeOf(child.node)}${child.required ? ', required' : ''}`,
      defaultOf(child.node) ?? '',
      child.node.description ?? '',
    ]),
  );
  return EXIT.ok;
}

/** `spec.` may be left out, `[]` and list numbers mean the elements. */
function find(field: string): Found {
  const steps = field
    .replaceAll(/\[\d*\]/g, '')
    .split('.')
    .filter((step) => step !== '');
  const first = steps[0];
  const isRoot = first === undefined || ROOT.properties?.[first] !== undefined;
  let found: Found = { path: '', node: ROOT, required: true };
  for (const step of isRoot ? steps : ['spec', ...steps]) {
    const children = childrenOf(found);
    const next = children.find(({ path }) => nameOf(path) === step);
    if (next !== undefined) {
      found = next;
      continue;
    }
    throw unknownField(found, step, children);
  }
  return found;
}

function unknownField(parent: Found, step: string, children: readonly Found[]): TriggerJobError {
  const where = parent.path === '' ? 'a TriggerJob' : parent.path;
  const names = children.map(({ path }) => nameOf(path));
  if (names.length === 0) {
    return new TriggerJobError('UNKNOWN_FIELD', `${where} is a ${typeOf(parent.node)}, no object`);
  }
  const near = nearest(step, names);
  const elsewhere = allBelow({ path: '', node: ROOT, required: true }).filter(
    ({ path }) => nameOf(path).toLowerCase() === step.toLowerCase(),
  );
  const candidates = [
    ...(near === null ? [] : [children.find(({ path }) => nameOf(path) === near)!.path]),
    ...elsewhere.map(({ path }) => path),
  ];
  const hint =
    candidates.length > 0
      ? `did you mean ${[...new Set(candidates)].join(' or ')}?`
      : `it has ${names.join(', ')}`;
  return new TriggerJobError('UNKNOWN_FIELD', `${where} has no field ${step}: ${hint}`);
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf('.') + 1);

function childrenOf({ path, node }: Found): Found[] {
  const holder = node.items ?? node;
  return Object.entries(holder.properties ?? {}).map(([name, child]) => ({
    path: path === '' ? name : `${path}.${name}`,
    node: child,
    required: holder.required?.includes(name) === true && child.default === undefined,
  }));
}

function allBelow(found: Found): Found[] {
  return childrenOf(found).flatMap((child) => [child, ...allBelow(child)]);
}

const RULE_TYPES: Record<ScalarRule['kind'], string> = {
  duration: 'duration',
  size: 'size',
  cpu: 'cpu',
  timestamp: 'timestamp',
  location: 'location',
  url: 'URL',
  servers: 'host:port list',
  header: 'header value',
};

function typeOf(node: SchemaNode): string {
  if (node.rule !== undefined) return RULE_TYPES[node.rule.kind];
  if (node.items !== undefined) return `list of ${typeOf(node.items)}`;
  if (node.patternProperties !== undefined) return 'map';
  if (node.enum !== undefined) return 'choice';
  return node.type ?? 'any';
}

function detailsOf({ node, required }: Found): [string, string][] {
  const { rule } = node;
  const details: [string, string | undefined][] = [
    ['required', required ? 'yes' : undefined],
    ['default', defaultOf(node)],
    ['one of', node.enum?.join(', ')],
    ['written', rule?.kind === 'duration' ? DURATION_FORM : undefined],
    ['written', rule?.kind === 'size' ? 'bytes, or a number with Ki, Mi, Gi' : undefined],
    ['at least', rule?.kind === 'duration' ? formatDuration(rule.min) : undefined],
    [
      'at most',
      rule?.kind === 'duration' && rule.max !== MAX_TIMER_MS ? formatDuration(rule.max) : undefined,
    ],
    ['at least', rule?.kind === 'size' ? `${rule.min} bytes` : undefined],
    ['at least', node.minimum?.toString()],
    ['more than', node.exclusiveMinimum?.toString()],
    ['at most', node.maximum?.toString()],
    ['less than', node.exclusiveMaximum?.toString()],
    ['longest', node.maxLength === undefined ? undefined : `${node.maxLength} characters`],
    ['pattern', node.pattern],
    ['exactly one of', node.exactlyOne?.join(', ')],
    ['because', node.reason],
  ];
  return details.filter((entry): entry is [string, string] => entry[1] !== undefined);
}

/** An object's default is told by its fields. */
function defaultOf({ default: value, properties }: SchemaNode): string | undefined {
  if (value === undefined || properties !== undefined) return undefined;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function factsOf(found: Found, recursive: boolean): object {
  const { path, node, required } = found;
  const below = recursive ? allBelow(found) : childrenOf(found);
  return {
    path,
    type: typeOf(node),
    required,
    description: node.description ?? '',
    default: node.default ?? null,
    example: node.examples?.[0] ?? null,
    enum: node.enum ?? null,
    fields: below.map((child) => ({
      path: child.path,
      type: typeOf(child.node),
      required: child.required,
      default: child.node.default ?? null,
      description: child.node.description ?? '',
    })),
  };
}
