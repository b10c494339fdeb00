#!/usr/bin/env node
// The `triggerjob` command. The sources are TypeScript run as they are, which needs Node 24; on an
// older Node this file runs the Node 24 that `npm ci` has put into node_modules instead.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire, enableCompileCache } from 'node:module';
import { constants, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NEEDED_NODE = 24;
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

function nodeOfPackage() {
  try {
    const found = createRequire(import.meta.url).resolve('node/package.json');
    return join(dirname(found), 'bin', 'node');
  } catch {
    process.stderr.write(
      `triggerjob needs Node ${NEEDED_NODE}; this is ${process.version} and node_modules has none: run npm ci\n`,
    );
    process.exit(1);
  }
}

/**
 * Where Node keeps what it has compiled, for this process and those that it starts: the first start
 * on a machine takes twice the time of the next ones. In the user's own folder, never in a common
 * one: it is code that runs. Without a writable home `run` keeps it in its state directory.
 */
function compileCache() {
  try {
    const home = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
    const folder = join(home, 'triggerjob', 'compile-cache');
    mkdirSync(folder, { recursive: true });
    return folder;
  } catch {
    return undefined;
  }
}

const cache = process.env['NODE_COMPILE_CACHE'] ?? compileCache();
if (cache !== undefined) process.env['NODE_COMPILE_CACHE'] = cache;

if (Number(process.versions.node.split('.')[0]) >= NEEDED_NODE) {
  if (cache !== undefined) enableCompileCache(cache);
  process.argv[1] = main;
  await import(main);
} else {
  // The IPC channel lets the child notice if this process is killed.
  const child = spawn(nodeOfPackage(), [main, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  // A terminal's Ctrl-C reaches the child by itself; other signals are sent to this pid only.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  process.on('SIGHUP', () => child.kill('SIGHUP'));
  child.once('error', (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
  child.once('exit', (code, signal) => {
    process.exit(code ?? 128 + (signal === null ? 1 : constants.signals[signal]));
  });
}
