/**
 * crds/triggerjobs.yaml as text. A field without fields of its own stands in one line and a level
 * is one column: the schema lies eight levels deep, and indentation would make a fifth of the file.
 */
import { type Json, triggerJobCrd } from './crd.ts';

const HEADER = '# Generated from worker/src/plan/: npx node worker/src/plan/generate-crd.ts\n';

/** Characters of a value that has room in one line. */
const MAX_INLINE = 500;

/** Of these keys on, a field is written in block style. */
const NESTING = ['properties', 'items', 'additionalProperties'];

const INT_OR_STRING = 'x-kubernetes-int-or-string';

const WORD = /^[A-Za-z][A-Za-z0-9_-]*$/;
/** Words that YAML 1.1, which Kubernetes reads, takes for something else than text. */
const NO_TEXT = /^(y|n|yes|no|on|off|true|false|null)$/i;

export function crdYaml(): string {
  return `${HEADER}${block(triggerJobCrd(), '').slice(1)}`;
}

function block(value: Json, indent: string): string {
  if (typeof value !== 'object' || isLeaf(value)) return ` ${flow(value)}\n`;
  if (Array.isArray(value)) {
    const dash = indent.slice(1);
    return `\n${value.map((item) => `${dash}-${nested(item, `${dash}  `)}`).join('')}`;
  }
  const lines = Object.entries(value).map(
    ([key, child]) => `${indent}${key}:${block(child, `${indent} `)}`,
  );
  return `\n${lines.join('')}`;
}

/** A list's item: its first field stands beside the dash. */
function nested(item: Json, indent: string): string {
  const text = block(item, indent);
  return text.startsWith('\n') ? ` ${text.slice(1 + indent.length)}` : text;
}

function isLeaf(value: Json): boolean {
  if (typeof value !== 'object' || flow(value).length <= MAX_INLINE) return true;
  if (Array.isArray(value)) return false;
  const keys = Object.keys(value);
  if ('rule' in value) return true;
  return ('type' in value || INT_OR_STRING in value) && !keys.some((key) => NESTING.includes(key));
}

/** A text that is more than a word is quoted as JSON quotes it, which YAML reads alike. */
function flow(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value).map(([key, child]) => `${key}: ${flow(child)}`);
    return `{${entries.join(', ')}}`;
  }
  if (typeof value === 'string' && WORD.test(value) && !NO_TEXT.test(value)) return value;
  return JSON.stringify(value);
}
