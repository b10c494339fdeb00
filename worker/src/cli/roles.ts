/**
 * The roles of a cluster as commands; the only place where cli/ touches them. Each loads only its
 * own modules: the JobManager's cost a TaskManager half a second before it can register.
 */
import { isRetryable, messageOf, TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';

export async function runJobManagerRole(options: {
  plan: string;
  planJson?: string;
  store: string;
  rpcPort: number;
  restPort: number;
  from?: string;
  portFile?: string;
  secretFile?: string;
}): Promise<number> {
  const { runJobManager } = await import('../jobmanager/main.ts');
  try {
    await runJobManager({
      planFile: options.plan,
      planJson: options.planJson ?? null,
      storeUrl: options.store,
      rpcPort: options.rpcPort,
      restPort: options.restPort,
      from: options.from ?? null,
      portFile: options.portFile ?? null,
      secretFile: options.secretFile ?? null,
    });
  } catch (thrown) {
    // The job has not failed because its store, for example, does not answer just now.
    if (isRetryable(thrown)) throw new TriggerJobError('START_AGAIN', messageOf(thrown));
    throw thrown;
  }
  return Number(process.exitCode ?? EXIT.ok);
}

export async function runTaskManagerRole(options: {
  jobmanager: string;
  localStateDir: string;
  slots: number;
  id?: string;
  shufflePort: number;
  shuffleHost?: string;
  secretFile?: string;
}): Promise<number> {
  const { runTaskManager } = await import('../taskmanager/main.ts');
  await runTaskManager(options);
  return EXIT.ok;
}
