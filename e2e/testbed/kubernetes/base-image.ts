/**
 * What the Dockerfiles' `FROM node:24-bookworm-slim` means where there is no registry: Debian's
 * minimal system by debootstrap, this project's own Node, npm, and the user `node`. Made once per
 * recipe, in buildah's storage in the cache.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installOnce } from '../cache.ts';
import type { Print } from './binaries.ts';
import { buildah } from './buildah.ts';

const run = promisify(execFile);
const DEBIAN = 'bookworm';
const NPM_VERSION = '11.21.2';
/** Changed with what this file does. */
const RECIPE = '1';
const MADE_OF = `${RECIPE}-node-${process.version}-npm-${NPM_VERSION}-${process.arch}`;
export const BASE_IMAGE = `localhost/node-slim:${MADE_OF}`;
const DEFAULT_MIRROR = 'http://deb.debian.org/debian';
const LIMIT_MS = 1_800_000;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** What Debian's own slim images leave out. */
const LEFT_OUT = ['var/cache/apt', 'var/lib/apt/lists', 'usr/share/doc', 'usr/share/man'];

export async function makeBaseImage(print: Print): Promise<void> {
  await installOnce(`images/base-${MADE_OF}`, async (target) => {
    print('making the base image from Debian packages, once per machine: 1 to 2 minutes');
    const startedAt = performance.now();
    const work = await mkdtemp(join(tmpdir(), 'triggerjob-base-'));
    try {
      const root = join(work, 'root');
      await debootstrap(root);
      await addNode(root, work);
      const id = await commit(root);
      await writeFile(join(target, 'image-id'), id);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
    print(`made the base image in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  });
}

async function debootstrap(root: string): Promise<void> {
  const kind = ['--variant=minbase', '--include=ca-certificates'];
  await run('debootstrap', [...kind, DEBIAN, root, await debianMirror()], { timeout: LIMIT_MS });
  for (const path of LEFT_OUT) {
    await rm(join(root, path), { recursive: true, force: true });
    await mkdir(join(root, path));
  }
  // As the official image has.
  await run('chroot', [root, 'groupadd', '-g', '1000', 'node']);
  await run('chroot', [
    root,
    'useradd',
    '-u',
    '1000',
    '-g',
    'node',
    '-s',
    '/bin/bash',
    '-m',
    'node',
  ]);
}

/** The one that apt of this machine is set up with. */
async function debianMirror(): Promise<string> {
  const folder = '/etc/apt/sources.list.d';
  const names = await readdir(folder).catch(() => []);
  for (const file of ['/etc/apt/sources.list', ...names.map((name) => join(folder, name))]) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const found = /^[^#\n]*(https?:\/\/\S+\/debian)\/?(\s|$)/m.exec(text);
    if (found !== null) return found[1]!;
  }
  return DEFAULT_MIRROR;
}

async function addNode(root: string, work: string): Promise<void> {
  const local = join(root, 'usr/local');
  await cp(process.execPath, join(local, 'bin/node'));
  await run('npm', ['install', '--prefix', work, '--no-save', `npm@${NPM_VERSION}`], {
    timeout: LIMIT_MS,
  });
  await mkdir(join(local, 'lib/node_modules'), { recursive: true });
  const npm = join(local, 'lib/node_modules/npm');
  await cp(join(work, 'node_modules/npm'), npm, { recursive: true, verbatimSymlinks: true });
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(local, 'bin', name));
  }
  const { stdout } = await run('npm', ['config', 'get', 'registry']);
  await mkdir(join(local, 'etc'), { recursive: true });
  // Of the machine that builds: images.ts mounts the file during a build, when alone npm runs.
  const npmrc = ['cafile=/run/build-ca.crt', `registry=${stdout.trim()}`];
  await writeFile(join(local, 'etc/npmrc'), `${npmrc.join('\n')}\n`);
}

async function commit(root: string): Promise<string> {
  const container = (await buildah(['from', 'scratch'])).trim();
  await buildah(['add', '--quiet', container, root, '/']);
  const env = ['--env', `PATH=${PATH}`, '--env', `NODE_VERSION=${process.version.slice(1)}`];
  await buildah(['config', ...env, '--cmd', '["node"]', container]);
  return (await buildah(['commit', '--quiet', '--rm', container, BASE_IMAGE])).trim();
}
