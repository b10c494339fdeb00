/**
 * From the job's store to what the first deployment starts from: takeover, then savepoint, chosen
 * checkpoint, newest checkpoint, or a first start with its initial manifest (P25, P42, P43).
 */
import type { Logger } from 'pino';
import { JobLog } from '../checkpoint/log.ts';
import { readState } from '../checkpoint/log-record.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { OpenOptions } from '../checkpoint/open-store.ts';
import { loadCheckpoint, recoverJob } from '../checkpoint/recover.ts';
import { restoreSavepoint } from '../checkpoint/savepoint.ts';
import type { JobPlan, SourcePlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { Split } from '../source/source.ts';
import { JobJournal } from './job-journal.ts';
import type { Journal, StoredCheckpoint } from './journal.ts';
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
  /** Number of the first deployment. */
  attempt: number;
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
  /** `known`: the splits of the restored checkpoint; the source must still be theirs. */
  openSplits(known: readonly Split[]): SplitBook;
}

export async function findStart(
  request: StartRequest,
): Promise<StartPoint & { splits: SplitBook }> {
  const { env, logger, plan, store, openStore, from, writer } = request;
  const { retained } = plan.checkpointing;
  const log = new JobLog({ store, env, writer, retained });
  const before = await log.readTail();
  if ((from === 'earliest' || from === 'latest') && readState(before).line.length > 0) {
    throw new TriggerJobError(
      'START_OFFSETS_WITH_STATE',
      `--from ${from}: ${store.url} holds checkpoints of this job, and it goes on from the ` +
        'newest; leave --from out, name a checkpoint id, or use another state directory',
    );
  }
  const drawn = before.length === 0 ? await drawLineage(request) : '';
  await log.takeover({ lineage: drawn, restoredFrom: plan.restoreSavepoint });
  const { lineage } = log.state;
  if (lineage === null) throw new TriggerJobError('LOG_CORRUPT', 'the log has no genesis record');
  logger.info({ leaderEpoch: log.leaderEpoch, lineage }, 'took over the log of the job');
  const journal = new JobJournal({ env, logger, log, store, lineage, retained, openStore });
  const chosen = await choose(request, log, journal);
  if (chosen !== null)
    refuseUnfit(plan, chosen.manifest, `checkpoint ${chosen.manifest.checkpointId}`);
  const positions = chosen?.manifest.splits ?? [];
  const splits = request.openSplits(positions.map((position) => position.split));
  const start = chosen ?? (await firstStart(request, log, journal, splits));
  if (chosen !== null) await splits.restore(positions);
  const lastIndex = log.records.at(-1)?.logIndex ?? 0;
  return {
    journal,
    splits,
    checkpoint: start,
    // Every deployment has a record of its own (P42), so no earlier one can have had this number.
    // With the manifest's number plus one, a savepoint of a younger job would repeat attempts.
    attempt: chosen === null ? 1 : lastIndex + 1,
    nextCheckpointId: log.state.nextCheckpointId,
  };
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
): Promise<StoredCheckpoint | null> {
  const { plan, store, from } = request;
  if (typeof from === 'number') return goBack(log, store, from);
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
  if (wanted !== null && (owed !== null || !log.state.usedSavepoints.has(wanted))) {
    const source = await request.openStore(wanted, { readOnly: true });
    const manifest = await admitSavepoint(plan, source);
    if (owed !== null) refuseOtherLineage(manifest, log.state.lineage, source.url);
    const { env } = request;
    return restoreSavepoint({ log, from: source, to: store, env, savepoint: wanted });
  }
  if (recovery.kind !== 'restore') return null;
  return journal.restore('the JobManager started');
}

async function goBack(log: JobLog, store: ObjectStore, id: number): Promise<StoredCheckpoint> {
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
  });
  return { manifest, ref: found.manifest };
}

/** Offsets are resolved once and stored before the first record is read (P25). */
async function firstStart(
  request: StartRequest,
  log: JobLog,
  journal: Journal,
  splits: SplitBook,
): Promise<StoredCheckpoint> {
  const { env, logger, plan, script } = request;
  await splits.resolveFirst();
  const now = env.now();
  const manifest = initialManifest({
    plan,
    parallelism: plan.parallelism,
    lineage: journal.lineage,
    leaderEpoch: journal.leaderEpoch,
    attempt: 1,
    checkpointId: log.state.nextCheckpointId,
    triggeredAt: now,
    completedAt: now,
    splits: splits.positions,
    script,
  });
  logger.info({ splits: splits.positions.length }, 'first start');
  return journal.publish(manifest);
}
