/**
 * What the system says of this process, for its heartbeats. Read at most once a second and beside
 * everything else: heartbeats may be more frequent, and /proc can be slow on a busy machine.
 */
import { readFile, statfs } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import type { SystemFigures, TaskManagerFigures } from '../rpc/figures.ts';
import type { Env } from '../runtime/env.ts';
import { EventLoopLag } from '../runtime/event-loop-lag.ts';

const READ_STEP_MS = 1_000;
const MAX_DEVICES = 8;

export class ProcessWatch {
  readonly #env: Env;
  readonly #lag: EventLoopLag;
  readonly #localStateDir: string;
  #system: SystemFigures | null = null;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(env: Env, localStateDir: string) {
    this.#env = env;
    this.#localStateDir = localStateDir;
    this.#lag = new EventLoopLag(() => env.monotonic());
  }

  /** The system's part is of the last reading, about a second old. */
  figures(): TaskManagerFigures {
    const now = this.#env.monotonic();
    if (now - this.#readAt >= READ_STEP_MS) {
      this.#readAt = now;
      void readSystem(this.#localStateDir).then((system) => {
        this.#system = system;
      });
    }
    const { user, system } = process.cpuUsage();
    const memory = process.memoryUsage();
    return {
      rssBytes: memory.rss,
      cpuSeconds: (user + system) / 1e6,
      cores: availableParallelism(),
      heapBytes: memory.heapUsed,
      heapTotalBytes: memory.heapTotal,
      externalBytes: memory.external,
      memoryLimitBytes: memoryLimit(process.constrainedMemory(), totalmem()),
      eventLoopLagP99Ms: this.#lag.p99Ms(),
      system: this.#system,
    };
  }

  close(): void {
    this.#lag.close();
  }
}

/** Without a limit Node tells 0 or a number beyond all memory. */
export function memoryLimit(constrained: number, total: number): number {
  return constrained > 0 ? Math.min(constrained, total) : total;
}

/** null: no /proc here, or no such directory yet. Never rejects. */
async function readSystem(directory: string): Promise<SystemFigures | null> {
  try {
    const [io, net, disk] = await Promise.all([
      readFile('/proc/self/io', 'utf8'),
      readFile('/proc/self/net/dev', 'utf8'),
      statfs(directory),
    ]);
    const { bsize, bavail, blocks } = disk;
    return {
      ...diskTraffic(io),
      network: networkTraffic(net),
      diskFreeBytes: bavail * bsize,
      diskBytes: blocks * bsize,
    };
  } catch {
    return null;
  }
}

/** Of /proc/self/io. */
export function diskTraffic(text: string): Pick<SystemFigures, 'readBytes' | 'writtenBytes'> {
  const field = (name: string) =>
    Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
  return { readBytes: field('read_bytes'), writtenBytes: field('write_bytes') };
}

/** Of /proc/self/net/dev: two lines of headings, then `eth0: ` and 16 numbers. */
export function networkTraffic(text: string): SystemFigures['network'] {
  return text
    .split('\n')
    .flatMap((line) => {
      const [, device, rest = ''] = /^\s*([^\s:]+):\s*(.*)$/.exec(line) ?? [];
      if (device === undefined) return [];
      const numbers = rest.trim().split(/\s+/).map(Number);
      return { device, receivedBytes: numbers[0] ?? 0, sentBytes: numbers[8] ?? 0 };
    })
    .slice(0, MAX_DEVICES);
}
