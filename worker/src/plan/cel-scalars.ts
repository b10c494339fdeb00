/** What scalar-rules.ts says of one field by itself, in CEL: `self` is the field. */
import { type CelRule, msOf, quantityOf, quoted } from './cel.ts';
import { formatDuration, MAX_TIMER_MS } from './duration.ts';
import type { ScalarRule, SchemaNode } from './schema-fields.ts';
import { formatSize } from './size.ts';

/** Long enough for what a person writes; CEL's cost is estimated by it. */
export const MAX_DURATION_LENGTH = 64;

/** 1 to 65535. */
const PORT =
  '([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])';
const SERVERS = `^( *([[][0-9A-Fa-f:.]+[]]|[A-Za-z0-9._-]+):${PORT} *,)+$`;
const URL_PATTERN = '^(?i:https?)://[^/?#@ ]+([/?][^#]*)?$';
/** Absolute: a pod has no directory that a relative path could start from. */
const LOCATION = '^($|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)|file:///|/)';

/** The rules of `node` alone. */
export function scalarCel(node: SchemaNode): CelRule[] {
  const own = node.rule ? [ruleOf(node.rule)].flat() : [];
  if (node.exactlyOne) own.push(exactlyOne(node.exactlyOne));
  if (node.keys !== undefined) own.push(keysMatch(node, node.keys));
  return own;
}

function ruleOf(rule: ScalarRule): CelRule | CelRule[] {
  switch (rule.kind) {
    case 'duration':
      return durationCel(rule);
    case 'size':
      return sizeCel(rule);
    case 'cpu':
      return {
        rule: `${quantityOf('self')}.isGreaterThan(quantity('0'))`,
        message: 'write more than 0 cores',
      };
    case 'timestamp':
      return [];
    case 'location':
      return {
        rule: `self.matches(${quoted(LOCATION)})`,
        message: 'write s3://bucket/dir/, file:///dir/ or an absolute path',
      };
    case 'url':
      return {
        rule: `self.matches(${quoted(URL_PATTERN)})`,
        message: 'write http://host/path or https://, without user, password and fragment',
      };
    case 'servers':
      return {
        rule: `(self+',').matches(${quoted(SERVERS)})`,
        message: 'write host:port, several with commas between',
      };
    case 'header':
      return {
        rule: "!self.matches('[\\\\x00-\\\\x08\\\\x0a-\\\\x1f\\\\x7f]')",
        message: 'holds a line break or control character',
      };
  }
}

/**
 * The usual limits are a timer's, 1 ms to 24 days. Of these only the lower one is checked here: the
 * other one would cost 5 KB of CRD, and nobody gets there by a slip; the operator refuses it.
 */
function durationCel({ min, max }: { min: number; max: number }): CelRule[] {
  if (min === 0 && max === MAX_TIMER_MS) return [];
  if (min === 1 && max === MAX_TIMER_MS) {
    return [{ rule: "self.matches('[1-9]')", message: 'write at least 1ms' }];
  }
  const least = min === 0 ? '' : `t>=${min}&&`;
  const from = min === 0 ? '0s' : formatDuration(min);
  return [
    {
      rule: `[${msOf('self')}].all(t,${least}t<=${max})`,
      message: `write ${from} to ${Math.floor(max / 3_600_000)}h`,
    },
  ];
}

function sizeCel({ min, max }: { min: number; max: number }): CelRule {
  const size = quantityOf('self');
  if (max === Number.MAX_SAFE_INTEGER) {
    const least =
      min === 1
        ? `${size}.isGreaterThan(quantity('0'))`
        : `${size}.compareTo(quantity('${min}'))>=0`;
    return { rule: least, message: `write at least ${formatSize(min)}` };
  }
  return {
    rule: `${size}.compareTo(quantity('${min}'))>=0&&` + `${size}.compareTo(quantity('${max}'))<=0`,
    message: `write ${formatSize(min)} to ${formatSize(max)}`,
  };
}

function exactlyOne(names: readonly string[]): CelRule {
  return {
    rule: `[${names.map((name) => `has(self.${name})`).join(',')}].filter(x,x).size()==1`,
    message: `must have exactly one of ${names.join(', ')}`,
  };
}

function keysMatch({ patternProperties }: SchemaNode, words: string): CelRule {
  const [pattern = ''] = Object.keys(patternProperties ?? {});
  return {
    rule: `self.all(k,k.matches(${quoted(pattern)}))`,
    message: `has an invalid key: write ${words}`,
  };
}
