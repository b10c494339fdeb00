/** The orderly end of a server that the tests started: asked first, killed when it does not go. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

export async function endProcess(child: ChildProcess, timeoutMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const kill = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  await ended;
  clearTimeout(kill);
}
