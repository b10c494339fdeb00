/**
 * A job that has ended in this run, for a JobManager that did not lead it then: what the record of
 * its end and its newest checkpoint tell, and a refusal for everything that would change it.
 */
import { decodeManifest } from '../checkpoint/manifest.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { fetchObject } from '../checkpoint/segment-reader.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { CheckpointHistory } from './checkpoint-history.ts';
import { type DisposalDeps, disposeStored } from './job-disposal.ts';
import { JobExceptions } from './job-exceptions.ts';
import { JobSeries } from './job-series.ts';
import { JobTotals } from './job-totals.ts';
import type { JobControl, JobView } from './job-view.ts';
import { planDigest } from './plan-digest.ts';
import type { EndedRun } from './standing.ts';

const STATUS = { finished: 'FINISHED', canceled: 'CANCELED', failed: 'FAILED' } as const;

/** Never rejects for a checkpoint that can't be read: the end is known without it. */
export async function endedJob(deps: DisposalDeps, ended: EndedRun): Promise<JobControl> {
  const { newest } = ended;
  const manifest =
    newest === null
      ? null
      : await fetchObject(deps.store, newest)
          .then((content) => decodeManifest(content, newest.name))
          .catch(() => null);
  return controlOf(viewOfEnd(deps, ended, manifest), () => disposeStored(deps));
}

function controlOf(view: () => JobView, dispose: JobControl['dispose']): JobControl {
  const refuse = () => {
    const fault = new TriggerJobError('JOB_ENDED', `job ${view().jobId} is ${view().status}`);
    return Promise.reject(fault);
  };
  return {
    view,
    inspection: null,
    findSavepoint: (triggerId) => {
      const stop = view().ended?.savepoint ?? null;
      return Promise.resolve(stop?.triggerId === triggerId ? stop : null);
    },
    savepoint: refuse,
    stopWithSavepoint: refuse,
    disposeSavepoint: refuse,
    checkpoint: refuse,
    taskManagerLog: refuse,
    rescale: refuse,
    dispose,
    stop: () => Promise.resolve(),
    cancel: () => Promise.resolve(),
  };
}

function viewOfEnd(
  { env, plan, store }: { env: Env; plan: JobPlan; store: ObjectStore },
  { record, lineage, newest, restarts }: EndedRun,
  manifest: Manifest | null,
): () => JobView {
  const { outcome, savepoint, at } = record;
  const status = STATUS[outcome.kind];
  const totals = new JobTotals();
  const series = new JobSeries();
  const exceptions = new JobExceptions();
  if (outcome.kind === 'failed') {
    const { code, message } = outcome;
    exceptions.add({ at, code, message, subtask: null, taskManagerId: null, attempt: 0 });
  }
  const checkpoints = new CheckpointHistory();
  if (manifest !== null && newest !== null) {
    checkpoints.inherit(manifest, newest.name, savepoint?.location ?? null);
  }
  const version = manifest?.script?.version ?? '';
  const digest = planDigest(plan);
  return () => ({
    jobId: lineage.slice(0, 32),
    lineage,
    leaderEpoch: record.leaderEpoch,
    status,
    startedAt: at,
    enteredAt: (asked) => (asked === status ? at : 0),
    terminal: true,
    now: env.now(),
    plan,
    planDigest: digest,
    run: record.run,
    ended: { outcome, savepoint },
    storeUrl: store.url,
    attempt: manifest?.attempt ?? 0,
    parallelism: manifest?.parallelism ?? plan.parallelism,
    scaling: { wanted: plan.parallelism, rescales: 0, events: [] },
    restarts,
    replacements: { running: false, done: 0, givenUp: 0 },
    tasks: [],
    taskManagers: [],
    checkpoints,
    exceptions: exceptions.list(),
    counters: totals.counters(),
    tallies: totals.tallies(),
    histograms: totals.histograms(),
    series,
    gauges: totals.gauges(),
    eventsPerSecond: 0,
    lag: null,
    subtasks: [],
    ratesOf: () => null,
    filter: { version, wanted: version, refused: null, refusedVersion: null },
    bounds: {},
    splits: { total: manifest?.splits.length ?? 0, held: 0, expiredHolds: 0 },
  });
}
