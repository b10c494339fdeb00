/**
 * The folder of the one lab that may be up on a machine: who owns it, and what an owner that is
 * gone has left behind (its cgroups; its processes and mounts ended with it).
 */
import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const CGROUPS_LIMIT_MS = 30_000;
const POLL_MS = 100;

/** Below $TMPDIR, so that another TMPDIR is another lab. */
function labFolder(): string {
  return join(tmpdir(), 'triggerjob-lab');
}

/** Makes the lab's folder this process's own; an Error that names the owner while a lab is up. */
export async function claimLabFolder(): Promise<string> {
  const folder = labFolder();
  const prepared = `${folder}.${process.pid}.new`;
  await mkdir(prepared, { recursive: true });
  await writeFile(join(prepared, 'owner'), `${process.pid} ${await startOf(process.pid)}`);
  for (;;) {
    try {
      // A folder with a file in it is never replaced by a rename.
      await rename(prepared, folder);
      return folder;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    }
    const owner = await livingOwner(folder);
    if (owner !== null) {
      await rm(prepared, { recursive: true });
      throw new Error(`a lab is up already: process ${owner} owns ${folder}; end it first`);
    }
    await removeLabFolder(folder);
  }
}

/** After the lab's processes ended: removes its cgroups, then the folder. */
export async function removeLabFolder(folder: string): Promise<void> {
  const list = await readFile(join(folder, 'cgroups'), 'utf8').catch(() => '');
  const deadline = Date.now() + CGROUPS_LIMIT_MS;
  for (const cgroup of list.split('\n').filter((line) => line !== '')) {
    // Busy until the kernel has buried the last process in it.
    while (!(await removeCgroup(cgroup))) {
      if (Date.now() > deadline) throw new Error(`processes of a lab still live in ${cgroup}`);
      await delay(POLL_MS);
    }
  }
  const doomed = `${folder}.${process.pid}.old`;
  const found = await rename(folder, doomed).then(
    () => true,
    () => false,
  );
  if (found) await rm(doomed, { recursive: true, force: true });
}

async function livingOwner(folder: string): Promise<number | null> {
  const text = await readFile(join(folder, 'owner'), 'utf8').catch(() => '');
  const [pid = '', start = ''] = text.split(' ');
  return pid !== '' && (await startOf(Number(pid))) === start ? Number(pid) : null;
}

/** When a process started, in clock ticks since boot; '' when there is none of that pid. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name may hold blanks; the fields after it do not.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

/** Whether it is gone. Only directories can be removed in a cgroup's directory. */
async function removeCgroup(path: string): Promise<boolean> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => null);
  if (entries === null) return true;
  for (const entry of entries) {
    if (entry.isDirectory() && !(await removeCgroup(join(path, entry.name)))) return false;
  }
  return await rmdir(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  );
}
