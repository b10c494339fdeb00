/**
 * The OpenAPI document, made of the route table: a route that is served is described. Answers under
 * Flink's paths have Flink's schemas (flink-shapes.json).
 */
import { readFileSync } from 'node:fs';
import type { JsonObject } from '../runtime/json.ts';
import { docOf } from './route-docs.ts';
import type { Route } from './router.ts';

interface FlinkShapes {
  endpoints: Record<string, { status?: number; schema?: JsonObject }>;
  schemas: JsonObject;
}

const SHAPES_FILE = new URL('./flink-shapes.json', import.meta.url);
const ERRORS = { $ref: '#/components/schemas/Errors' };
const PARAMETER = /:(\w+)/g;

export function openApi(routes: readonly Route[]): JsonObject {
  const shapes = JSON.parse(readFileSync(SHAPES_FILE, 'utf8')) as FlinkShapes;
  const paths: Record<string, JsonObject> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(PARAMETER, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, shapes) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'TriggerJob JobManager',
      version: '1',
      description: "Flink's REST API over a TriggerJob; all paths also below /v1.",
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    paths: Object.fromEntries(Object.entries(paths).sort(([a], [b]) => (a < b ? -1 : 1))),
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: {
        ...shapes.schemas,
        Errors: {
          type: 'object',
          properties: { errors: { type: 'array', items: { type: 'string' } } },
          required: ['errors'],
        },
      },
    },
  };
}

function operation(route: Route, { endpoints }: FlinkShapes): JsonObject {
  const { method, path } = route;
  const { summary = path, query = {}, body } = docOf(method, path) ?? {};
  const shape = endpoints[`${method} ${path}`];
  const needsToken = method !== 'GET' || route.needsToken === true;
  const refusals: Record<string, string> = {
    ...((method !== 'GET' || Object.keys(query).length > 0) && { 400: 'Not understood.' }),
    ...(needsToken && {
      401: 'A token is needed.',
      403: 'There is no token, and it is not local.',
    }),
    ...(path.includes(':') && { 404: 'Not found.' }),
    ...(needsToken && path.startsWith('/jobs') && { 409: 'The job has ended.' }),
    503: 'Nobody leads.',
  };
  const inPath = [...path.matchAll(PARAMETER)].map(([, name]) => parameter('path', name ?? ''));
  const inQuery = Object.entries(query).map(([name, text]) => parameter('query', name, text));
  return {
    summary,
    ...(needsToken && { security: [{ token: [] }, {}] }),
    parameters: [...inPath, ...inQuery],
    ...(body !== undefined && { requestBody: requestBody(body) }),
    responses: {
      [shape?.status ?? defaultStatus(method, path)]: answer(path, shape?.schema),
      ...Object.fromEntries(
        Object.entries(refusals).map(([status, description]) => [
          status,
          { description, content: { 'application/json': { schema: ERRORS } } },
        ]),
      ),
    },
  };
}

/** Where Flink does not say: what is only begun is a 202. */
function defaultStatus(method: string, path: string): number {
  return method === 'PATCH' || /\/(yarn-cancel|disposal)$/.test(path) ? 202 : 200;
}

/** No JSON: logs, and what Prometheus reads. */
const EVENTS = /\/tap$/;
const PLAIN = /^\/metrics$|\/(log|stdout|logs\/:filename)$/;

function answer(path: string, schema: JsonObject = { type: 'object' }): JsonObject {
  const text = EVENTS.test(path) ? 'text/event-stream' : PLAIN.test(path) ? 'text/plain' : null;
  const content: JsonObject =
    text === null ? { 'application/json': { schema } } : { [text]: { schema: { type: 'string' } } };
  return { description: 'Done, or under way.', content };
}

function parameter(where: 'path' | 'query', name: string, description = ''): JsonObject {
  return {
    name,
    in: where,
    ...(where === 'path' && { required: true }),
    ...(description !== '' && { description }),
    schema: { type: 'string' },
  };
}

function requestBody(fields: NonNullable<ReturnType<typeof docOf>>['body'] = {}): JsonObject {
  const properties = Object.fromEntries(
    Object.entries(fields).map(([name, { type, text }]) => [name, { type, description: text }]),
  );
  return { content: { 'application/json': { schema: { type: 'object', properties } } } };
}
