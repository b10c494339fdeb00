// Loads all that the command and its roles load later than `main.ts` itself, once, for the compile
// cache of an image: with NODE_COMPILE_CACHE Node writes what it has compiled there when this ends.
// What is loaded only when it is needed is found by its `import(...)`.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const sources = fileURLToPath(new URL('../src', import.meta.url));
const LAZY = /\bimport\('(\.[^']+\.ts)'\)/g;
/** Tests, and what serves the browser or only tests. */
const NO_ROLE = /\.test\.ts$|^(sim|ui\/browser)\/|(^|\/)test-/;
/** Loaded by a thread of its own. */
const found = new Set([join(sources, 'taskmanager/slot-thread.ts')]);

for (const path of readdirSync(sources, { recursive: true })) {
  if (!path.endsWith('.ts') || NO_ROLE.test(path)) continue;
  const file = join(sources, path);
  for (const [, target] of readFileSync(file, 'utf8').matchAll(LAZY)) {
    found.add(resolve(dirname(file), target));
  }
}
for (const file of found) await import(pathToFileURL(file).href);
process.stdout.write(`${found.size} modules and what they import are compiled\n`);
process.exit(0);
