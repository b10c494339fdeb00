/** The taskmanager role: options to a running TaskManager, and how the process ends. */
import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { ShuffleServer } from '../exchange/shuffle-server.ts';
import { RpcClient } from '../rpc/client.ts';
import { SecretFile, type TransportKeys } from '../rpc/transport-secret.ts';
import { realEnv, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { createLog } from '../runtime/log.ts';
import { claimLocalState, processIsAlive } from './local-state.ts';
import { TaskManager } from './taskmanager.ts';

export interface TaskManagerRole {
  /** host:port of the JobManager's RPC. */
  jobmanager: string;
  slots: number;
  localStateDir: string;
  /** For the other TaskManagers; 0 or absent = any free port. */
  shufflePort?: number;
  /** Address to listen on for them, and to be told to them; absent = the one the RPC uses. */
  shuffleHost?: string;
  /** The job's secret (transport-secret.ts); absent = plain TCP. */
  secretFile?: string;
  id?: string;
  logLevel?: string;
}

const CONNECT_ATTEMPTS = 50;
const CONNECT_PAUSE_MS = 200;
const CONNECT_TIMEOUT_MS = 5000;

/** Resolves at a shutdown by the JobManager; rejects when the process must end with a failure. */
export async function runTaskManager(role: TaskManagerRole): Promise<void> {
  const log = createLog(
    'taskmanager',
    role.logLevel ?? process.env['TRIGGERJOB_LOG_LEVEL'] ?? 'info',
  );
  const local = await claimLocalState(role.localStateDir, process.pid, processIsAlive);
  const { secretFile } = role;
  const onFault = (fault: string) => log.warn(fault);
  const keys = secretFile === undefined ? null : new SecretFile(secretFile, realEnv, onFault);
  const client = await connect(role.jobmanager, keys);
  const shuffleHost = role.shuffleHost ?? client.localAddress;
  const shuffle = await ShuffleServer.listen({
    env: realEnv,
    log,
    host: shuffleHost,
    port: role.shufflePort ?? 0,
    keys,
  });
  const cacheBytes = process.env['TRIGGERJOB_TEST_SLOT_CACHE_BYTES'];
  const manager = new TaskManager({
    env: realEnv,
    log,
    client,
    taskManagerId: role.id ?? `tm-${realEnv.id().slice(0, 12)}`,
    host: hostname(),
    slots: role.slots,
    shuffle,
    shuffleHost,
    localStateDir: local,
    mutant: process.env['TRIGGERJOB_TEST_MUTANT'] ?? null,
    slotCacheBytes: cacheBytes === undefined ? null : Number(cacheBytes),
  });
  try {
    await manager.run();
  } finally {
    // First of all: what removes files and closes sockets takes its time.
    await manager.halt();
    client.close();
    await shuffle.close();
    await rm(local, { recursive: true, force: true });
  }
}

async function connect(address: string, keys: TransportKeys | null): Promise<RpcClient> {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon);
  const port = Number(address.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port)) {
    throw new TriggerJobError('BAD_ADDRESS', `--jobmanager is "${address}", expected HOST:PORT`);
  }
  for (let attempt = 1; ; attempt++) {
    try {
      const timeoutMs = CONNECT_TIMEOUT_MS;
      return await RpcClient.connect(realEnv, { host, port, timeoutMs, keys });
    } catch (cause) {
      if (attempt === CONNECT_ATTEMPTS) {
        const text = `no JobManager at ${address}: ${messageOf(cause)}`;
        throw new TriggerJobError('JOBMANAGER_UNREACHABLE', text, { cause });
      }
      await sleep(realEnv, CONNECT_PAUSE_MS);
    }
  }
}
