/**
 * From the job's store to what the first deployment starts from: takeover, then savepoint, chosen
 * checkpoint, newest checkpoint, or a first start with its initial manifest (P25, P42, P43).
 */
import type { Logger } from 'pino';
import { JobLog } from '../checkpoint/log.ts';
import { type LogState, readState } from '../checkpoint/log-record.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { OpenOptions } from '../checkpoint/open-store.ts';
import { leaderPath } from '../checkpoint/paths.ts';
import { loadCheckpoint, recoverJob } from '../checkpoint/recover.ts';
import { compareRuns, orderOf, type RunClaim } from '../checkpoint/run-claim.ts';
import { restoreSavepoint } from '../checkpoint/savepoint.ts';
import type { LogRecord, Manifest, RecordedDeployment } from '../checkpoint/snapshot.ts';
import type { JobPlan, SourcePlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { Split } from '../source/source.ts';
import { JobJournal } from './job-journal.ts';
import type { Journal, StoredCheckpoint } from './journal.ts';
import { readSign } from './lease.ts';
import { initialManifest } from './manifest-of.ts';
import { admitSavepoint, refuseOtherLineage, refuseUnfit } from './savepoint-admission.ts';
import type { SplitBook } from './split-book.ts';

/**
 * `earliest`, `latest`: where a first start begins. A number: the retained checkpoint to go back
 * to.
 */
export type StartFrom = 'earliest' | 'latest' | number | null;

/** The source with `--from earliest|latest` in place of its startingOffsets. */
export function startingSource(source: SourcePlan, from: StartFrom): SourcePlan {
  if (from !== 'earliest' && from !== 'latest') return source;
  if (source.kind === 'kafka') return { ...source, startingOffsets: { kind: from } };
  if (from === 'earliest') return source;
  throw new TriggerJobError(
    'START_OFFSETS_UNSUPPORTED',
    `--from latest: a ${source.kind} source has only one beginning; leave --from out`,
  );
}

export interface StartPoint {
  journal: Journal;
  checkpoint: StoredCheckpoint;
  /** Number of the first deployment, or of the one to adopt. */
  attempt: number;
  restarts: number;
  /**
   * An attempt that may still be running (P45); then `checkpoint` is the newest one, and no
   * `restore` record of this leader names it yet.
   */
  reattach: boolean;
  nextCheckpointId: number;
}

export interface StartRequest {
  env: Env;
  logger: Logger;
  plan: JobPlan;
  store: ObjectStore;
  openStore(url: string, options?: Pick<OpenOptions, 'readOnly'>): Promise<ObjectStore>;
  /** Names this process in the log, for people. */
  writer: string;
  from: StartFrom;
  script: ScriptVersion;
  /** Epoch whose leader is known to be gone; null: whoever leads is succeeded. */
  after: number | null;
  /** null: not deployed by the operator. */
  run: RunClaim | null;
  /** The epoch is claimed; what to do with it is yet to be found. */
  onLeading(leaderEpoch: number, confirm: () => Promise<void>): Promise<void>;
  /** `known`: the splits of the restored checkpoint; the source must still be theirs. */
  openSplits(known: readonly Split[]): SplitBook;
}

export async function findStart(
  request: StartRequest,
): Promise<StartPoint & { splits: SplitBook }> {
  const { env, logger, store, openStore, from, writer, run } = request;
  const { retained } = request.plan.checkpointing;
  const log = new JobLog({ store, env, writer, retained, run });
  const before = await log.readTail();
  if ((from === 'earliest' || from === 'latest') && readState(before).line.length > 0) {
    throw new TriggerJobError(
      'START_OFFSETS_WITH_STATE',
      `--from ${from}: ${store.url} holds checkpoints of this job, and it goes on from the ` +
        'newest; leave --from out, name a checkpoint id, or use another state directory',
    );
  }
  const known = readState(before);
  const plan = await planOfStart(request, log, before, known);
  const ended = known.end !== null || (await endedBefore(store, known.leaderEpoch));
  const begins = before.length === 0 || known.end?.kind === 'disposed';
  const genesis = begins
    ? { lineage: await drawLineage({ ...request, plan }), restoredFrom: plan.restoreSavepoint }
    : null;
  await log.takeover(genesis, request.after);
  await request.onLeading(log.leaderEpoch, () => log.confirmEnd());
  const { lineage } = log.state;
  if (lineage === null) throw new TriggerJobError('LOG_CORRUPT', 'the log has no genesis record');
  logger.info({ leaderEpoch: log.leaderEpoch, lineage }, 'took over the log of the job');
  const options = { env, logger, log, store, lineage, retained, openStore };
  const journal = new JobJournal({ ...options, run: run?.number ?? null });
  const running = ended ? null : await maybeRunning({ ...request, plan }, log);
  if (running !== null) await journal.knowRetained();
  // Every deployment has a record of its own (P42), so no earlier one can have had this number.
  // With the manifest's number plus one, a savepoint of a younger job would repeat attempts.
  const next = (log.records.at(-1)?.logIndex ?? 0) + 2;
  const deployment = { attempt: next, parallelism: plan.parallelism, restarts: 0 };
  const chosen =
    running?.checkpoint ?? (await choose({ ...request, plan }, log, journal, deployment));
  if (chosen !== null)
    refuseUnfit(plan, chosen.manifest, `checkpoint ${chosen.manifest.checkpointId}`);
  const positions = chosen?.manifest.splits ?? [];
  const splits = request.openSplits(positions.map((position) => position.split));
  // Tasks of a state that was given up may still run: their attempts were others.
  const fresh = chosen === null && !log.state.emptied;
  const { attempt, restarts } = running ?? (fresh ? { attempt: 1, restarts: 0 } : deployment);
  const start = chosen ?? (await firstStart(request, log, journal, splits, attempt));
  if (chosen !== null) await splits.restore(positions);
  return {
    journal,
    splits,
    checkpoint: start,
    attempt,
    restarts,
    reattach: running !== null,
    nextCheckpointId: log.state.nextCheckpointId,
  };
}

/**
 * The plan with the savepoint that this start restores, if any, in place of `restore.savepoint`:
 * the one that its run begins with, unless an earlier leader of the run has begun it; else the
 * spec's, unless it was used (P43).
 */
async function planOfStart(
  { plan, run, openStore }: StartRequest,
  log: JobLog,
  tail: readonly LogRecord[],
  state: LogState,
): Promise<JobPlan> {
  const { usedSavepoints, owedSavepoint } = state;
  const order = run === null ? 0 : compareRuns(orderOf(run), state);
  const start = run !== null && order > 0 ? run.start : null;
  const wanted = plan.restoreSavepoint;
  let unused = wanted !== null && !usedSavepoints.has(wanted);
  // Records of older releases do not repeat what was restored before the tail.
  const told = tail.length < 2 || tail[1]?.logIndex === 1 || tail.at(-1)?.restored !== undefined;
  if (unused && !told) unused = !readState(await log.readAll()).usedSavepoints.has(wanted ?? '');
  if (start === null) {
    // What is owed to the run comes before what only stands in the spec.
    const owed = run !== null && order === 0 && owedSavepoint !== null;
    return { ...plan, restoreSavepoint: unused && !owed ? wanted : null };
  }
  if (unused && !(start.kind === 'savepoint' && start.location === wanted)) {
    throw new TriggerJobError(
      'START_CONFLICT',
      `run ${run?.number} begins otherwise, but spec.restore.savepoint names ${wanted}, which ` +
        'this job has not restored yet: choose one',
    );
  }
  if (start.kind === 'stateless') return { ...plan, restoreSavepoint: null };
  // Before it is claimed: an unfit one must not be owed from then on.
  await admitSavepoint(plan, await openStore(start.location, { readOnly: true }));
  return { ...plan, restoreSavepoint: start.location };
}

/** A job that was ended left no task behind. What can't be read is no such sign: they are asked. */
async function endedBefore(store: ObjectStore, leaderEpoch: number): Promise<boolean> {
  if (leaderEpoch === 0) return false;
  const content = await store.get(leaderPath(leaderEpoch)).catch(() => null);
  return readSign(content?.toString() ?? null)?.end != null;
}

/** The attempt that the log says was deployed last, if this start asks for nothing else. */
async function maybeRunning(
  { plan, store, from }: StartRequest,
  log: JobLog,
): Promise<{ checkpoint: StoredCheckpoint; attempt: number; restarts: number } | null> {
  const { line, owedSavepoint } = log.state;
  if (from !== null || owedSavepoint !== null || plan.restoreSavepoint !== null) return null;
  const newest = line.at(-1);
  if (newest === undefined) return null;
  let manifest: Manifest;
  try {
    manifest = await loadCheckpoint(store, newest.manifest, 'manifest');
  } catch (error) {
    // Damaged: then the tasks are not adopted on it, and `choose` passes it over.
    if (error instanceof TriggerJobError && !error.retryable) return null;
    throw error;
  }
  const checkpoint = { manifest, ref: newest.manifest };
  const restore = log.records.findLast((record) => record.kind === 'restore');
  const deployed = restore?.deployment ?? null;
  const restarts = deployed?.restarts ?? 0;
  // A checkpoint after the last deployment is that deployment's own.
  if (restore === undefined || restore.logIndex < newest.logIndex) {
    return { checkpoint, attempt: manifest.attempt, restarts };
  }
  return deployed === null ? null : { checkpoint, attempt: deployed.attempt, restarts };
}

async function drawLineage(request: StartRequest): Promise<string> {
  const { env, plan, openStore } = request;
  if (plan.restoreSavepoint === null) return env.id();
  // P30: the ids of deliveries go on where the savepoint's job left off.
  // And before anything is written: an unfit savepoint leaves no trace of this start.
  const source = await openStore(plan.restoreSavepoint, { readOnly: true });
  return (await admitSavepoint(plan, source)).lineage;
}

/** null: a first start. Afterwards the log's end is a `restore` record of this leader. */
async function choose(
  request: StartRequest,
  log: JobLog,
  journal: Journal,
  deployment: RecordedDeployment,
): Promise<StoredCheckpoint | null> {
  const { plan, store, from } = request;
  if (typeof from === 'number') return goBack(log, store, from, deployment);
  const recovery = await recoverJob({
    log,
    store,
    retained: plan.checkpointing.retained,
    verify: 'manifest',
  });
  // An owed one was never restored, so the spec may name another one by now.
  const owed = recovery.kind === 'savepoint' ? recovery.savepoint : null;
  const wanted = plan.restoreSavepoint ?? owed;
  // P43: used once, however often the job starts with this spec.
  if (wanted !== null) {
    const source = await request.openStore(wanted, { readOnly: true });
    const manifest = await admitSavepoint(plan, source);
    // A run of a job that has state may begin with another job's, as the spec may ask for.
    if (owed !== null && log.state.line.length === 0)
      refuseOtherLineage(manifest, log.state.lineage, source.url);
    const { env } = request;
    return restoreSavepoint({ log, from: source, to: store, env, savepoint: wanted, deployment });
  }
  if (recovery.kind !== 'restore') return null;
  return journal.restore('the JobManager started', deployment);
}

async function goBack(
  log: JobLog,
  store: ObjectStore,
  id: number,
  deployment: RecordedDeployment,
): Promise<StoredCheckpoint> {
  const { line } = log.state;
  const found = line.find((candidate) => candidate.checkpointId === id);
  if (found === undefined) {
    const known = line.map((candidate) => candidate.checkpointId).join(', ');
    throw new TriggerJobError(
      'CHECKPOINT_NOT_FOUND',
      `--from ${id}: no such checkpoint of this job; ` +
        `the log names ${known === '' ? 'none' : known}`,
    );
  }
  const manifest = await loadCheckpoint(store, found.manifest, 'manifest');
  const reason = `--from ${id}`;
  await log.append({
    kind: 'restore',
    checkpointId: id,
    manifest: found.manifest,
    reason,
    savepoint: null,
    deployment,
  });
  return { manifest, ref: found.manifest };
}

/** Offsets are resolved once and stored before the first record is read (P25). */
async function firstStart(
  request: StartRequest,
  log: JobLog,
  journal: Journal,
  splits: SplitBook,
  attempt: number,
): Promise<StoredCheckpoint> {
  const { env, logger, plan, script } = request;
  await splits.resolveFirst();
  const now = env.now();
  const manifest = initialManifest({
    plan,
    parallelism: plan.parallelism,
    lineage: journal.lineage,
    leaderEpoch: journal.leaderEpoch,
    attempt,
    checkpointId: log.state.nextCheckpointId,
    triggeredAt: now,
    completedAt: now,
    splits: splits.positions,
    script,
  });
  logger.info({ splits: splits.positions.length }, 'first start');
  return journal.publish(manifest);
}
