/**
 * Builders of the schema's fields. A field carries, beside JSON Schema's keywords, what JSON
 * Schema can't say: `rule` (how its text is read), `reason` (why a limit holds), `exactlyOne`.
 * validate.ts reads these and crd.ts turns them into what the API server understands.
 */
import Type from 'typebox';
import { MAX_TIMER_MS } from './duration.ts';

/** How a scalar is written. Durations are bounded in milliseconds, sizes in bytes. */
export type ScalarRule =
  | { kind: 'duration'; min: number; max: number }
  | { kind: 'size'; min: number; max: number }
  | { kind: 'cpu' }
  | { kind: 'timestamp' }
  | { kind: 'location' }
  | { kind: 'url' }
  | { kind: 'servers' }
  | { kind: 'header' };

/** The keywords that the project's own code reads of a schema. */
export interface SchemaNode {
  type?: string;
  description?: string;
  default?: unknown;
  examples?: unknown[];
  properties?: Record<string, SchemaNode>;
  patternProperties?: Record<string, SchemaNode>;
  required?: string[];
  items?: SchemaNode;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  /** What a map's keys must be, in words; the pattern is the key of `patternProperties`. */
  keys?: string;
  /** The field in which a list's entries differ; '': the entries themselves. */
  uniqueBy?: string;
  enum?: (string | number)[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  rule?: ScalarRule;
  /** Ends the message about a value outside of `enum`, `pattern`, `minimum` or `maximum`. */
  reason?: string;
  /** Exactly one of these properties must be given. */
  exactlyOne?: string[];
}

export const nodeOf = (schema: Type.TSchema): SchemaNode => schema as SchemaNode;

/** A field that may be left out because it has a default: always present in `Complete`. */
type Defaulted<S extends Type.TSchema> = Type.TOptional<S> & { '~defaulted': true };

/** The user's type with the defaults filled in: what build.ts reads, without a `??` of its own. */
export type Complete<S> =
  S extends Type.TObject<infer P>
    ? CompleteProperties<P>
    : S extends Type.TSchema
      ? Type.Static<S>
      : never;

type CompleteProperties<P extends Type.TProperties> = {
  [K in keyof P as P[K] extends { '~defaulted': true }
    ? K
    : P[K] extends { '~optional': true }
      ? never
      : K]: Complete<P[K]>;
} & {
  [K in keyof P as P[K] extends { '~defaulted': true }
    ? never
    : P[K] extends { '~optional': true }
      ? K
      : never]?: Complete<P[K]>;
};

/** Makes a field optional and says its default, in the schema and in its description. */
export function defaulted<S extends Type.TSchema>(schema: S, value: Type.Static<S>): Defaulted<S> {
  const node = nodeOf(schema);
  node.default = value;
  if (node.type !== 'object') {
    node.description = `${node.description ?? ''} Default: ${value === '' ? '""' : value}.`;
  }
  return Type.Optional(schema) as unknown as Defaulted<S>;
}

interface Limits {
  min?: number;
  max?: number;
}

interface TextOptions {
  pattern?: string;
  reason?: string;
  minLength?: number;
  maxLength?: number;
  rule?: ScalarRule;
}

const withExample = (text: string, example: string | number): string =>
  example === '' ? text : `${text} Example: ${example}.`;

/** Long enough for every path and URL, short enough for a message. */
const MAX_TEXT_LENGTH = 4096;

export function text(description: string, example: string, options: TextOptions = {}) {
  return Type.String({
    minLength: 1,
    maxLength: MAX_TEXT_LENGTH,
    ...options,
    description: withExample(description, example),
    examples: [example],
  });
}

/** A duration, at least 1 ms unless `min` says otherwise, at most what a timer can wait. */
export function duration(description: string, example: string, limits: Limits = {}) {
  return Type.String({
    description: withExample(description, example),
    examples: [example],
    rule: { kind: 'duration', min: limits.min ?? 1, max: limits.max ?? MAX_TIMER_MS },
  });
}

/** A byte size: text such as 16Mi, or a whole number of bytes. */
export function size(description: string, example: string, limits: Limits = {}) {
  return Type.Unsafe<string | number>({
    description: withExample(description, example),
    examples: [example],
    rule: { kind: 'size', min: limits.min ?? 1, max: limits.max ?? Number.MAX_SAFE_INTEGER },
  });
}

/** Whole numbers or text, for the rules `cpu` and `timestamp`. */
export function numberOrText(description: string, example: string, kind: 'cpu' | 'timestamp') {
  return Type.Unsafe<string | number>({
    description: withExample(description, example),
    examples: [example],
    rule: { kind },
  });
}

export function integer(
  description: string,
  example: number,
  limits: { min: number; max: number; reason?: string },
) {
  return Type.Integer({
    description: withExample(description, example),
    examples: [example],
    minimum: limits.min,
    maximum: limits.max,
    ...(limits.reason === undefined ? {} : { reason: limits.reason }),
  });
}

/** A part of a whole: above 0, below 1. */
export function fraction(description: string, example: number) {
  return Type.Number({
    description: withExample(description, example),
    examples: [example],
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
  });
}

export function decimal(
  description: string,
  example: number,
  limits: { min: number; max: number },
) {
  return Type.Number({
    description: withExample(description, example),
    examples: [example],
    minimum: limits.min,
    maximum: limits.max,
  });
}

export function flag(description: string) {
  return Type.Boolean({ description: `${description} Values: true, false.` });
}

export function choice<const Values extends string[]>(
  description: string,
  values: readonly [...Values],
  reason?: string,
) {
  return Type.Enum(values, {
    description: `${description} Values: ${values.join(', ')}.`,
    examples: [values[0]],
    ...(reason === undefined ? {} : { reason }),
  });
}

/** A list; with `key`, of maps that differ in that field, and `''` of scalars that differ. */
export function list<S extends Type.TSchema>(
  description: string,
  items: S,
  options: { example: Type.Static<S>[]; maxItems: number; minItems?: number; key?: string },
) {
  const { example, key, ...limits } = options;
  return Type.Array(items, {
    ...limits,
    ...(key === undefined ? {} : { uniqueBy: key }),
    description: withExample(description, JSON.stringify(example).replaceAll('"', '')),
    examples: [example],
  });
}

export function block<P extends Type.TProperties>(
  description: string,
  properties: P,
  options: { exactlyOne?: (keyof P & string)[] } = {},
) {
  return Type.Object(properties, { description, ...options });
}
