/**
 * Loads all that the command and its roles load later than `main.ts` itself, once, for the compile
 * cache of an image (Dockerfile.worker): with NODE_COMPILE_CACHE Node writes what it has compiled
 * there when this ends. What is loaded only when it is needed is found by its `import(...)`, so
 * there is no list that gets old.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const SOURCES = dirname(import.meta.dirname);
const LAZY = /\bimport\('(\.[^']+\.ts)'\)/g;
/** Tests, and what serves the browser or only tests. */
const NO_ROLE = /\.test\.ts$|^(sim|ui\/browser)\/|(^|\/)test-/;
/** Loaded by a thread of its own. */
const found = new Set([resolve(import.meta.dirname, '../taskmanager/slot-thread.ts')]);

for (const path of readdirSync(SOURCES, { recursive: true, encoding: 'utf8' })) {
  if (!path.endsWith('.ts') || NO_ROLE.test(path)) continue;
  const file = join(SOURCES, path);
  for (const [, target] of readFileSync(file, 'utf8').matchAll(LAZY)) {
    if (target !== undefined) found.add(resolve(dirname(file), target));
  }
}
for (const file of found) await import(pathToFileURL(file).href);
process.stdout.write(`${found.size} modules and what they import are compiled\n`);
process.exit(0);
