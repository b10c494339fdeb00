/**
 * GET / and /ui/*: the web UI over HTTP, from every JobManager, leader or not. Its policy lets a
 * page load from this server alone and run no script that is written into it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { assetOf } from './assets.ts';

const POLICY = [
  "default-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "object-src 'none'",
].join('; ');

export interface UiAnswer {
  status: number;
  headers: Record<string, string>;
  /** Empty for a HEAD, and where the browser has it already. */
  body: Buffer;
}

const NOTHING = Buffer.alloc(0);

/** null: the path is not of the UI, or the UI has no such file; others answer. */
export function uiAnswer(
  method: string,
  path: string,
  headers: IncomingHttpHeaders,
): UiAnswer | null {
  if (method !== 'GET' && method !== 'HEAD') return null;
  const asset = assetOf(path.slice(1));
  if (asset === null) return null;
  const zipped = /\bgzip\b/.test(String(headers['accept-encoding'] ?? ''));
  const body = zipped ? asset.gzip : asset.body;
  const always = {
    etag: asset.etag,
    // Asked about each time, so that a page never mixes two versions.
    'cache-control': 'no-cache',
    'content-security-policy': POLICY,
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    vary: 'accept-encoding',
  };
  const had = String(headers['if-none-match'] ?? '').split(/\s*,\s*/);
  if (had.some((tag) => tag.replace(/^W\//, '') === asset.etag)) {
    return { status: 304, headers: always, body: NOTHING };
  }
  return {
    status: 200,
    headers: {
      ...always,
      'content-type': asset.type,
      'content-length': String(body.length),
      ...(zipped && { 'content-encoding': 'gzip' }),
    },
    body: method === 'HEAD' ? NOTHING : body,
  };
}
