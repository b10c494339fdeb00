/** buildah over a storage of its own in the cache: the machine's own images are not touched. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../cache.ts';

const run = promisify(execFile);
/** Ten times what a build from nothing takes. */
const LIMIT_MS = 1_800_000;
const OUTPUT_BYTES = 64 * 1024 * 1024;

/** What it prints on stdout. */
export async function buildah(args: readonly string[]): Promise<string> {
  const storage = join(cacheFolder(), 'buildah');
  const place = ['--root', join(storage, 'root'), '--runroot', join(storage, 'run')];
  const { stdout } = await run('buildah', [...place, '--storage-driver', 'overlay', ...args], {
    env: { ...process.env, BUILDAH_ISOLATION: 'chroot' },
    timeout: LIMIT_MS,
    maxBuffer: OUTPUT_BYTES,
  });
  return stdout;
}
