/**
 * Where test services that are fetched or built once are kept between runs, and how two processes
 * that need the same one at once do not install it twice. Owns nothing else: each service says how
 * to install.
 */
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from './end-process.ts';

const LOCK_POLL_MS = 200;

/** `$TRIGGERJOB_CACHE`, else `~/.cache/triggerjob`. Safe to delete at any time between runs. */
export function cacheFolder(): string {
  return process.env['TRIGGERJOB_CACHE'] ?? join(homedir(), '.cache', 'triggerjob');
}

/**
 * The folder `<cache>/<name>`, made by `install` the first time. `install` fills a temporary folder
 * that is renamed into place when it returns, so an interrupted install leaves nothing half made;
 * put the version into `name`, because an installed folder is never looked at again.
 */
export async function installOnce(
  name: string,
  install: (folder: string) => Promise<void>,
): Promise<string> {
  const target = join(cacheFolder(), name);
  if (await exists(target)) return target;
  await mkdir(join(target, '..'), { recursive: true });
  const unlock = await lock(`${target}.lock`);
  try {
    if (await exists(target)) return target;
    const temporary = `${target}.${process.pid}.tmp`;
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await install(temporary);
    await rename(temporary, target);
    return target;
  } finally {
    await unlock();
  }
}

/**
 * Waits for the lock file; one whose process is gone is taken over. Two waiters may take over the
 * same dead lock: the second install is then wasted and its rename fails, which is better than a
 * wait for ever.
 */
async function lock(path: string): Promise<() => Promise<void>> {
  for (;;) {
    try {
      const file = await open(path, 'wx');
      await file.write(String(process.pid));
      await file.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const owner = Number(await readFile(path, 'utf8').catch(() => ''));
    if (owner > 0 && !isAlive(owner)) await rm(path, { force: true });
    else await delay(LOCK_POLL_MS);
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
