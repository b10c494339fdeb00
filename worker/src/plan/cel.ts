/**
 * Pieces of CEL, the language in which the API server checks what a structural schema can't say:
 * how the fields of a spec are named in it, and durations and sizes as numbers. Texts only; what
 * they judge is in cel-rules.ts.
 */
import { fieldAt } from './schema-path.ts';

/** One entry of `x-kubernetes-validations`; the API server drops nothing and knows no other key. */
export interface CelRule {
  rule: string;
  /** Continues a sentence that begins with the field's name. */
  message: string;
  /** The same with the values in it; `message` stands in where it fails. */
  messageExpression?: string;
  /** Below the object on which the rule stands. */
  fieldPath?: string;
  reason?: 'FieldValueRequired' | 'FieldValueForbidden';
}

type Said = [field: string, rule: string, message: string];

/** A rule about the field at a path below `self`. */
export const about = ([path, rule, message]: Said, more: Partial<CelRule> = {}): CelRule => ({
  rule,
  message,
  fieldPath: fieldPath(path),
  ...more,
});

/** CEL names have no dash. */
const celName = (name: string): string => name.replaceAll('-', '__dash__');

/** The field at `path`, which must be given. */
export const at = (path: string, root = 'self'): string =>
  [root, ...path.split('.').map(celName)].join('.');

export const given = (path: string, root = 'self'): string =>
  `${[root, ...path.split('.').map(celName)].join('.?')}.hasValue()`;

/** The value of a field of spec; its default, as the schema has it, where it is left out. */
export function valueAt(path: string, root = 'self'): string {
  const value = fieldAt(`spec.${path}`).default;
  const text = typeof value === 'string' ? `'${value}'` : value;
  return `${[root, ...path.split('.')].join('.?')}.orValue(${text})`;
}

/** Both from the spec, or all of it known: a Flink key may set what is left out. */
export const judged = (first: string, second: string, rule: string): string =>
  `has(self.flinkConfiguration)&&!(${given(first)}&&${given(second)})||${rule}`;

/** A field of spec that may come from a Flink key, which CEL can't look into, is known if ... */
export const known = (path: string, root = 'self'): string =>
  `(${given(path, root)}||!has(${root}.flinkConfiguration))`;

const UNITS =
  "{'ms':1,'mil':1,'s':1000,'m':60000,'h':3600000,'d':86400000}[p.find('ms|mil|[a-z]')]";

/** Milliseconds of a duration: duration.ts knows units that CEL's own duration() does not. */
export const msOf = (text: string): string =>
  `${text}.findAll('[0-9]+ ?[a-z]+').map(p,int(p.find('[0-9]+'))*${UNITS}).sum()`;

/**
 * Two durations, as `t[0]` and `t[1]`; the fields are below `block` of the schema. Not `orValue`:
 * the API server then loses sight of how long a text can be, and refuses the rule for its cost.
 */
export function durations(block: string, paths: readonly string[], rule: string): string {
  const values = paths.map((path) => {
    const value = String(fieldAt(`${block}.${path}`).default);
    return `${given(path)}?${at(path)}:'${value}'`;
  });
  return `[[${values.join(',')}].map(d,${msOf('d')})].all(t,${rule})`;
}

/** A size or an amount of CPU, text or number, to be compared. */
export const quantityOf = (value: string): string => `quantity(string(${value}))`;

/** A text as CEL writes it. */
export const quoted = (text: string): string =>
  `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

/** `.a.b`, which a name with a dash does not fit into. */
const fieldPath = (path: string): string =>
  path
    .split('.')
    .map((name) => (name.includes('-') ? `['${name}']` : `.${name}`))
    .join('');
