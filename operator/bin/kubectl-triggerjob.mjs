#!/usr/bin/env node
// The plugin `kubectl triggerjob`. Its sources are TypeScript run as they are, which needs Node 24;
// on an older Node this file runs the Node 24 that `npm ci` has put into node_modules instead.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NEEDED_NODE = 24;
const main = fileURLToPath(new URL('../plugin/main.ts', import.meta.url));

if (Number(process.versions.node.split('.')[0]) >= NEEDED_NODE) {
  process.argv[1] = main;
  await import(main);
} else {
  const found = createRequire(import.meta.url).resolve('node/package.json');
  const node = join(dirname(found), 'bin', 'node');
  const { status } = spawnSync(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
  process.exit(status ?? 1);
}
