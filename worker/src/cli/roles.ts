/**
 * The roles of a cluster as commands; the only place where cli/ touches them. Each loads only its
 * own modules: the JobManager's cost a TaskManager half a second before it can register.
 */
import type { RunStart } from '../checkpoint/snapshot.ts';
import { locationUri } from '../plan/locations.ts';
import { isRetryable, messageOf, TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';

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
  jobmanager: string;
  localStateDir: string;
  slots: number;
  id?: string;
  shufflePort: number;
  shuffleHost?: string;
  secretFile?: string;
  healthPort?: number;
}

export async function runTaskManagerRole(options: TaskManagerRole): Promise<number> {
  const { runTaskManager } = await import('../taskmanager/main.ts');
  await runTaskManager(options);
  return EXIT.ok;
}
