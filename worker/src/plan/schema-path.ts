/** Finds a field of the schema by its path. */
import { specSchema } from './schema.ts';
import { nodeOf, type SchemaNode } from './schema-fields.ts';

/** `path` such as `spec.source.kafka.topic`; `[]` names the entries of a list. */
export function fieldAt(path: string): SchemaNode {
  let node: SchemaNode | undefined = { properties: { spec: nodeOf(specSchema) } };
  for (const step of path.split('.')) {
    const name = step.replace('[]', '');
    node = node?.properties?.[name];
    if (step.endsWith('[]')) node = node?.items;
  }
  if (!node) throw new Error(`no field ${path} in the schema: correct the table that names it`);
  return node;
}
