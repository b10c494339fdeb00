/**
 * Records of the job's log (P39) as bytes, and what a log says when read in order. Pure.
 *
 * The **line** is the list of checkpoints that count, oldest first: a `restore` record cuts it back
 * to the checkpoint it names (P42), and what is published later goes on from there. What was cut
 * off never counts again, however new its id.
 */
import { invariant, messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JsonValue } from '../runtime/json.ts';
import { checkObjectRef, Field, FieldFault } from './fields.ts';
import { compareRuns, type EndRecord, type RunOrder } from './run-claim.ts';
import type { AskedParallelism, LogRecord, ObjectRef } from './snapshot.ts';

/**
 * Throws INVARIANT for a record that no reader would take: once created it stays, and ends the job.
 */
export function encodeRecord(record: LogRecord): Buffer {
  const content = Buffer.from(JSON.stringify(record));
  try {
    checkRecord(Field.root(JSON.parse(content.toString()) as JsonValue), record.logIndex);
  } catch (fault) {
    invariant(!(fault instanceof FieldFault), `${record.kind} record: ${messageOf(fault)}`);
    throw fault;
  }
  return content;
}

/** Throws LOG_CORRUPT: an unreadable log starts nothing (P43). */
export function decodeRecord(content: Buffer, logIndex: number): LogRecord {
  try {
    const parsed = JSON.parse(content.toString()) as JsonValue;
    checkRecord(Field.root(parsed), logIndex);
    return parsed as unknown as LogRecord;
  } catch (fault) {
    if (!(fault instanceof FieldFault || fault instanceof SyntaxError)) throw fault;
    const what = `record ${logIndex} of the job's log can't be read: ${messageOf(fault)}`;
    throw new TriggerJobError('LOG_CORRUPT', `${what}. Nothing is started from such a log.`);
  }
}

const KINDS = [
  'genesis',
  'takeover',
  'checkpoint',
  'restore',
  'abort',
  'rescale',
  'end',
  'disposed',
] as const;
/** Of the savepoints that were restored, as many as each record repeats. */
const KEPT_SAVEPOINTS = 16;

function checkRecord(record: Field, logIndex: number): void {
  record.get('logIndex').integer(logIndex, logIndex);
  record.get('leaderEpoch').integer(0);
  record.get('at').amount();
  record.get('writer').text();
  record.get('nonce').text(/./);
  checkWanted(record.get('wantedParallelism'));
  if (!record.get('run').isAbsent) record.get('run').integer(1);
  if (!record.get('jobCreatedAt').isAbsent) record.get('jobCreatedAt').amount();
  if (!record.get('lineage').isAbsent) record.get('lineage').text(/./);
  if (!record.get('restored').isAbsent) {
    for (const savepoint of record.get('restored').items()) savepoint.text(/./);
  }
  const kind = record.get('kind').oneOf(KINDS);
  switch (kind) {
    case 'genesis':
      record.get('lineage').text(/./);
      if (!record.get('restoredFrom').isNull) record.get('restoredFrom').text(/./);
      return;
    case 'takeover':
      checkStart(record.get('start'));
      return;
    case 'disposed':
      record.get('lineage').text(/./);
      checkEnd(record);
      return;
    case 'end':
      checkEnd(record);
      return;
    case 'checkpoint':
      record.get('checkpointId').integer(1);
      checkObjectRef(record.get('manifest'));
      return;
    case 'restore':
      record.get('checkpointId').integer(0);
      if (!record.get('manifest').isNull) checkObjectRef(record.get('manifest'));
      record.get('reason').text();
      if (!record.get('savepoint').isNull) record.get('savepoint').text(/./);
      checkDeployment(record.get('deployment'));
      return;
    case 'abort':
      record.get('checkpointId').integer(1);
      record.get('reason').text();
      return;
    case 'rescale':
      if (record.get('wantedParallelism').isAbsent) record.get('wantedParallelism').fail('there');
  }
}

function checkDeployment(deployment: Field): void {
  if (deployment.isAbsent || deployment.isNull) return;
  deployment.get('attempt').integer(1);
  deployment.get('parallelism').integer(1);
  deployment.get('restarts').integer(0);
}

function checkWanted(wanted: Field): void {
  if (wanted.isAbsent || wanted.isNull) return;
  wanted.get('asked').integer(1);
  wanted.get('planned').integer(1);
}

function checkStart(start: Field): void {
  if (start.isAbsent) return;
  if (start.get('kind').oneOf(['stateless', 'savepoint'] as const) === 'savepoint') {
    start.get('location').text(/./);
  }
}

function checkEnd(record: Field): void {
  record.get('run').integer(1);
  const outcome = record.get('outcome');
  if (outcome.get('kind').oneOf(['finished', 'canceled', 'failed'] as const) === 'failed') {
    outcome.get('code').text();
    outcome.get('message').text();
  }
  const savepoint = record.get('savepoint');
  if (savepoint.isNull) return;
  savepoint.get('checkpointId').integer(1);
  savepoint.get('location').text(/./);
  if (!savepoint.get('triggerId').isNull) savepoint.get('triggerId').text();
}

/** A checkpoint that may be restored. `logIndex`: of the record that made it count. */
export interface Candidate {
  checkpointId: number;
  manifest: ObjectRef;
  logIndex: number;
}

export interface LogState {
  /** null: the genesis is not among the records that were read. */
  lineage: string | null;
  /** Of the last record; 0 for an empty log. */
  leaderEpoch: number;
  /** Checkpoints that count, oldest first. */
  line: readonly Candidate[];
  /**
   * Savepoint that the job or its run begins with, until a `restore` record says that it was taken
   * over (P43).
   */
  owedSavepoint: string | null;
  /** Savepoints that were ever restored: each is used once (P43). */
  usedSavepoints: ReadonlySet<string>;
  /** The newest run; 0 = the log knows of none. */
  run: number;
  /** Of the TriggerJob whose run that is; 0 = not told. */
  jobCreatedAt: number;
  /** The job has ended, and nobody has taken over since. */
  end: EndRecord | null;
  /** Among the records is where all that was before was deleted. */
  renewed: boolean;
  /** Not the one of the log's first record: every record repeats it. */
  repeatsLineage: boolean;
  /** A run began without state: what the line holds is of that run. */
  emptied: boolean;
  aborted: ReadonlySet<number>;
  published: ReadonlySet<number>;
  /** What was last asked for at run time; null = nothing. */
  wantedParallelism: AskedParallelism | null;
  /**
   * The records tell all that `decideRestore` and `nextCheckpointId` need, whatever came before
   * them.
   */
  suffices: boolean;
  /** Above every id that was ever drawn, also by a leader that died before it wrote it down. */
  nextCheckpointId: number;
}

type Reading = Omit<LogState, 'leaderEpoch' | 'suffices' | 'nextCheckpointId'> & {
  line: Candidate[];
  usedSavepoints: Set<string>;
  aborted: Set<number>;
  published: Set<number>;
};

const nothingRead = (): Reading => ({
  lineage: null,
  line: [],
  owedSavepoint: null,
  usedSavepoints: new Set(),
  run: 0,
  jobCreatedAt: 0,
  end: null,
  renewed: false,
  repeatsLineage: false,
  emptied: false,
  aborted: new Set(),
  published: new Set(),
  wantedParallelism: null,
});

/** What the records say, in order. They may be the log's tail. */
export function readState(records: readonly LogRecord[]): LogState {
  const read = nothingRead();
  let highest = 0;
  let hidden = 0;
  for (const record of records) {
    if (record.wantedParallelism !== undefined) read.wantedParallelism = record.wantedParallelism;
    inherit(read, record);
    for (const savepoint of record.restored ?? []) read.usedSavepoints.add(savepoint);
    if ('checkpointId' in record && record.checkpointId > highest) {
      highest = record.checkpointId;
      hidden = 0;
    }
    switch (record.kind) {
      case 'genesis':
        read.lineage = record.lineage;
        read.end = null;
        read.owedSavepoint = record.restoredFrom;
        if (record.restoredFrom !== null) read.usedSavepoints.add(record.restoredFrom);
        break;
      case 'takeover':
        // One at a time (P7): the leader before drew at most one id that no record tells of.
        hidden++;
        begin(read, record);
        break;
      case 'checkpoint':
        read.published.add(record.checkpointId);
        read.line.push(candidate(record.checkpointId, record.manifest, record.logIndex));
        read.owedSavepoint = null;
        break;
      case 'restore':
        read.line = cutBack(read.line, record.checkpointId, record.manifest, record.logIndex);
        read.owedSavepoint = null;
        if (record.savepoint !== null) read.usedSavepoints.add(record.savepoint);
        break;
      case 'abort':
        read.aborted.add(record.checkpointId);
        break;
      case 'end':
        read.end = record;
        break;
      case 'disposed':
        dispose(read, record);
        [highest, hidden] = [0, 0];
    }
    // Its claim was let in, so it is no earlier run than the one before.
    const { run, jobCreatedAt = read.jobCreatedAt } = record;
    if (run !== undefined) Object.assign(read, { run, jobCreatedAt });
  }
  return {
    ...read,
    leaderEpoch: records.at(-1)?.leaderEpoch ?? 0,
    suffices: read.line.length > 0 && read.published.size + read.aborted.size > 0,
    nextCheckpointId: highest + hidden + 1,
  };
}

/** Of a log that has held another job's records before: its first one's lineage was that one's. */
function inherit(read: Reading, { kind, lineage }: LogRecord): void {
  if (kind === 'genesis' || lineage === undefined || lineage === read.lineage) return;
  read.lineage = lineage;
  read.repeatsLineage = true;
  read.usedSavepoints.clear();
}

/** Nothing of what was before counts, but that its tasks may still run (`emptied`). */
function dispose(read: Reading, record: LogRecord & { kind: 'disposed' }): void {
  for (const known of [read.usedSavepoints, read.aborted, read.published]) known.clear();
  const nothing = { line: [], owedSavepoint: null, wantedParallelism: null };
  Object.assign(read, nothing, { end: record, emptied: true, renewed: true });
}

/** A leader begins: with it, maybe, a run. */
function begin(read: Reading, record: LogRecord & { kind: 'takeover' }): void {
  const { run = 0, jobCreatedAt = read.jobCreatedAt } = record;
  read.end = null;
  if (record.start?.kind === 'stateless') {
    read.line = [];
    read.owedSavepoint = null;
    read.emptied = true;
  } else if (record.start !== undefined) {
    read.owedSavepoint = record.start.location;
  } else if (compareRuns({ run, jobCreatedAt }, read) > 0 && read.line.length > 0) {
    // A run that asks for nothing goes on from the newest checkpoint, whatever the one before it
    // asked for in vain. With no checkpoint there is nothing else to go on from (I6).
    read.owedSavepoint = null;
  }
}

/** What each record repeats of those before it, so that any tail of the log tells it. */
export function repeated(
  state: LogState,
  own: RunOrder | null,
): Pick<LogRecord, 'wantedParallelism' | 'run' | 'jobCreatedAt' | 'lineage' | 'restored'> {
  const { wantedParallelism, usedSavepoints, lineage, renewed, repeatsLineage } = state;
  const { run, jobCreatedAt } = own ?? state;
  const other = lineage !== null && (renewed || repeatsLineage);
  return {
    ...(wantedParallelism && { wantedParallelism }),
    ...(run > 0 && { run }),
    ...(jobCreatedAt > 0 && { jobCreatedAt }),
    ...(other && { lineage }),
    ...(usedSavepoints.size > 0 && { restored: [...usedSavepoints].slice(-KEPT_SAVEPOINTS) }),
  };
}

function candidate(checkpointId: number, manifest: ObjectRef, logIndex: number): Candidate {
  return { checkpointId, manifest, logIndex };
}

function cutBack(
  line: Candidate[],
  checkpointId: number,
  manifest: ObjectRef | null,
  logIndex: number,
): Candidate[] {
  if (manifest === null) return [];
  const at = line.findIndex((known) => known.manifest.name === manifest.name);
  if (at >= 0) return line.slice(0, at + 1);
  return [candidate(checkpointId, manifest, logIndex)];
}

export type RestoreDecision =
  /** The log says, positively, that there is nothing to restore. */
  | { kind: 'fresh' }
  /** The job begins with this savepoint, which is yet to be taken over (`restoreSavepoint`). */
  | { kind: 'savepoint'; savepoint: string }
  /** `older`: what to fall back to, newest first. */
  | ({ kind: 'restore'; older: readonly Candidate[] } & Candidate);

/**
 * What the next start restores. Only after the caller's own record ended the log (P42), so
 * `records` is never empty. A tail of the log will do if a checkpoint is in it; 'fresh' needs the
 * whole log (I6).
 */
export function decideRestore(records: readonly LogRecord[]): RestoreDecision {
  const { line, owedSavepoint, emptied } = readState(records);
  if (owedSavepoint !== null) return { kind: 'savepoint', savepoint: owedSavepoint };
  const newest = line.at(-1);
  if (newest !== undefined) {
    return { kind: 'restore', ...newest, older: line.slice(0, -1).reverse() };
  }
  const whole = records.length > 0 && records.every((record, i) => record.logIndex === i);
  const cut = records.some((record) => record.kind === 'restore' && record.manifest === null);
  invariant(whole || emptied || cut, 'only the whole log can say that there is nothing to restore');
  return { kind: 'fresh' };
}
