/** Paths to handlers. `:name` matches one segment; every path also works below /v1. Pure. */

import type { ServerResponse } from 'node:http';

export interface RouteRequest {
  params: Readonly<Record<string, string>>;
  query: URLSearchParams;
  /** The JSON body of a POST; {} when there is none. */
  body: Readonly<Record<string, unknown>>;
}

export interface RouteAnswer {
  status: number;
  /** JSON, unless `contentType` says otherwise and it is text. */
  body: object | string;
  contentType?: string;
  headers?: Readonly<Record<string, string>>;
  /** Writes the whole answer itself, as long as it lasts. What it throws first is the answer. */
  stream?: (response: ServerResponse) => void;
}

export type Handler = (request: RouteRequest) => RouteAnswer | Promise<RouteAnswer>;

export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  path: string;
  handler: Handler;
  /** It shows data of users, or a GET changes something: it needs what a write needs. */
  needsToken?: boolean;
  /** Else the server's. */
  maxBodyBytes?: number;
}

export type Match =
  | { kind: 'found'; route: Route; params: Record<string, string> }
  | { kind: 'wrong-method'; allowed: string[] }
  | { kind: 'unknown' };

export function matchRoute(routes: readonly Route[], asked: string, path: string): Match {
  const method = asked === 'HEAD' ? 'GET' : asked;
  const segments = split(path.startsWith('/v1/') ? path.slice(3) : path);
  const allowed: string[] = [];
  for (const route of routes) {
    const params = matchPath(split(route.path), segments);
    if (params === null) continue;
    if (route.method === method) return { kind: 'found', route, params };
    allowed.push(route.method);
  }
  return allowed.length > 0 ? { kind: 'wrong-method', allowed } : { kind: 'unknown' };
}

function matchPath(pattern: string[], segments: string[]): Record<string, string> | null {
  if (pattern.length !== segments.length) return null;
  const params: Record<string, string> = {};
  for (const [i, part] of pattern.entries()) {
    const segment = segments[i] ?? '';
    if (part.startsWith(':')) params[part.slice(1)] = segment;
    else if (part !== segment) return null;
  }
  return params;
}

function split(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '');
}
