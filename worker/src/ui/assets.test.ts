import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { startRest } from '../rest/rest-server.ts';
import { realEnv } from '../runtime/env.ts';
import { assetOf, assetPaths, browserModule } from './assets.ts';
import { uiAnswer } from './ui-answer.ts';

/** What one look at the UI costs, as issue 6 sets it. */
const MAX_GZIP_BYTES = 100_000;
/** WCAG 2.2 AA for text of this size. */
const MIN_CONTRAST = 4.5;

const textOf = (path: string) => assetOf(path)!.body.toString();

test('all of it together is below 100 kB as it is sent', (t) => {
  const bytes = assetPaths().reduce((sum, path) => sum + assetOf(path)!.gzip.length, 0);
  t.diagnostic(`${assetPaths().length} files, ${bytes} bytes`);
  assert.ok(bytes < MAX_GZIP_BYTES, `${bytes} bytes`);
});

test('types and packages are gone, lines and columns stay', () => {
  const text = [
    "import type { A } from './a-types.ts';",
    "import { h } from 'preact';",
    "import { useState } from 'preact/hooks';",
    "import { b, type B } from './b.ts';",
    'export const x: number = (b as B) + h; // from a comment',
  ].join('\n');
  const lines = browserModule(text, '').split('\n');
  assert.equal(lines[0]?.trim(), '');
  assert.equal(lines[1], "import { h } from './lib/preact.js';");
  assert.equal(lines[2], "import { useState } from './lib/hooks.js';");
  assert.match(lines[3] ?? '', /^import \{ b, +\} from '\.\/b\.js';$/);
  assert.match(lines[4] ?? '', /^export const x {9}= \(b {5}\) \+ h; \/\/ from a comment$/);
  assert.match(browserModule("import { h } from 'preact';", 'lib/'), /'\.\.\/lib\/preact\.js'/);
});

test('every import leads to a file that is served, relative to the one that imports', () => {
  const scripts = assetPaths().filter((path) => path.endsWith('.js'));
  let imports = 0;
  for (const path of scripts) {
    for (const [, name = ''] of textOf(path).matchAll(/\b(?:from|import)\s*['"]([^'"]+)['"]/g)) {
      assert.match(name, /^\.\.?\//, `${path} imports ${name}`);
      const target = new URL(name, `http://x/${path}`).pathname.slice(1);
      assert.ok(assetOf(target) !== null, `${path} imports ${target}`);
      imports += 1;
    }
  }
  assert.ok(imports > 50, `${imports} imports were looked at`);
});

test('the page names only files that are served, relative to itself, and holds no script', () => {
  const page = textOf('');
  const named = [...page.matchAll(/(?:href|src)="([^"]*)"/g)].map(([, name = '']) => name);
  assert.ok(named.includes('ui/app.js'));
  for (const name of named) assert.ok(assetOf(name) !== null, name);
  assert.deepEqual(page.match(/<script(?![^>]* src=)|<style| style=| on[a-z]+=/g), null);
});

test('answers: type, policy, gzip, 304 for what the browser has', () => {
  const plain = uiAnswer('GET', '/', {})!;
  assert.equal(plain.status, 200);
  assert.equal(plain.headers['content-type'], 'text/html; charset=utf-8');
  assert.match(plain.headers['content-security-policy'] ?? '', /^default-src 'self'/);
  assert.doesNotMatch(plain.headers['content-security-policy'] ?? '', /unsafe/);
  assert.equal(plain.headers['x-content-type-options'], 'nosniff');
  const zipped = uiAnswer('GET', '/ui/app.js', { 'accept-encoding': 'br, gzip' })!;
  assert.equal(zipped.headers['content-encoding'], 'gzip');
  assert.equal(zipped.headers['content-length'], String(zipped.body.length));
  assert.equal(gunzipSync(zipped.body).toString(), textOf('ui/app.js'));
  const etag = zipped.headers['etag'] ?? '';
  assert.match(etag, /^"[\w-]{22}"$/);
  const known = uiAnswer('GET', '/ui/app.js', { 'if-none-match': `"other", W/${etag}` })!;
  assert.deepEqual([known.status, known.body.length], [304, 0]);
  assert.equal(uiAnswer('GET', '/ui/app.js', { 'if-none-match': '"other"' })!.status, 200);
  const head = uiAnswer('HEAD', '/ui/style.css', {})!;
  assert.equal(head.body.length, 0);
  assert.ok(Number(head.headers['content-length']) > 1_000);
});

test('nothing else is served, whatever the path', () => {
  const others = [
    '/ui/../assets.ts',
    '/ui/browser/app.ts',
    '/ui/app.ts',
    '/ui/%2e%2e/assets.ts',
    '/ui/lib/../../package.json',
    '/ui/constructor',
    '/ui/',
    '//etc/passwd',
    '/ui//etc/passwd',
    '/ui/api-types.js',
    '/jobs',
  ];
  for (const path of others) assert.equal(uiAnswer('GET', path, {}), null, path);
  assert.equal(uiAnswer('POST', '/', {}), null);
});

type Theme = 'light' | 'dark';

/** The colours of the style sheet, by name and theme. */
function colours(): Map<string, Record<Theme, string>> {
  const css = readFileSync(new URL('style.css', import.meta.url), 'utf8');
  const found = css.matchAll(/--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g);
  return new Map([...found].map(([, name = '', light = '', dark = '']) => [name, { light, dark }]));
}

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const share = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].toSorted((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

test('text and its ground differ enough to be read, in both themes (WCAG AA)', () => {
  assert.equal(Math.round(contrast('#000000', '#ffffff')), 21);
  assert.ok(contrast('#777777', '#ffffff') < MIN_CONTRAST, 'a grey that is known to fail does');
  const all = colours();
  const grounds = ['ground', 'panel', 'sunk'];
  const pairs = [
    ...['ink', 'muted', 'accent', 'ok', 'bad'].flatMap((ink) => grounds.map((on) => [ink, on])),
    ...['ok', 'warn', 'bad', 'accent'].flatMap((tone) => [
      [tone, `${tone}-ground`],
      ['ink', `${tone}-ground`],
      ['muted', 'accent-ground'],
    ]),
    ['accent', 'ok-ground'],
    ['on-accent', 'accent'],
    ['warn', 'panel'],
  ];
  for (const [ink = '', on = ''] of pairs) {
    for (const theme of ['light', 'dark'] as const) {
      const [front, back] = [all.get(ink)?.[theme], all.get(on)?.[theme]];
      assert.ok(front !== undefined && back !== undefined, `${ink} on ${on}`);
      const ratio = contrast(front, back);
      assert.ok(ratio >= MIN_CONTRAST, `${ink} on ${on}, ${theme}: ${ratio.toFixed(2)}`);
    }
  }
});

test('a JobManager that does not lead shows the UI too', async (t) => {
  const rest = await startRest({
    jobManager: () => null,
    leader: () => null,
    port: 0,
    bindAddress: '127.0.0.1',
    env: realEnv,
  });
  t.after(() => rest.close());
  const ask = (path: string) => fetch(`http://127.0.0.1:${rest.port}${path}`);
  const page = await ask('/');
  assert.match(await page.text(), /<title>TriggerJob<\/title>/);
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'self'/);
  const script = await ask('/ui/app.js');
  assert.equal(script.headers.get('content-type'), 'text/javascript; charset=utf-8');
  assert.equal(await script.text(), textOf('ui/app.js'));
  assert.equal((await ask('/ui/nothing.js')).status, 503, 'what it does not have, the leader may');
});
