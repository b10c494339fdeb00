/** The chart's README, made of the comments of its values.yaml; `# --` begins one of a value. */
import { parse } from 'yaml';

export interface ValueDoc {
  /** Dotted. */
  path: string;
  text: string;
  /** As JSON. */
  fallback: string;
}

const COMMENT = /^\s*# (?:-- )?(.*)$/;
const FIELD = /^(\s*)([A-Za-z][A-Za-z0-9]*):/;

/** Every value with a comment, in the order of the file. */
export function documentedValues(text: string): ValueDoc[] {
  const values: unknown = parse(text);
  const found: ValueDoc[] = [];
  const parents: string[] = [];
  let comment: string[] | null = null;
  for (const line of text.split('\n')) {
    const [, said] = COMMENT.exec(line) ?? [];
    if (said !== undefined) {
      if (line.includes('# -- ')) comment = [said];
      else comment?.push(said);
      continue;
    }
    const [, indent = '', name] = FIELD.exec(line) ?? [];
    if (name === undefined) continue;
    parents.length = indent.length / 2;
    parents.push(name);
    if (comment === null) continue;
    const value = parents.reduce(childOf, values);
    const fallback = JSON.stringify(value);
    found.push({ path: parents.join('.'), text: comment.join(' '), fallback });
    comment = null;
  }
  return found;
}

const childOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;

/** Paths of all values: of maps those of their fields, but for empty ones. */
export function valuePaths(value: unknown, path = ''): string[] {
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
  const fields = isMap ? Object.entries(value) : [];
  if (fields.length === 0 || path === 'resources') return [path];
  return fields.flatMap(([key, child]) => valuePaths(child, path === '' ? key : `${path}.${key}`));
}

export function chartReadme(
  values: string,
  chart: { description: string; version: string },
): string {
  const rows = documentedValues(values).map(
    ({ path, text, fallback }) => `- \`${path}\`, default \`${fallback}\`: ${text}`,
  );
  return `# triggerjob-operator ${chart.version}

${chart.description}

    CHART=charts/triggerjob-operator
    helm install triggerjob $CHART --namespace triggerjob-system --create-namespace --wait
    helm test triggerjob --namespace triggerjob-system
    helm upgrade triggerjob $CHART --namespace triggerjob-system --wait
    helm uninstall triggerjob --namespace triggerjob-system

An upgrade of the chart upgrades the CRD, and restarts no pod of a job unless the worker's image
changes. Uninstalling keeps the CRD, all TriggerJobs with their pods, and the HMAC key: installed
again, the operator goes on with them.

The operator may create Secrets and nothing else with them: it reads none. A rotated key restarts
the pods of all jobs. To do it without a gap, name a Secret of your own
(\`hmacKey.existingSecret\`) with the old key in the first line and the new one in the second; then
swap the lines; then drop the old one. After each step the operator's pods and those of the jobs are
to be ready again.

## Values

${rows.join('\n')}

Made of values.yaml: \`npm run manifests\`.
`;
}
