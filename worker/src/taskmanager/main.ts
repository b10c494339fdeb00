/** The taskmanager role: options to a running TaskManager, and how the process ends. */
import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { ShuffleServer } from '../exchange/shuffle-server.ts';
import { RpcClient } from '../rpc/client.ts';
import { SecretFile, type TransportKeys } from '../rpc/transport-secret.ts';
import { realEnv, sleep } from '../runtime/env.ts';
import { isRetryable, messageOf, TriggerJobError } from '../runtime/errors.ts';
import { createLog } from '../runtime/log.ts';
import { LogTail } from '../runtime/log-tail.ts';
import { serveHealth } from './health-server.ts';
import { claimLocalState, processIsAlive } from './local-state.ts';
import { SlotPool } from './slot-pool.ts';
import { TaskManager } from './taskmanager.ts';

export interface TaskManagerRole {
  /** host:port of the RPC of every JobManager; waited for beside all else that a start takes. */
  jobManagers(): Promise<readonly string[]>;
  slots: number;
  /** Threads for the slots; absent = they are started when tasks come. */
  pool?: SlotPool;
  localStateDir: string;
  /** For the other TaskManagers; 0 or absent = any free port. */
  shufflePort?: number;
  /** Address to listen on for them, and to be told to them; absent = the one the RPC uses. */
  shuffleHost?: string;
  /** The job's secret (transport-secret.ts); absent = plain TCP. */
  secretFile?: string;
  /** For the probes of a pod; absent = none. */
  healthPort?: number;
  id?: string;
  logLevel?: string;
}

/** A machine that is gone answers nothing at all, and the next address must not wait for long. */
const CONNECT_TIMEOUT_MS = 2000;
/** For what has an own address to be found by; so long nobody needs one. */
const FIND_PAUSE_MS = 200;
const FIND_LIMIT_MS = 60_000;

/** Resolves at a shutdown by the JobManager; rejects when the process must end with a failure. */
export async function runTaskManager(role: TaskManagerRole): Promise<void> {
  const tail = new LogTail(realEnv, 'taskmanager', process.env['TRIGGERJOB_LOG_FILE'] ?? null);
  const taskManagerId = role.id ?? `tm-${realEnv.id().slice(0, 12)}`;
  const log = createLog('taskmanager', {
    level: role.logLevel ?? process.env['TRIGGERJOB_LOG_LEVEL'] ?? 'info',
    taskManager: taskManagerId,
    tail,
  });
  // Before it waits for anything, since a probe does not.
  let manager: TaskManager | null = null;
  const unknown = { registered: false, slots: role.slots, tasks: 0 };
  const health =
    role.healthPort === undefined
      ? null
      : await serveHealth(role.healthPort, () => manager?.health ?? unknown);
  const local = await claimLocalState(role.localStateDir, process.pid, processIsAlive);
  const { secretFile } = role;
  const onFault = (fault: string) => log.warn(fault);
  const keys = secretFile === undefined ? null : new SecretFile(secretFile, realEnv, onFault);
  const jobManagers = await role.jobManagers();
  const shuffleHost = role.shuffleHost ?? (await ownAddress(jobManagers, keys));
  const shuffle = await ShuffleServer.listen({
    env: realEnv,
    log,
    host: shuffleHost,
    port: role.shufflePort ?? 0,
    keys,
  });
  const cacheBytes = process.env['TRIGGERJOB_TEST_SLOT_CACHE_BYTES'];
  manager = new TaskManager({
    env: realEnv,
    log,
    jobManagers,
    connect: (address) => connect(address, keys),
    taskManagerId,
    host: hostname(),
    slots: role.slots,
    pool: role.pool ?? new SlotPool(role.slots),
    shuffle,
    shuffleHost,
    localStateDir: local,
    mutant: process.env['TRIGGERJOB_TEST_MUTANT'] ?? null,
    slotCacheBytes: cacheBytes === undefined ? null : Number(cacheBytes),
    ownLog: () => tail.read().catch(() => null),
  });
  try {
    await manager.run();
  } finally {
    // First of all: what removes files and closes sockets takes its time.
    await manager.halt();
    health?.close();
    await shuffle.close();
    await rm(local, { recursive: true, force: true });
  }
}

async function connect(address: string, keys: TransportKeys | null): Promise<RpcClient> {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon);
  const port = Number(address.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port)) {
    throw new TriggerJobError('BAD_ADDRESS', `--jobmanager has "${address}", expected HOST:PORT`);
  }
  return RpcClient.connect(realEnv, { host, port, timeoutMs: CONNECT_TIMEOUT_MS, keys });
}

/** Of this machine, as the JobManagers' network sees it: peers are told it before a leader is. */
async function ownAddress(
  jobManagers: readonly string[],
  keys: TransportKeys | null,
): Promise<string> {
  const giveUpAt = realEnv.monotonic() + FIND_LIMIT_MS;
  for (let next = 0; ; next = (next + 1) % jobManagers.length) {
    const address = jobManagers[next]!;
    try {
      const client = await connect(address, keys);
      client.close();
      return client.localAddress;
    } catch (cause) {
      if (!isRetryable(cause)) throw cause;
      if (realEnv.monotonic() > giveUpAt) {
        const text = `no JobManager at ${jobManagers.join(', ')}: ${messageOf(cause)}`;
        throw new TriggerJobError('JOBMANAGER_UNREACHABLE', text, { cause });
      }
      await sleep(realEnv, FIND_PAUSE_MS);
    }
  }
}
