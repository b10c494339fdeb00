/**
 * The roles of a cluster as commands; the only place where cli/ touches them. Each loads only its
 * own modules: the JobManager's cost a TaskManager half a second before it can register.
 */
import type { RunStart } from '../checkpoint/snapshot.ts';
import { locationUri } from '../plan/locations.ts';
import { realEnv } from '../runtime/env.ts';
import { isRetryable, messageOf, TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';
import { awaitPorts, JOB_MANAGER_START_LIMIT_MS } from './port-file.ts';

/** The options of the command. */
export interface JobManagerRole {
  plan: string;
  planJson?: string;
  store?: string;
  rpcPort: number;
  restPort: number;
  from?: string;
  portFile?: string;
  advertiseHost?: string;
  onSigterm?: 'stop-job' | 'release';
  onEnd?: 'exit' | 'stay';
  secretFile?: string;
  restTokenFile?: string;
  run?: number;
  jobCreatedAt?: number;
  start?: 'stateless' | 'first';
  restoreSavepoint?: string;
  leaderElection?: 'store' | 'kubernetes';
  lease?: string;
  leaseOwner?: string;
}

export async function runJobManagerRole(options: JobManagerRole): Promise<number> {
  const { runJobManager } = await import('../jobmanager/main.ts');
  try {
    await runJobManager({
      planFile: options.plan,
      planJson: options.planJson ?? null,
      storeUrl: options.store ?? null,
      rpcPort: options.rpcPort,
      restPort: options.restPort,
      from: options.from ?? null,
      portFile: options.portFile ?? null,
      advertiseHost: options.advertiseHost ?? null,
      onSigterm: options.onSigterm ?? 'stop-job',
      secretFile: options.secretFile ?? null,
      onEnd: options.onEnd ?? 'exit',
      restTokenFile: options.restTokenFile ?? null,
      run: options.run ?? null,
      start: startOf(options),
      jobCreatedAt: options.jobCreatedAt ?? null,
      first: options.start === 'first',
      lease: leaseOf(options),
      leaseOwner: options.leaseOwner ?? null,
    });
  } catch (thrown) {
    // The job has not failed because its store, for example, does not answer just now.
    if (isRetryable(thrown)) throw new TriggerJobError('START_AGAIN', messageOf(thrown));
    throw thrown;
  }
  return Number(process.exitCode ?? EXIT.ok);
}

function startOf({ start, restoreSavepoint }: JobManagerRole): RunStart | null {
  if (start === 'stateless') return { kind: 'stateless' };
  // The operator may leave an empty variable in its arguments.
  if (restoreSavepoint === undefined || restoreSavepoint === '') return null;
  const location = locationUri(restoreSavepoint, null);
  if (location !== null) return { kind: 'savepoint', location };
  const text = `--restore-savepoint ${restoreSavepoint} is no s3://, file:/// or full path`;
  throw new TriggerJobError('USAGE', text);
}

function leaseOf({ leaderElection, lease, run }: JobManagerRole): string | null {
  const byLease = leaderElection === 'kubernetes';
  if (byLease && lease !== undefined && run !== undefined) return lease;
  if (!byLease && lease === undefined) return null;
  throw new TriggerJobError(
    'LEADER_ELECTION',
    '--leader-election kubernetes, --lease and --run belong together: give all of them',
  );
}

/** The options of the command. */
export interface TaskManagerRole {
  jobmanager?: string;
  jobmanagerPortFiles?: string[];
  localStateDir: string;
  slots: number;
  slotHeap?: number;
  id?: string;
  shufflePort: number;
  shuffleHost?: string;
  secretFile?: string;
  healthPort?: number;
}

export async function runTaskManagerRole(options: TaskManagerRole): Promise<number> {
  const jobManagers = jobManagersOf(options);
  // First of all: what the threads load takes longer than all else, and runs beside it.
  const { SlotPool } = await import('../taskmanager/slot-pool.ts');
  const pool = new SlotPool(options.slots);
  if (options.slotHeap !== undefined) pool.fill(options.slotHeap);
  const { runTaskManager } = await import('../taskmanager/main.ts');
  await runTaskManager({ ...options, pool, jobManagers });
  return EXIT.ok;
}

function jobManagersOf({ jobmanager, jobmanagerPortFiles }: TaskManagerRole) {
  if (jobmanager !== undefined) {
    const addresses = jobmanager.split(',').map((address) => address.trim());
    return async () => addresses;
  }
  if (jobmanagerPortFiles === undefined) {
    const text = 'a TaskManager needs --jobmanager host:port,... or --jobmanager-port-files';
    throw new TriggerJobError('USAGE', text);
  }
  return () => Promise.all(jobmanagerPortFiles.map(addressIn));
}

async function addressIn(portFile: string): Promise<string> {
  const ports = await awaitPorts(realEnv, portFile, JOB_MANAGER_START_LIMIT_MS);
  if (ports !== null) return `127.0.0.1:${ports.rpcPort}`;
  const limit = `${JOB_MANAGER_START_LIMIT_MS / 1000} s`;
  const text = `no JobManager has written ${portFile} within ${limit}`;
  throw new TriggerJobError('JOBMANAGER_UNREACHABLE', text);
}
