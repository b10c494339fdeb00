/**
 * The project's images without a registry and without an engine: buildah with a storage of its own
 * in the cache, the base image made from Debian's packages, each image kept as a docker archive
 * under a hash of what it is made from, so that only a change of the sources builds again.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, installOnce } from '../cache.ts';
import { BASE_IMAGE, makeBaseImage } from './base-image.ts';
import { type Print, printLine } from './binaries.ts';
import { buildah } from './buildah.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
/** What certificates a package manager in a build step trusts; the base image's npm is told so. */
const BUILD_CA = '/run/build-ca.crt';
const CA_VARIABLES = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE'];
const SYSTEM_CA = '/etc/ssl/certs/ca-certificates.crt';
/** Of one image, the newest ones: other worktrees may run at the same time. */
const KEPT_ARCHIVES = 4;

export interface Image {
  /** As a pod names it, with `imagePullPolicy: Never`. */
  tag: string;
  /** A docker archive, for Lab.loadImage(). */
  archive: string;
  /** Of all layers together, uncompressed. */
  bytes: number;
}

const FILES_OF = {
  worker: ['Dockerfile.worker', 'worker/src'],
  operator: ['Dockerfile.operator', 'operator/src', 'worker/src/plan'],
};
/** As .dockerignore says. */
const LEFT_OUT = /\.test\.ts$|\/(testdata|worker\/src\/sim|worker\/src\/jobmanager\/scenarios)\//;
const FILES_OF_ALL = ['.dockerignore', '.npmrc', 'package.json', 'package-lock.json'];

/** Builds the image if what it is made from has changed: about 20 s, the first time 2 minutes. */
export async function buildImage(
  name: 'worker' | 'operator',
  print: Print = printLine,
): Promise<Image> {
  const tag = `localhost/triggerjob-${name}:test`;
  const hash = await contentHash([...FILES_OF_ALL, ...FILES_OF[name]]);
  const folder = await installOnce(`images/${name}-${hash}`, async (target) => {
    await makeBaseImage(print);
    const startedAt = performance.now();
    await buildInto(target, name, tag);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
    print(`built the image of the ${name} in ${seconds} s`);
  });
  await removeOldArchives(name, folder);
  const archive = join(folder, 'image.tar');
  return { tag, archive, bytes: (await stat(archive)).size };
}

async function buildInto(target: string, name: string, tag: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'triggerjob-image-'));
  try {
    const ca = join(work, 'ca.crt');
    await writeFile(ca, await trustedCertificates(), { mode: 0o644 });
    const trust = ['--volume', `${ca}:${BUILD_CA}:ro`];
    const base = ['--pull-never', '--build-arg', `BASE_IMAGE=${BASE_IMAGE}`];
    const file = ['--file', join(ROOT, `Dockerfile.${name}`)];
    await buildah(['build', '--layers', '--quiet', ...base, ...trust, ...file, '--tag', tag, ROOT]);
    await buildah(['push', '--quiet', tag, `docker-archive:${join(target, 'image.tar')}:${tag}`]);
    // What the tag named before.
    await buildah(['rmi', '--prune']);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function trustedCertificates(): Promise<string> {
  const named = CA_VARIABLES.flatMap((variable) => process.env[variable] ?? []);
  const files = [...new Set([SYSTEM_CA, ...named])].filter((file) => existsSync(file));
  return (await Promise.all(files.map((file) => readFile(file, 'utf8')))).join('\n');
}

/** First 12 hex digits of the SHA-256 over names and contents of the project's files. */
async function contentHash(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(BASE_IMAGE);
  for (const path of paths) {
    for (const file of await filesBelow(join(ROOT, path))) {
      if (LEFT_OUT.test(file)) continue;
      hash.update(`${relative(ROOT, file)}\0`).update(await readFile(file));
    }
  }
  return hash.digest('hex').slice(0, 12);
}

async function filesBelow(path: string): Promise<string[]> {
  if ((await stat(path)).isFile()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => join(entry.parentPath, entry.name)).toSorted();
}

async function removeOldArchives(name: string, current: string): Promise<void> {
  const folder = join(cacheFolder(), 'images');
  const found = (await readdir(folder)).filter((entry) => entry.startsWith(`${name}-`));
  const finished = found.filter((entry) => /-[0-9a-f]{12}$/.test(entry));
  const dated = await Promise.all(
    finished.map(async (entry) => {
      const path = join(folder, entry);
      return { path, changed: (await stat(path)).mtimeMs };
    }),
  );
  const old = dated.toSorted((a, b) => b.changed - a.changed).slice(KEPT_ARCHIVES);
  for (const { path } of old)
    if (path !== current) await rm(path, { recursive: true, force: true });
}
