/** Who leads a job of several JobManagers, as they themselves say. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/** Where the JobManagers leave their port files. */
type Place = { pipeline: { stateDir: string } };

/** Ten times what is usual. */
const WATCHDOG_MS = 60_000;

interface Seat {
  file: string;
  pid: number;
  restPort: number;
}

export interface Leader extends Seat {
  epoch: number;
}

async function seats({ pipeline }: Place): Promise<Seat[]> {
  const names = (await readdir(pipeline.stateDir)).filter((name) =>
    /^jobmanager(-\d+)?\.json$/.test(name),
  );
  const files = names.map((one) => join(pipeline.stateDir, one));
  const read = files.map(async (file): Promise<Seat[]> => {
    const text = await readFile(file, 'utf8').catch(() => null);
    return text === null ? [] : [{ ...(JSON.parse(text) as Omit<Seat, 'file'>), file }];
  });
  return (await Promise.all(read)).flat();
}

const restOf = ({ restPort }: Seat): string => `http://127.0.0.1:${restPort}`;

/** null: no answer of its own. `rest`: http://HOST:PORT. */
export async function ask(rest: string, path: string): Promise<Record<string, unknown> | null> {
  try {
    const response = await fetch(`${rest}${path}`, {
      redirect: 'manual',
      signal: AbortSignal.timeout(500),
    });
    return response.status === 200 ? ((await response.json()) as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Who leads, and says so itself, with all tasks running. */
export async function leaderOf(stage: Place): Promise<Leader | null> {
  const found = await Promise.all(
    (await seats(stage)).map(async (seat): Promise<Leader[]> => {
      const role = await ask(restOf(seat), '/api/v1/leader');
      if (role?.['role'] !== 'leader') return [];
      const status = await ask(restOf(seat), '/api/v1/details');
      if (status?.['state'] !== 'RUNNING') return [];
      return [{ ...seat, epoch: Number(role['leaderEpoch']) }];
    }),
  );
  return found.flat().toSorted((a, b) => b.epoch - a.epoch)[0] ?? null;
}

export async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  for (const end = Date.now() + WATCHDOG_MS; Date.now() < end; await wait(10)) {
    const found = await look();
    if (found !== null) return found;
  }
  throw new Error(`waited ${WATCHDOG_MS} ms for ${what}`);
}

/** Two JobManagers that both answer, one of which leads. */
export async function settled(stage: Place): Promise<Leader> {
  const leader = await until('a leader and a standby', async () => {
    const roles = await Promise.all(
      (await seats(stage)).map((seat) => ask(restOf(seat), '/api/v1/leader')),
    );
    const names = roles.map((role) => role?.['role']).toSorted();
    return names.join() === 'leader,standby' ? await leaderOf(stage) : null;
  });
  return leader;
}
