/** Where a JobManager of this machine listens: it writes a file once it can be asked. */
import { readFileSync } from 'node:fs';
import { type Env, sleep } from '../runtime/env.ts';
import { isJsonObject } from '../runtime/json.ts';

export interface Ports {
  rpcPort: number;
  restPort: number;
}

/** From a JobManager's start to its port file; beyond it the start has failed. */
export const JOB_MANAGER_START_LIMIT_MS = 60_000;
const POLL_MS = 10;

/** null while the file is absent or half written. */
function readPortFile(path: string): Ports | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (!isJsonObject(value)) return null;
    const { rpcPort, restPort } = value;
    const isWhole = typeof rpcPort === 'number' && typeof restPort === 'number';
    return isWhole ? { rpcPort, restPort } : null;
  } catch {
    return null;
  }
}

/** null: not within `limitMs`. Throws what `check` throws. */
export async function awaitPorts(
  env: Env,
  path: string,
  limitMs: number,
  check: () => void = () => undefined,
): Promise<Ports | null> {
  for (const end = env.monotonic() + limitMs; ; await sleep(env, POLL_MS)) {
    const ports = readPortFile(path);
    if (ports !== null) return ports;
    check();
    if (env.monotonic() >= end) return null;
  }
}
