/**
 * Runs: the operator's deployments of a job, and which of them may begin. A run comes after another
 * one by its number, or since its TriggerJob was created later: one that is made again under the
 * name of a deleted one counts anew. Pure.
 */
import { TriggerJobError } from '../runtime/errors.ts';
import type { LogState } from './log-record.ts';
import type { LogRecord, RunStart } from './snapshot.ts';

/** A run, from 1, and what its first leader begins with; null = the newest checkpoint. */
export interface RunClaim {
  number: number;
  start: RunStart | null;
  /** When its TriggerJob was created, ms. Left out: not told. */
  jobCreatedAt?: number;
  /** No run before this one is known to have stored anything: an empty log is no loss. */
  first?: boolean;
}

/** The end of a run, or of everything. */
export type EndRecord = LogRecord & { kind: 'end' | 'disposed' };

/** A run among all those of all TriggerJobs that the folder has had. */
export interface RunOrder {
  run: number;
  /** 0 = not told. */
  jobCreatedAt: number;
}

/**
 * Below 0: `a` comes before `b`. Where one of them does not tell when its TriggerJob was created,
 * as releases before that did not, both are taken for one TriggerJob's: else every upgrade would
 * make a newer run of the one that is under way.
 */
export const compareRuns = (a: RunOrder, b: RunOrder): number => {
  const told = a.jobCreatedAt > 0 && b.jobCreatedAt > 0;
  return (told && a.jobCreatedAt - b.jobCreatedAt) || a.run - b.run;
};

export const orderOf = ({ number, jobCreatedAt = 0 }: RunClaim): RunOrder => ({
  run: number,
  jobCreatedAt,
});

/** Whether this run, or one after it, has ended. */
export const hasEnded = ({ run, jobCreatedAt = 0 }: EndRecord, own: RunClaim): boolean =>
  compareRuns({ run, jobCreatedAt }, orderOf(own)) >= 0;

/** What the first leader of the run claims with it. Throws RUN_ENDED, RUN_SUPERSEDED. */
export function startOfRun(state: LogState, own: RunClaim | null): { start?: RunStart } {
  if (own === null) return {};
  const { end } = state;
  if (end !== null && hasEnded(end, own)) {
    throw new TriggerJobError('RUN_ENDED', `the job has ended in run ${end.run}`);
  }
  refuseSuperseded(state, own);
  const begins = compareRuns(state, orderOf(own)) < 0;
  return begins && own.start !== null ? { start: own.start } : {};
}

export function refuseSuperseded(state: LogState, own: RunClaim | null): void {
  if (own === null || compareRuns(state, orderOf(own)) <= 0) return;
  const text = `run ${state.run} has begun; this process is of run ${own.number}`;
  throw new TriggerJobError('RUN_SUPERSEDED', text);
}

/**
 * I6, before an empty log is begun: a run after the first finds what the ones before it have
 * stored, or does not begin. `storeUrl`: where it looked. Throws STATE_MISSING.
 */
export function refuseLoss(own: RunClaim | null, storeUrl: string): void {
  if (own === null || own.number === 1 || own.start !== null || own.first) return;
  throw new TriggerJobError(
    'STATE_MISSING',
    `run ${own.number} goes on from the newest checkpoint, and ${storeUrl} holds none: if ` +
      'checkpointing.directory, its endpoint or bucket is not that of the run before, put it ' +
      'right; to begin without the state set upgradeMode: stateless, to begin with a savepoint ' +
      'restore.savepoint',
  );
}
