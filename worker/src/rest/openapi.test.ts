/**
 * The description of the REST API: it says what is served, and its committed copy is of now
 * (UPDATE_GOLDEN=1 writes it).
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Compile } from 'typebox/schema';
import { openApi } from './openapi.ts';
import { docOf } from './route-docs.ts';
import { serveJob } from './test-rest.ts';

interface Operation {
  summary: string;
  parameters: { name: string; in: string; required?: boolean }[];
  security?: object[];
  responses: Record<string, { content: Record<string, { schema: object }> }>;
}

interface Description {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
}

const COPY = new URL('../../openapi.json', import.meta.url);

test('what is served is described, and the committed copy says the same', async (t) => {
  const { get, call, manager } = await serveJob<Description>(t);
  const described = await get('/api/v1/openapi.json');
  const text = `${JSON.stringify(described, null, 2)}\n`;
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(COPY, text);
  assert.deepEqual(
    described,
    JSON.parse(readFileSync(COPY, 'utf8')),
    'worker/openapi.json is of another route table: UPDATE_GOLDEN=1 writes it',
  );
  assert.equal(described.openapi, '3.1.0');
  const { schemas } = described.components;
  for (const [path, operations] of Object.entries(described.paths)) {
    const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const operation of Object.values(operations)) {
      const inPath = operation.parameters.filter((one) => one.in === 'path');
      assert.deepEqual(
        inPath.map(({ name }) => name),
        parameters,
        path,
      );
      for (const { content } of Object.values(operation.responses)) {
        for (const { schema } of Object.values(content))
          Compile({ components: { schemas }, ...schema });
      }
    }
    if (operations['get'] === undefined) continue;
    const at = path.replace('{jobid}', manager.jobId).replaceAll(/\{\w+\}/g, 'x');
    if (path.startsWith('/jobs') && !at.includes('x'))
      assert.notEqual((await call(at)).status, 405);
  }
  const stop = described.paths['/jobs/{jobid}/stop']?.['post'];
  assert.deepEqual(Object.keys(stop?.responses ?? {}), [
    '202',
    '400',
    '401',
    '403',
    '404',
    '409',
    '503',
  ]);
  assert.deepEqual(stop?.security, [{ token: [] }, {}]);
  assert.equal(described.paths['/jobs/{jobid}']?.['get']?.security, undefined);
});

test('a path of Flink is told in words; one that nobody described is told by itself', () => {
  const handler = () => ({ status: 200, body: {} });
  const { paths } = openApi([
    { method: 'GET', path: '/jobs/:jobid/mine', handler },
  ]) as unknown as Description;
  assert.equal(paths['/jobs/{jobid}/mine']?.['get']?.summary, '/jobs/:jobid/mine');
  assert.equal(docOf('GET', '/jobs/:jobid')?.query, undefined);
  const shapes = new URL('./flink-shapes.json', import.meta.url);
  const { endpoints } = JSON.parse(readFileSync(shapes, 'utf8')) as { endpoints: object };
  const undescribed = Object.keys(endpoints).filter((endpoint) => {
    const [method = '', path = ''] = endpoint.split(' ');
    return docOf(method, path) === null;
  });
  assert.deepEqual(undescribed, []);
});
