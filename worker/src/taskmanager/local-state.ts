/**
 * Where this process keeps RocksDB and spool files: a folder of its own below the local state
 * directory. What earlier processes left there is removed first (P10): local state is a cache of
 * the checkpoint, and after every SIGKILL a whole database would stay behind.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Folder of process `pid`; `isAlive` tells whether another folder's process still runs. */
export async function claimLocalState(
  directory: string,
  pid: number,
  isAlive: (pid: number) => boolean,
): Promise<string> {
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(directory)) {
    const owner = /^tm-(\d+)$/.exec(name)?.[1];
    if (owner === undefined) continue;
    if (Number(owner) === pid || !isAlive(Number(owner))) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
  }
  const own = join(directory, `tm-${pid}`);
  await mkdir(own);
  return own;
}

/** What one slot of one attempt writes locally: never another's (P10). */
export function slotFolder(
  own: string,
  slot: { lineage: string; attempt: number; subtask: number },
): string {
  return join(own, `${slot.lineage}-${slot.attempt}-${slot.subtask}`);
}

export function processIsAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (fault) {
    // EPERM: it runs as somebody else.
    return (fault as NodeJS.ErrnoException).code === 'EPERM';
  }
}
