/**
 * All that is generated of the chart, so that there is one source: its copy of the CRD, its README,
 * kustomize's rbac and manager, dist/install.yaml; and dashboards and alerts. `npm run manifests`
 * writes them (write.ts), a test compares.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Document, parse, parseAllDocuments } from 'yaml';
import { installHelm } from '../testbed/kubernetes/binaries.ts';
import { chartReadme } from './chart-readme.ts';
import { monitoringFiles } from './monitoring/files.ts';

export const ROOT = resolve(import.meta.dirname, '../..');
export const CHART = join(ROOT, 'charts/triggerjob-operator');

/** Helm built as a Go module believes to speak to Kubernetes 1.20. */
const KUBE_VERSION = '1.36.0';
const NAMESPACE = 'triggerjob-system';
const HELM_OUTPUT_BYTES = 16 * 1024 * 1024;

const HEADER = '# Generated from charts/triggerjob-operator: npm run manifests\n';

/** What helm prints; an Error with its stderr when its code is not 0. */
export async function helm(...args: string[]): Promise<string> {
  const options = { maxBuffer: HELM_OUTPUT_BYTES };
  return (await promisify(execFile)(await installHelm(), args, options)).stdout;
}

/** The chart's objects, `args` after the chart (`--set a=b`). */
export async function template(...args: string[]): Promise<Document.Parsed[]> {
  const place = ['template', 'triggerjob', CHART, '--namespace', NAMESPACE];
  const text = await helm(...place, '--kube-version', KUBE_VERSION, ...args);
  return [...parseAllDocuments(text)].filter((document) => document.contents !== null);
}

/** Path in the repository -> text. */
export async function generatedFiles(): Promise<Map<string, string>> {
  const read = (path: string) => readFile(join(ROOT, path), 'utf8');
  const crd = await read('crds/triggerjobs.yaml');
  const values = await read('charts/triggerjob-operator/values.yaml');
  const chart = parse(await read('charts/triggerjob-operator/Chart.yaml'));
  const [namespace, key] = [
    await read('config/manager/namespace.yaml'),
    await read('config/manager/key.yaml'),
  ];
  const rendered = await withoutHelm();
  const isAccess = (text: string) =>
    /^kind: (ServiceAccount|(Cluster)?Role(Binding)?)$/m.test(text);
  const rbac = rendered.filter(isAccess).join('---\n');
  const manager = rendered.filter((text) => !isAccess(text)).join('---\n');
  return new Map([
    ['charts/triggerjob-operator/files/triggerjobs.yaml', crd],
    ['charts/triggerjob-operator/README.md', chartReadme(values, chart)],
    ['config/rbac/rbac.yaml', HEADER + rbac],
    ['config/manager/manager.yaml', HEADER + manager],
    ['dist/install.yaml', HEADER + [namespace, crd, rbac, key, manager].join('---\n')],
    ...monitoringFiles(),
  ]);
}

/** The chart's objects as somebody without Helm applies them: no hooks, no labels of Helm. */
async function withoutHelm(): Promise<string[]> {
  const settings = ['crds.install=false', 'hmacKey.existingSecret=triggerjob-operator-key'];
  const documents = await template('--skip-tests', ...settings.flatMap((set) => ['--set', set]));
  return documents.map((document) => {
    for (const path of [
      ['metadata', 'labels'],
      ['spec', 'template', 'metadata', 'labels'],
    ]) {
      if (!document.hasIn(path)) continue;
      document.deleteIn([...path, 'helm.sh/chart']);
      document.deleteIn([...path, 'app.kubernetes.io/managed-by']);
    }
    document.commentBefore = null;
    document.directives.docStart = null;
    return document.toString({ lineWidth: 0 });
  });
}
