/**
 * The files of the web UI, as the browser gets them: its modules with the types stripped and the
 * imports made relative, the libraries as they are in node_modules, the page and its styles. There
 * is no build step: a file is made when it is first asked for, and kept.
 *
 * The list of files is made from the folder, never from what a client asks for.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire, stripTypeScriptTypes } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const HERE = dirname(fileURLToPath(import.meta.url));
const BROWSER = join(HERE, 'browser');
/** Nothing of these is left for a browser. */
const TYPES_ONLY = /-types\.ts$/;
/** Where the modules begin. */
const ENTRY = 'browser/app.ts';

export interface Asset {
  body: Buffer;
  gzip: Buffer;
  type: string;
  /** Of the content, quoted. */
  etag: string;
}

const SCRIPT = 'text/javascript; charset=utf-8';
const STYLE = 'text/css; charset=utf-8';

/** Packages by the name that modules import, each with the file the browser gets it from. */
const LIBRARIES: Readonly<Record<string, string>> = {
  preact: 'lib/preact.js',
  'preact/hooks': 'lib/hooks.js',
  htm: 'lib/htm.js',
  uplot: 'lib/uplot.js',
};

interface Source {
  type: string;
  read: () => string;
}

/** Paths below the root of the server, without the slash in front; '' is the page. */
const sources: ReadonlyMap<string, Source> = new Map([
  ['', { type: 'text/html; charset=utf-8', read: () => page(moduleNames()) }],
  ['ui/icon.svg', { type: 'image/svg+xml', read: () => own('icon.svg') }],
  ['ui/style.css', { type: STYLE, read: () => own('style.css') }],
  ['ui/uplot.css', { type: STYLE, read: () => packaged('uplot', 'uPlot.min.css') }],
  ...libraries(),
  ...moduleNames().map((name): [string, Source] => [
    `ui/${name.replace(/\.ts$/, '.js')}`,
    { type: SCRIPT, read: () => browserModule(readFileSync(join(BROWSER, name), 'utf8'), '') },
  ]),
]);

const made = new Map<string, Asset>();

/** null: there is no such file. `path` is what follows the first slash of the request. */
export function assetOf(path: string): Asset | null {
  const known = made.get(path);
  if (known !== undefined) return known;
  const source = sources.get(path);
  if (source === undefined) return null;
  const body = Buffer.from(source.read());
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
  const asset = { body, gzip: gzipSync(body, { level: 9 }), type: source.type, etag };
  made.set(path, asset);
  return asset;
}

export function assetPaths(): string[] {
  return [...sources.keys()];
}

/** Types become blanks, so that lines and columns stay; imports lead to what the server has. */
export function browserModule(text: string, folder: string): string {
  return withRelativeImports(stripped(text), folder);
}

function moduleNames(): string[] {
  return readdirSync(BROWSER).filter((name) => name.endsWith('.ts') && !TYPES_ONLY.test(name));
}

/** All modules are told at once, so that the browser does not find them one after the other. */
function page(modules: readonly string[]): string {
  const paths = [
    ...Object.values(LIBRARIES),
    ...modules
      .filter((name) => name !== basename(ENTRY))
      .map((name) => name.replace(/\.ts$/, '.js')),
  ];
  const links = paths.map((path) => `<link rel="modulepreload" href="ui/${path}" />`);
  return own('index.html').replace('<!-- modules -->', links.join('\n    '));
}

function libraries(): [string, Source][] {
  const of = (read: () => string): Source => ({ type: SCRIPT, read });
  const relative = (text: string) => withRelativeImports(text, 'lib/');
  return [
    ['ui/lib/preact.js', of(() => relative(packaged('preact', 'preact.mjs')))],
    ['ui/lib/hooks.js', of(() => relative(packaged('preact/hooks', 'hooks.mjs')))],
    ['ui/lib/htm.js', of(() => relative(packaged('htm', 'htm.mjs')))],
    // Its ES module is not minified and twice as big as the script; they differ in the last line.
    [
      'ui/lib/uplot.js',
      of(() => `${packaged('uplot', 'uPlot.iife.min.js')}\nexport default uPlot;`),
    ],
  ];
}

/** A file beside the one that Node would load. */
function packaged(name: string, file: string): string {
  const entry = createRequire(import.meta.url).resolve(name);
  // A source map is not served; a browser's tools would ask for it.
  return readFileSync(join(dirname(entry), file), 'utf8').replace(/^\/\/# sourceMapping.*$/m, '');
}

function own(name: string): string {
  return readFileSync(join(HERE, name), 'utf8');
}

/** Node warns once that it may change; it is what Node runs this very program by. */
function stripped(text: string): string {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return stripTypeScriptTypes(text);
  } finally {
    process.emitWarning = emitWarning;
  }
}

const IMPORT = /\b(from|import)(\s*)(['"])([^'"\n]+)\3/g;

/** `folder`: of the importing file, below ui/. */
function withRelativeImports(text: string, folder: string): string {
  const up = folder === '' ? './' : '../';
  return text.replace(IMPORT, (whole, word: string, gap: string, quote: string, name: string) => {
    const library = LIBRARIES[name];
    if (library !== undefined) return `${word}${gap}${quote}${up}${library}${quote}`;
    if (name.startsWith('./'))
      return `${word}${gap}${quote}${name.replace(/\.ts$/, '.js')}${quote}`;
    return whole;
  });
}
