/** The chart's values are documented and checked, each of them; its CRD is the repository's. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { chartReadme, documentedValues, valuePaths } from './chart-readme.ts';

const ROOT = join(import.meta.dirname, '../..');
const CHART = 'charts/triggerjob-operator';
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Schema {
  properties?: Record<string, Schema>;
  definitions?: Record<string, Schema>;
  $ref?: string;
}

describe('the chart', () => {
  const values = read(`${CHART}/values.yaml`);

  it('holds the CRD of crds/, byte for byte', () => {
    const message = 'npm run manifests copies it';
    assert.ok(read(`${CHART}/files/triggerjobs.yaml`) === read('crds/triggerjobs.yaml'), message);
  });

  it('documents every value', () => {
    const paths = documentedValues(values).map(({ path }) => path);
    assert.deepEqual(paths, valuePaths(parse(values)));
  });

  it('has a README that is made of these comments', () => {
    const made = chartReadme(values, parse(read(`${CHART}/Chart.yaml`)));
    assert.ok(read(`${CHART}/README.md`) === made, 'npm run manifests writes it');
  });

  it('has a schema that knows every value', () => {
    const schema: Schema = JSON.parse(read(`${CHART}/values.schema.json`));
    const resolve = (node: Schema | undefined): Schema | undefined =>
      node?.$ref === undefined ? node : schema.definitions?.[node.$ref.split('/').at(-1) ?? ''];
    for (const path of valuePaths(parse(values))) {
      let node: Schema | undefined = schema;
      for (const name of path.split('.')) node = resolve(node?.properties?.[name]);
      assert.ok(node, path);
    }
  });

  it('names the images that its version stands for', () => {
    const { appVersion, version } = parse(read(`${CHART}/Chart.yaml`));
    assert.equal(appVersion, version);
    assert.match(read('config/manager/key.yaml'), new RegExp(`triggerjob-operator:${version}\n`));
    assert.equal(JSON.parse(read('package.json')).version, version);
  });
});

describe('the README of values', () => {
  const text = `# About the file.
image:
  # -- Where it comes from,
  # and why.
  repository: a/b
  tag: ""
# -- A list.
names: [one]
`;

  it('takes the comments over several lines, and no others', () => {
    assert.deepEqual(documentedValues(text), [
      { path: 'image.repository', text: 'Where it comes from, and why.', fallback: '"a/b"' },
      { path: 'names', text: 'A list.', fallback: '["one"]' },
    ]);
  });

  it('would miss a value without a comment', () => {
    assert.deepEqual(valuePaths(parse(text)), ['image.repository', 'image.tag', 'names']);
  });
});
