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
import type { AskedParallelism, LogRecord, ObjectRef } from './snapshot.ts';

export function encodeRecord(record: LogRecord): Buffer {
  return Buffer.from(JSON.stringify(record));
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

const KINDS = ['genesis', 'takeover', 'checkpoint', 'restore', 'abort', 'rescale'] as const;

function checkRecord(record: Field, logIndex: number): void {
  record.get('logIndex').integer(logIndex, logIndex);
  record.get('leaderEpoch').integer(0);
  record.get('at').amount();
  record.get('writer').text();
  record.get('nonce').text(/./);
  checkWanted(record.get('wantedParallelism'));
  const kind = record.get('kind').oneOf(KINDS);
  switch (kind) {
    case 'genesis':
      record.get('lineage').text(/./);
      if (!record.get('restoredFrom').isNull) record.get('restoredFrom').text(/./);
      return;
    case 'takeover':
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
      return;
    case 'abort':
      record.get('checkpointId').integer(1);
      record.get('reason').text();
      return;
    case 'rescale':
      if (record.get('wantedParallelism').isAbsent) record.get('wantedParallelism').fail('there');
  }
}

function checkWanted(wanted: Field): void {
  if (wanted.isAbsent || wanted.isNull) return;
  wanted.get('asked').integer(1);
  wanted.get('planned').integer(1);
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
   * Savepoint that the job begins with, until its `restore` record says that it was taken over
   * (P43).
   */
  owedSavepoint: string | null;
  /** All savepoints that were ever restored: each is used once (P43). */
  usedSavepoints: ReadonlySet<string>;
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

/** What the records say, in order. They may be the log's tail. */
export function readState(records: readonly LogRecord[]): LogState {
  let lineage: string | null = null;
  let line: Candidate[] = [];
  let owedSavepoint: string | null = null;
  const usedSavepoints = new Set<string>();
  const aborted = new Set<number>();
  const published = new Set<number>();
  let wantedParallelism: AskedParallelism | null = null;
  let highest = 0;
  let hidden = 0;
  for (const record of records) {
    if (record.wantedParallelism !== undefined) wantedParallelism = record.wantedParallelism;
    if ('checkpointId' in record && record.checkpointId > highest) {
      highest = record.checkpointId;
      hidden = 0;
    }
    switch (record.kind) {
      case 'genesis':
        lineage = record.lineage;
        owedSavepoint = record.restoredFrom;
        if (owedSavepoint !== null) usedSavepoints.add(owedSavepoint);
        break;
      case 'takeover':
        // One at a time (P7): the leader before drew at most one id that no record tells of.
        hidden++;
        break;
      case 'checkpoint':
        published.add(record.checkpointId);
        line.push(candidate(record.checkpointId, record.manifest, record.logIndex));
        owedSavepoint = null;
        break;
      case 'restore':
        line = cutBack(line, record.checkpointId, record.manifest, record.logIndex);
        owedSavepoint = null;
        if (record.savepoint !== null) usedSavepoints.add(record.savepoint);
        break;
      case 'abort':
        aborted.add(record.checkpointId);
    }
  }
  const leaderEpoch = records.at(-1)?.leaderEpoch ?? 0;
  const nextCheckpointId = highest + hidden + 1;
  return {
    lineage,
    leaderEpoch,
    line,
    owedSavepoint,
    usedSavepoints,
    aborted,
    published,
    wantedParallelism,
    suffices: line.length > 0 && published.size + aborted.size > 0,
    nextCheckpointId,
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
  const { line, owedSavepoint } = readState(records);
  const newest = line.at(-1);
  if (newest !== undefined) {
    return { kind: 'restore', ...newest, older: line.slice(0, -1).reverse() };
  }
  const whole = records.length > 0 && records.every((record, i) => record.logIndex === i);
  const emptied = records.some((record) => record.kind === 'restore' && record.manifest === null);
  invariant(whole || emptied, 'only the whole log can say that there is nothing to restore');
  return owedSavepoint === null
    ? { kind: 'fresh' }
    : { kind: 'savepoint', savepoint: owedSavepoint };
}
