/**
 * A port of the machine that leads into the lab, or a port of the lab that leads out to the
 * machine: two socats and a unix socket between them, because the two share nothing but files.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Daemon, startDaemon, untilReady } from './daemon.ts';
import type { Namespaces } from './namespaces.ts';

const START_LIMIT_MS = 30_000;
const FROM = 'fork,reuseaddr,backlog=128';

export interface Tunnel {
  /** Where it is entered: `inside` the lab or `outside`. */
  from: 'inside' | 'outside';
  /** host:port it listens on. */
  listen: string;
  /** host:port, on the other side. */
  target: string;
}

/** Ready when both ends listen; ends with its daemons. */
export async function openTunnel(
  namespaces: Namespaces,
  state: string,
  { from, listen, target }: Tunnel,
): Promise<Daemon[]> {
  const folder = join(state, 'sockets');
  await mkdir(folder, { recursive: true });
  const [host, port] = listen.split(':');
  const socket = join(folder, `${from}-${port}`);
  const start = (inside: boolean, name: string, left: string, right: string) => {
    const program = {
      name: `${name}-${from}-${port}`,
      command: 'socat',
      args: ['-dd', left, right],
    };
    return inside ? namespaces.run(program) : startDaemon(program, join(state, 'logs'));
  };
  const far = ['exit', `UNIX-LISTEN:${socket},fork,backlog=128`, `TCP:${target}`] as const;
  const near = [
    'entry',
    `TCP-LISTEN:${port},bind=${host},${FROM}`,
    `UNIX-CONNECT:${socket}`,
  ] as const;
  const ends = [start(from === 'outside', ...far), start(from === 'inside', ...near)];
  for (const end of ends) {
    await untilReady(`port ${listen} ${from} the lab`, end, START_LIMIT_MS, async () =>
      (await readFile(end.logFile, 'utf8')).includes('listening on'),
    );
  }
  return ends;
}
