/**
 * Fills in the schema's defaults. Conditional defaults (minPause, parallelism, ...) are
 * build.ts's.
 */
import type { Faults } from './fault.ts';
import type { SchemaNode } from './schema-fields.ts';
import { isFields, joinPath } from './validate.ts';

/**
 * A copy of `value` with defaults. A field that was given but is broken stays absent: judged with
 * others by its default, it would yield faults that are none.
 */
export function fillDefaults(
  node: SchemaNode,
  value: unknown,
  path: string,
  faults: Faults,
): unknown {
  if (!node.properties || !isFields(value)) return value;
  const filled: Record<string, unknown> = {};
  for (const [key, child] of Object.entries(node.properties)) {
    const childPath = joinPath(path, key);
    if (faults.isBroken(childPath) && value[key] === undefined) continue;
    const given = value[key] === undefined ? structuredClone(child.default) : value[key];
    if (given !== undefined) filled[key] = fillDefaults(child, given, childPath, faults);
  }
  return filled;
}
