/** Deletes all that a job has stored, for whichever JobManager of its run is asked. */
import { type DisposalReport, disposeJob } from '../checkpoint/disposal.ts';
import type { RunClaim } from '../checkpoint/run-claim.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JobManagerOptions } from './jobmanager-options.ts';

export type DisposalDeps = Pick<JobManagerOptions, 'env' | 'plan' | 'store' | 'openStore' | 'run'>;

/** Only once the job has ended: its tasks write into what is deleted here. */
export async function disposeStored(deps: DisposalDeps): Promise<DisposalReport> {
  const { env, plan, store, openStore } = deps;
  return disposeJob({
    env,
    store,
    openStore,
    run: runOf(deps),
    writer: 'the deletion of the job',
    savepointDirectory: plan.savepointDirectory,
  });
}

/** Throws RUN_MISSING; before the job is ended for it. */
export function runOf({ run = null, store }: Pick<DisposalDeps, 'run' | 'store'>): RunClaim {
  if (run !== null) return run;
  const text = `only the operator's jobs are disposed of so; delete ${store.url} once nothing runs`;
  throw new TriggerJobError('RUN_MISSING', text);
}
