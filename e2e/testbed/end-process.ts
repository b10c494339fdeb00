/** Processes that the tests started or watch: whether they live, and their orderly end. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** Asked first, killed when it does not go. */
export async function endProcess(child: ChildProcess, timeoutMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const kill = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  await ended;
  clearTimeout(kill);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
