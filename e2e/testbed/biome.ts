/**
 * Runs biome's own binary. Not through `@biomejs/biome`: that package names ten platform packages,
 * and a registry that lacks one of them leaves holes in the lock file, after which `npm ci`
 * refuses.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';

const name = `@biomejs/cli-${process.platform}-${process.arch}/biome`;
const binary = createRequire(import.meta.url).resolve(name);
process.exit(spawnSync(binary, process.argv.slice(2), { stdio: 'inherit' }).status ?? 1);
